from __future__ import annotations

import asyncio
import itertools

import pytest

from relay.caller.microphone import FRAME_NS, Microphone
from relay.caller.phrases import Frame, Phrase, silence
from relay.opus import FRAME_SAMPLES

MS = 1_000_000


def three_frames() -> Phrase:
    """Speech of 50 ms: 30 ms, a pause of 5 ms within the second frame, and 15 ms until 10 ms before its end."""
    frames = tuple(Frame(bytes([n]), -20) for n in (1, 2, 3))
    return Phrase("three", frames, ((0, 1440), (1680, 2400)))


async def frames(microphone: Microphone, count: int) -> list[tuple[bytes, int]]:
    taken = []
    for _ in range(count):
        frame, timestamp = await microphone.next_frame()
        taken.append((frame.payload, timestamp))
        await asyncio.sleep(0)  # let whoever waited for the frame go on, as the loop does between two frames
    return taken


async def test_frames_come_in_order_on_one_media_clock() -> None:
    ticks: list[tuple[int, int, int]] = []
    microphone = Microphone(lambda *times: ticks.append(times))
    saying = asyncio.ensure_future(microphone.say(three_frames(), "normal"))
    await asyncio.sleep(0)
    taken = await frames(microphone, 5)
    assert [payload for payload, _ in taken] == [b"\x01", b"\x02", b"\x03", silence().payload, silence().payload]
    assert [timestamp for _, timestamp in taken] == [n * FRAME_SAMPLES for n in range(5)]
    due = [tick[0] for tick in ticks]
    assert {later - earlier for earlier, later in itertools.pairwise(due)} == {FRAME_NS}
    assert all(due_ns <= now_ns for due_ns, now_ns, _ in ticks)
    assert (await saying).complete


async def test_the_record_is_exact_to_the_sample() -> None:
    walls: list[int] = []
    microphone = Microphone(lambda _due, _now, wall: walls.append(wall))
    saying = asyncio.ensure_future(microphone.say(three_frames(), "barge-in"))
    await asyncio.sleep(0)
    await frames(microphone, 3)
    utterance = await saying
    assert (utterance.clip, utterance.kind, utterance.complete) == ("three", "barge-in", True)
    # The tick is taken microseconds before the frame; what is exact is the distance between frame and sample.
    (start, first_end), (second_start, end) = utterance.spans
    assert utterance.start_ns == start
    assert utterance.end_ns == end
    assert 0 <= start - (walls[0] - 20 * MS) < 20 * MS
    assert 0 <= first_end - (walls[1] - 10 * MS) < 20 * MS
    assert second_start - first_end == 5 * MS  # both within the second frame
    assert 0 <= end - (walls[2] - 10 * MS) < 20 * MS


async def test_a_pause_is_so_many_frames_of_silence_between_two_phrases() -> None:
    microphone = Microphone(lambda *_: None)

    async def script() -> None:
        await microphone.say(three_frames(), "normal")
        await microphone.pause(4)
        await microphone.say(three_frames(), "normal")

    running = asyncio.ensure_future(script())
    await asyncio.sleep(0)
    taken = [payload for payload, _ in await frames(microphone, 10)]
    await running
    said = [b"\x01", b"\x02", b"\x03"]
    assert taken == said + [silence().payload] * 4 + said


async def test_nothing_is_said_over_something_else() -> None:
    microphone = Microphone(lambda *_: None)
    saying = asyncio.ensure_future(microphone.say(three_frames(), "normal"))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one thing at a time"):
        await microphone.say(three_frames(), "normal")
    with pytest.raises(RuntimeError, match="one thing at a time"):
        await microphone.pause(3)
    microphone.end()
    await asyncio.gather(saying, return_exceptions=True)


async def test_an_utterance_that_is_cut_off_is_marked_and_ends_where_it_was_cut() -> None:
    microphone = Microphone(lambda *_: None)
    saying = asyncio.ensure_future(microphone.say(three_frames(), "normal"))
    await asyncio.sleep(0)
    await frames(microphone, 1)
    microphone.end()
    await asyncio.gather(saying, return_exceptions=True)
    [utterance] = microphone.utterances
    assert not utterance.complete
    assert utterance.end_ns - utterance.start_ns == 20 * MS
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(microphone.next_frame(), 0.05)
