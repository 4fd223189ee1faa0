"""Transport-wide feedback: messages worked out by hand, and that everything comes back as it was told."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voice.twcc import MESSAGES_MAX, TICK_NS, WINDOW, Feedback, Recorder, TwccError, pack, parse

MS = 1_000_000

deltas = st.one_of(st.none(), st.integers(0, 255), st.integers(-0x8000, 0x7FFF), st.just(80))


def feedback(arrivals: tuple[int | None, ...], base: int = 1, reference: int = 5, count: int = 2) -> Feedback:
    return Feedback(7, 9, base, reference, count, arrivals)


def told(recorder: Recorder) -> dict[int, int | None]:
    """What the next messages say, through the wire: arrival in ticks, or None, by number."""
    found: dict[int, int | None] = {}
    for message in recorder.take(7, 9):
        heard = parse(pack(message))
        assert heard == message
        for place, arrival in enumerate(heard.arrivals):
            found[(heard.base + place) % 65_536] = None if arrival is None else heard.reference * 256 + arrival
    return found


@pytest.mark.parametrize(
    ("arrivals", "wire"),
    [
        # Five packets 20 ms apart: a run of five small deltas, 0 and four times 80; one octet of padding.
        ((0, 80, 160, 240, 320), "afcd0006 00000007 00000009 0001 0005 000005 02 2005 00 50505050 01"),
        # The second is lost: a vector of one bit, 1 0 1 and then nothing.
        ((0, None, 160), "8fcd0005 00000007 00000009 0001 0003 000005 02 a800 00 a0"),
        # The third came before the second, by 1 ms: a vector of two bits, 01 01 10; -4 in 16 bits.
        ((0, 80, 76), "afcd0006 00000007 00000009 0001 0003 000005 02 d600 00 50 fffc 0002"),
        # 64 ms are the first delta that is large: 256.
        ((10, 266), "afcd0006 00000007 00000009 0001 0002 000005 02 d800 0a 0100 000003"),
        # Twenty lost and one: a run, and a run.
        ((None,) * 20 + (3,), "afcd0006 00000007 00000009 0001 0015 000005 02 0014 2001 03 000003"),
        # A large delta in the tenth place makes vectors of two bits of all before it.
        (
            (0, None) * 4 + (0, 300),
            "afcd0007 00000007 00000009 0001 000a 000005 02 d111 c600 0000000000 012c 01",
        ),
    ],
)
def test_messages_are_as_worked_out_by_hand(arrivals: tuple[int | None, ...], wire: str) -> None:
    assert pack(feedback(arrivals)).hex() == wire.replace(" ", "")
    assert parse(bytes.fromhex(wire)) == feedback(arrivals)


def test_a_message_as_browsers_send_it() -> None:
    wire = bytes.fromhex("afcd0005 fa17fa17 43032fa0 0099 0001 3de802 17 2001 94 01")
    message = Feedback(0xFA17FA17, 0x43032FA0, 153, 0x3DE802, 23, (148,))
    assert parse(wire) == message
    assert pack(message) == wire


@given(st.lists(deltas, min_size=1, max_size=700), st.integers(0, 65_535), st.integers(0, (1 << 24) - 1))
def test_every_message_comes_back(steps: list[int | None], base: int, reference: int) -> None:
    arrivals: list[int | None] = []
    at = 0
    for step in steps:
        at += step or 0
        arrivals.append(None if step is None else at)
    message = feedback(tuple(arrivals), base, reference)
    data = pack(message)
    assert len(data) % 4 == 0
    assert parse(data) == message


@pytest.mark.parametrize("arrivals", [(), (None,) * 65_536, (0, 40_000), (40_000,)])
def test_what_no_message_can_say_is_refused(arrivals: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match=r"in one message|do not fit"):
        pack(feedback(arrivals))


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ("8fcd0003", "shorter than"),
        ("8fcc0004 00000007 00000009 00010001 00000500 20010000", "no transport-wide feedback"),
        ("8fcd0004 00000007 00000009 00010001 00000500 20010000", "a length of 4 words"),
        ("8fcd0005 00000007 00000009 00010000 00000500 20010000", "on no packet"),
        ("afcd0005 00000007 00000009 00010001 00000500 20010009", "padding of 9"),
        ("8fcd0005 00000007 00000009 00010009 00000500 20012001", "chunks for 2 of 9"),
        ("8fcd0005 00000007 00000009 00010003 00000500 20030000", "end too early"),
        ("8fcd0005 00000007 00000009 00010001 00000500 60010000", "reserved"),
    ],
)
def test_malformed_messages_are_refused_with_the_reason(wire: str, words: str) -> None:
    with pytest.raises(TwccError, match=words):
        parse(bytes.fromhex(wire))


@given(st.binary(max_size=60), st.booleans())
def test_whatever_comes_is_read_or_refused(body: bytes, shaped: bool) -> None:
    if shaped:
        body += bytes(-len(body) % 4)
        body = b"\x8f\xcd" + (len(body) // 4).to_bytes(2, "big") + body
    with suppress(TwccError):
        parse(body)


def test_each_packet_is_told_once_and_what_is_missing_is_lost() -> None:
    recorder = Recorder()
    assert recorder.take(7, 9) == []
    for number in (65_534, 65_535, 1):
        recorder.receive(number, (1_000 + number % 65_534) * MS)
    assert told(recorder) == {65_534: 4_000, 65_535: 4_004, 0: None, 1: 4_004}
    assert told(recorder) == {}
    recorder.receive(1, 2_000 * MS)
    assert told(recorder) == {}
    recorder.receive(3, 1_080 * MS)
    assert told(recorder) == {2: None, 3: 4_320}


def test_a_late_packet_is_told_with_what_follows_it() -> None:
    recorder = Recorder()
    for number in (1, 3, 4):
        recorder.receive(number, number * 20 * MS)
    assert told(recorder)[2] is None
    recorder.receive(2, 90 * MS)
    assert told(recorder) == {2: 360, 3: 240, 4: 320}


def test_messages_are_counted_and_begun_anew_where_no_delta_fits() -> None:
    recorder = Recorder()
    recorder.receive(1, 0)
    recorder.receive(2, 9_000 * MS)
    recorder.receive(4, 9_020 * MS)
    first, second = recorder.take(7, 9)
    assert (first.base, first.serial, first.arrivals) == (1, 0, (0,))
    assert (second.base, second.serial, second.reference) == (2, 1, 9_000 // 64)
    assert second.arrivals == (160, None, 240)


@given(st.lists(st.tuples(st.integers(-20, 40), st.integers(0, 100_000)), max_size=60), st.integers(0, 65_535))
def test_everything_within_the_window_is_told_as_it_was(steps: list[tuple[int, int]], number: int) -> None:
    recorder = Recorder()
    arrived: dict[int, int] = {}
    at_ns = 0
    heard: dict[int, int | None] = {}
    for index, (ahead, later_us) in enumerate(steps):
        number = (number + ahead) % 65_536
        at_ns += later_us * 1_000
        arrived.setdefault(number, at_ns // TICK_NS)
        recorder.receive(number, at_ns)
        if index % 5 == 4:
            heard |= told(recorder)
    heard |= told(recorder)
    assert {number: tick for number, tick in heard.items() if tick is not None} == arrived


@given(st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 1 << 62)), max_size=200))
def test_memory_and_messages_are_bounded_whatever_the_numbers(packets: list[tuple[int, int]]) -> None:
    recorder = Recorder()
    for number, at_ns in packets:
        recorder.receive(number, at_ns)
        assert len(recorder._ticks) <= WINDOW
    messages = recorder.take(7, 9)
    assert len(messages) <= MESSAGES_MAX
    assert all(len(pack(message)) <= 1_200 for message in messages)


def test_a_leap_of_the_numbers_is_followed() -> None:
    recorder = Recorder()
    recorder.receive(1, 0)
    recorder.receive(2_000, 20 * MS)
    assert told(recorder) == {2_000: 80}
    recorder.receive(5, 40 * MS)
    assert told(recorder) == {5: 160}


def test_a_long_run_pushes_out_what_is_old() -> None:
    recorder = Recorder()
    for number in range(WINDOW + 100):
        recorder.receive(number, number * MS)
    assert list(told(recorder)) == list(range(100, WINDOW + 100))
