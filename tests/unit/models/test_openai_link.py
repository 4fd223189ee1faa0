from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from relay.models import openai_link
from relay.models.openai_link import QUEUE_MAX, Endpoint, Link


def link_to(url: str, lost: list[str] | None = None) -> Link:
    return Link(Endpoint(url, None), lambda _again: [], lambda _event: None, (lost if lost is not None else []).append)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_voice_that_cannot_be_sent_gives_way_to_newer() -> None:
    link = link_to("ws://127.0.0.1:1")
    link.send({"type": "input_audio_buffer.commit"})
    for number in range(QUEUE_MAX + 10):
        link.send({"type": "input_audio_buffer.append", "audio": str(number)})
    assert link.counts["overflow"] == 11
    assert link.waiting("input_audio_buffer.commit") == 1
    assert link.waiting("input_audio_buffer.append") == QUEUE_MAX - 1
    for _ in range(QUEUE_MAX + 5):  # also of what is no voice
        link.send({"type": "response.create"})
    assert link.waiting("response.create") == QUEUE_MAX
    await link.aclose()
    link.send({"type": "response.create"})
    assert link.counts["not_sent"] == 1


async def test_server_that_is_not_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_link, "BACKOFF_S", (0.0,) * openai_link.ATTEMPTS_MAX)
    lost: list[str] = []
    link = link_to(f"ws://127.0.0.1:{free_port()}", lost)
    link.start()
    async with asyncio.timeout(20):
        while link.state != "failed":  # noqa: ASYNC110 - the link says so by its state
            await asyncio.sleep(0.005)
    assert not await link.opened(0.1)
    assert len(lost) == openai_link.ATTEMPTS_MAX + 1
    assert "6 attempts" in lost[-1]
    await link.aclose()


@pytest.mark.parametrize("given", [{"retry-after": "3"}, {"retry-after": "1e9"}, {"retry-after": "soon"}, {}])
def test_retry_after_is_respected_within_reason(given: dict[str, str]) -> None:
    wait_s = openai_link._retry_after_s(given)
    expected: dict[Any, float] = {"3": 3.0, "1e9": openai_link.RETRY_AFTER_MAX_S}
    assert wait_s == expected.get(given.get("retry-after"), 0.0)
