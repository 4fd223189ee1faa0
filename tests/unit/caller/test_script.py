from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from relay.caller.catalogue import EVERYDAY, SCRIPTS, built_in, find, script_names
from relay.caller.phrasebook import Phrasebook
from relay.caller.script import (
    Backchannel,
    BargeIn,
    Expected,
    HangUp,
    Hesitate,
    Network,
    Pause,
    Recording,
    Say,
    Script,
    ScriptError,
    Silence,
    TalkOver,
    Text,
    WaitForAnswer,
)
from relay.caller.script_file import BYTES_MAX, parse, read
from relay.speech import load
from relay.speech.clip import RATE
from voice.errors import TURN_ERRORS


def test_a_script_is_read_from_yaml() -> None:
    script = parse(
        """
        title: Someone in a hurry
        seed: 7
        agent: {think_ms: 60, barge_in_ms: 0.5}
        expect: [{turn: 2, error: talk_over}]
        steps:
          - say: user_bill
          - say: [user_hours, {pause: 700}, {text: at night, voice: en-gb+m1}, {wav: mine.wav}]
          - say: {text: "five [[300]] six"}
          - hesitate: {ms: [200, 400], say: filler_um}
          - barge_in: 400
          - barge_in: {after_ms: [700, 900], say: interrupt_hold}
          - backchannel
          - talk_over: {after_ms: 300, for_ms: 2000}
          - pause: [100, 200.5]
          - wait_for_answer: 1
          - network: lte-edge
          - network: {profile: hotel-wifi, at_ms: 5000}
          - hang_up
        """,
        name="hurry",
        folder=Path("/somewhere"),
    )
    assert script == Script(
        "hurry",
        (
            Say("user_bill"),
            Say(("user_hours", Silence(700), Text("at night", "en-gb+m1"), Recording("/somewhere/mine.wav"))),
            Say(Text("five [[300]] six")),
            Hesitate(200, 400, "filler_um"),
            BargeIn(400),
            BargeIn(700, 900, "interrupt_hold"),
            Backchannel(),
            TalkOver(300, for_ms=2000),
            Pause(100, 200.5),
            WaitForAnswer(1),
            Network("lte-edge"),
            Network("hotel-wifi", 5000),
            HangUp(),
        ),
        loop=False,
        title="Someone in a hurry",
        expect=(Expected(2, "talk_over"),),
        agent={"think_ms": 60.0, "barge_in_ms": 0.5},
        seed=7,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("steps:\n  - [", "talk.yaml:2: this is not YAML"),
        ("\x00", "not YAML that can be read"),
        ("[" * 20_000, "not YAML that can be read"),
        ("", "empty"),
        ("title: nothing", "no `steps`"),
        ("steps: []", "talk.yaml:1: `steps` is empty"),
        ("steps:\n  - say\n  - sing", "talk.yaml:3: there is no step 'sing'"),
        ("steps:\n  - say\n  - 3", "talk.yaml:3: `a step` must be a text"),
        ("steps:\n  - {say: user_bill, loud: true}", "talk.yaml:2: a step is one name"),
        ("steps:\n  - say: {loud: true}", "say has no `loud`"),
        ("steps:\n  - say: 3", "`a clip` must be a text"),
        ("steps:\n  - pause: long", "talk.yaml:2: `ms` must be a number"),
        ("steps:\n  - pause: true", "`ms` must be a number"),
        ("steps:\n  - pause: 0o17", "must be a"),
        ("steps:\n  - pause: -1", "0 … 600000"),
        ("steps:\n  - pause: .nan", "must be a number"),
        ("steps:\n  - pause: [300, 100]", "lower and an upper bound"),
        ("steps: [pause]", "pause needs `ms`"),
        ("steps: [hang_up: now]", "takes no value"),
        ("steps:\n  - network: moon", "talk.yaml:2: there is no network 'moon'; there are perfect"),
        ("steps:\n  - say: {text: hi, voice: -w}", "no voice of espeak-ng"),
        ("steps:\n  - say: {wav: a.wav, text: b}", "one of clip, text"),
        ("steps:\n  - say: {pause: 100}", "use the step `pause`"),
        ("steps:\n  - say: [user_bill, {pause: 100}]", "begins and ends with speech"),
        ("steps:\n  - say: ['user_*', user_bill]", "give one clip's name"),
        ("steps:\n  - say: user_nobody", "talk.yaml:2: no clip fits 'user_nobody'; there are agent_bill"),
        ("steps:\n  - say: [user_bill, {clip: nobody}]", "talk.yaml:2: no clip fits 'nobody'"),
        ("steps:\n  - barge_in: {say: 'shout_*'}", "talk.yaml:2: no clip fits 'shout_*'"),
        ("steps: &all [say]", "anchors"),
        ("steps: [say]\nsteps: [say]", "talk.yaml:2: `steps` is given twice"),
        ("steps: [say]\nloop: often", "talk.yaml:2: `loop` must be true or false"),
        ("steps: [say]\nseed: -3", "`seed` must lie within"),
        ("steps: [say]\nexpect: [{turn: 1, error: sneeze}]", "talk.yaml:2: there is no error 'sneeze'"),
        ("steps: [say]\nexpect: [{turn: 1}]", "has `turn` and `error`"),
        ("steps: [say]\nexpect: [{turn: 0, error: talk_over}]", "from 1"),
        ("steps: [say]\nloop: true\nexpect: [{turn: 1, error: talk_over}]", "needs loop: false"),
        ("steps: [say]\nagent: {mood: 3}", "agent has no `mood`"),
        ("steps: [" + "say, " * 501 + "]", "501 entries"),
        ("# " + "x" * BYTES_MAX, "longer than"),
    ],
)
def test_a_wrong_script_is_refused_with_the_line_and_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ScriptError, match=complaint.replace("[", r"\[").replace("*", r"\*")):
        parse(text, where="talk.yaml")


