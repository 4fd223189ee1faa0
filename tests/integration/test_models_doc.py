"""The example of docs/models.md is a model of under 50 lines that holds a call."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.models import ModelConfig, ModelError, create
from tests.integration.transceiver_tools import Client, question, until, world

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.fixture(autouse=True)
def whistle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "whistle.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return str(code)


async def test_example_answers_a_call(tmp_path: Path, whistle: str) -> None:
    assert len(whistle.splitlines()) < 50
    client = Client()
    async with world(tmp_path, model=ModelConfig("whistle:Whistle")) as made:
        await made.call(client, consent="audio")
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_stopped" in client.turns())
        await until(client.hears_voice)
        await client.close()
        await until(lambda: made.transceiver.sessions == 0)
    turns = [row for row in await made.facts("turn", client.session_id) if row["turn_id"] == 1]
    assert {"model_first_token", "model_first_audio", "agent_audio_started"} <= {row["kind"] for row in turns}
    assert next(row for row in turns if row["kind"] == "agent_audio_stopped")["reason"] == "completed"
    words = [row["payload"] for row in await made.facts("input") if row["kind"] == "agent_text"]
    assert words == [b'{"text": "a whistle of 220 Hz"}']


@pytest.mark.parametrize("name", ["whistle:Trumpet", "no_such_module:Model", "whistle:np"])
def test_class_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        create(ModelConfig(name), 0)


def test_class_that_wants_what_is_not_there_is_named(tmp_path: Path) -> None:
    code = "import os\nclass Keyed:\n    def __init__(self): self.key = os.environ['NO_SUCH_KEY']\n"
    (tmp_path / "keyed.py").write_text(code)
    with pytest.raises(ModelError, match=r"keyed:Keyed cannot be made: KeyError: 'NO_SUCH_KEY'"):
        create(ModelConfig("keyed:Keyed"), 0)