def test_a_file_that_is_not_there_or_not_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"nowhere\.yaml"):
        find(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScriptError, match="UTF-8"):
        read(tmp_path / "binary.yaml")
    (tmp_path / "own.yaml").write_text("steps: [hang_up]")
    assert find(str(tmp_path / "own.yaml")) == Script("own", (HangUp(),), loop=False)
    with pytest.raises(ScriptError, match="simple"):
        built_in("nobody")


def test_shipped_scripts_can_be_said_and_tell_what_they_are_for() -> None:
    phrasebook = Phrasebook()
    names = script_names()
    assert sorted(names) == sorted(path.stem for path in SCRIPTS.iterdir())
    assert names[: len(EVERYDAY)] == EVERYDAY
    assert len(names) >= 20
    for name in names:
        script = built_in(name)
        phrasebook.prepare(script)
        assert script.title
        assert script.loop == (name in EVERYDAY)
        assert script.loop or isinstance(script.steps[-1], HangUp)
        assert not (name.startswith("clean") and script.expect)


def test_shipped_scripts_provoke_every_error_that_the_platform_reports() -> None:
    assert {expected.error for name in script_names() for expected in built_in(name).expect} == set(TURN_ERRORS)


def test_the_guide_lists_the_library_as_it_is() -> None:
    guide = (Path(__file__).parents[3] / "docs/callers.md").read_text()
    for name in script_names():
        script = built_in(name)
        provoked = ", ".join(f"`{one.error}` ({one.turn})" for one in script.expect) or "nothing"
        assert f"| `{name}` | {script.title} | {provoked} |" in guide


def test_a_pause_within_an_utterance_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "mine.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((6000 * np.sin(np.arange(RATE) / 10)).astype("<i2").tobytes())
    said = Phrasebook().choose(("user_hours", Silence(700), Recording(str(path))), np.random.default_rng(1))
    first = len(load("user_hours").pcm)
    assert said.spans[0] == (0, first)
    assert said.spans[1][0] == first + 700 * RATE // 1000
    assert said.clip == "user_hours [[700]] mine"


def test_hesitant_questions_come_only_when_asked_for() -> None:
    phrasebook, rng = Phrasebook(), np.random.default_rng(1)
    plain = {phrasebook.choose("user_*", rng).clip for _ in range(200)}
    assert len(plain) >= 8
    assert not any(name.startswith("user_pause_") for name in plain)
    assert all(phrasebook.choose("user_pause_*", rng).clip.startswith("user_pause_") for _ in range(20))


def test_a_script_that_names_no_clip_is_refused_before_the_call() -> None:
    with pytest.raises(ScriptError, match="user_nobody"):
        Phrasebook().prepare(Script("wrong", (Say("user_nobody"),)))


def test_the_same_seed_says_the_same() -> None:
    def said(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [Phrasebook().choose("user_*", rng).clip for _ in range(20)]

    assert said(3) == said(3) != said(4)
