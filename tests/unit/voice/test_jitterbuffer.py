"""The receive buffer in virtual time: what each trouble costs, in ticks and in delay."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voice.jitterbuffer import JitterBuffer, JitterBufferConfig, Piece, Playout
from voice.netem import PROFILES, Link

MS = 1_000_000
FRAME_MS = 20
FRAME_TS = 960
CHANGES = {"none": 0, "cut": -FRAME_TS, "shorten": -300, "lengthen": 300}  # samples of a period, some or other
START = 1_700_000_000_000 * MS
PLAIN = b"\xfc\x01\x02"  # CELT-only: carries no FEC
VOICED, UNVOICED = b"\x08\x80\x00", b"\x08\x00\x00"  # SILK, 20 ms, with and without the voice flag
WITH_FEC = b"\x08\x40\x00"  # SILK, 20 ms, LBRR flag set

Sent = tuple[int, int, int, bytes]  # arrival ms, extended number, RTP time, payload


def voice(
    packets: int, *, lost: Iterable[int] = (), delay: Callable[[int], float] = lambda _: 0.0, **kind: bytes
) -> list[Sent]:
    body = kind.get("payload", PLAIN)
    gone = set(lost)
    return [
        (round(seq * FRAME_MS + delay(seq)), seq, seq * FRAME_TS % 2**32, body)
        for seq in range(packets)
        if seq not in gone
    ]


def play(
    sent: Iterable[Sent],
    ticks: int,
    buffer: JitterBuffer | None = None,
    phase_ms: int = 7,
    *,
    in_speech: Callable[[int], bool] = lambda _: False,
    held: int = 0,
) -> list[Playout]:
    """Insert packets as they arrive and take one tick every 20 ms, packets of the same millisecond first.

    `held` is what a stretch has left of earlier ticks.
    """
    buffer = buffer or JitterBuffer()
    waiting = sorted(sent, key=lambda packet: packet[0])
    out = []
    for tick in range(ticks):
        now_ms = tick * FRAME_MS + phase_ms
        while waiting and waiting[0][0] <= now_ms:
            at_ms, ext_seq, rtp_ts, payload = waiting.pop(0)
            buffer.insert(ext_seq, rtp_ts, payload, START + at_ms * MS)
        playout = buffer.pop(START + now_ms * MS, held=held, in_speech=in_speech(tick))
        held += sum(piece.samples - piece.skip for piece in playout.pieces) - FRAME_TS + CHANGES[playout.change]
        assert held >= 0
        out.append(playout)
    return out


def kinds(out: Iterable[Playout]) -> str:
    """Runs of kinds, such as `silence 2, played 98`."""
    return ", ".join(f"{kind} {len(list(run))}" for kind, run in itertools.groupby(playout.kind for playout in out))


def steady(out: list[Playout]) -> list[Playout]:
    """From the first tick played."""
    return out[next(index for index, playout in enumerate(out) if playout.kind == "played") :]


def test_nothing_in_is_silence_out() -> None:
    assert play([], 3) == [Playout("silence", (Piece("silence", b"", FRAME_TS),), None)] * 3


def test_a_clean_stream_is_played_whole_after_the_start_target() -> None:
    buffer = JitterBuffer()
    out = play(voice(200), 200, buffer)
    assert kinds(out[:3]) == "silence 2, played 1"
    assert {playout.kind for playout in out[2:]} == {"played"}
    assert [playout.rtp_ts for playout in out[2:20]] == [seq * FRAME_TS for seq in range(18)]
    assert buffer.target_ms == 20.0
    assert buffer.delay_ms <= 50.0


def test_one_lost_packet_costs_one_concealed_tick_and_no_delay() -> None:
    clean, lossy = JitterBuffer(), JitterBuffer()
    whole = play(voice(300), 300, clean)
    out = play(voice(300, lost=[150]), 300, lossy)
    assert [a.kind == b.kind for a, b in zip(whole, out, strict=True)].count(False) == 1
    assert lossy.counts.concealed == 1
    assert lossy.delay_ms == clean.delay_ms
    assert out[-1].rtp_ts == whole[-1].rtp_ts


@pytest.mark.parametrize("start_ms", [20.0, 40.0, 80.0])
def test_a_burst_costs_as_many_ticks_as_packets(start_ms: float) -> None:
    config = JitterBufferConfig(start_ms=start_ms, min_ms=start_ms)
    out = steady(play(voice(200, lost=range(100, 104)), 200, JitterBuffer(config)))
    assert kinds(out[:150]).count("concealed 4") == 1
    assert Counter(playout.kind for playout in out)["concealed"] == 4


def test_the_next_packet_repairs_the_one_before_it_if_it_is_there_in_time() -> None:
    config = JitterBufferConfig(start_ms=40.0, min_ms=40.0)
    out = steady(play(voice(200, lost=[100, 120, 121], payload=WITH_FEC), 200, JitterBuffer(config)))
    # After the first loss the delay grows by a packet, so that the next repair is there in time: one tick is put in.
    assert kinds(out[95:130]) == (
        "played 5, fec_recovered 1, silence 1, played 19, concealed 1, fec_recovered 1, played 7"
    )
    assert out[100] == Playout("fec_recovered", (Piece("fec", WITH_FEC, FRAME_TS),), 100 * FRAME_TS)


@pytest.mark.parametrize("held", [0, 2, 478, 700, 958])
def test_a_loss_after_a_stretch_costs_one_tick_and_is_repaired_as_before_it(held: int) -> None:
    config = JitterBufferConfig(start_ms=40.0, min_ms=40.0)
    for payload, repaired in ((PLAIN, 0), (WITH_FEC, 2)):
        out = play(voice(200, lost=[100, 120, 121], payload=payload), 190, JitterBuffer(config), held=held)
        counted = Counter(playout.kind for playout in steady(out))
        assert (counted["concealed"], counted["fec_recovered"]) == (3 - repaired, repaired)


def test_a_next_packet_without_fec_repairs_nothing() -> None:
    config = JitterBufferConfig(start_ms=40.0, min_ms=40.0)
    out = steady(play(voice(200, lost=[100]), 200, JitterBuffer(config)))
    assert out[100] == Playout("concealed", (Piece("conceal", b"", FRAME_TS),), 100 * FRAME_TS)


def test_reordering_within_the_delay_costs_nothing() -> None:
    config = JitterBufferConfig(start_ms=60.0, min_ms=60.0)
    out = steady(play(voice(200, delay=lambda seq: 35.0 if seq % 10 == 5 else 0.0), 200, JitterBuffer(config)))
    assert kinds(out) == f"played {len(out)}"
    assert [playout.rtp_ts for playout in out] == [seq * FRAME_TS for seq in range(len(out))]


def test_duplicates_are_counted_and_played_once() -> None:
    buffer = JitterBuffer()
    packets = voice(100)
    out = play(packets + [(at + 5, seq, ts, body) for at, seq, ts, body in packets[::10]], 100, buffer)
    assert buffer.counts.duplicates == 10
    assert kinds(out) == "silence 2, played 98"


def test_a_packet_after_its_tick_is_late_and_a_second_copy_of_it_no_duplicate_of_a_played_one() -> None:
    buffer = JitterBuffer()
    play(voice(100, lost=[50]), 100, buffer)
    assert buffer.insert(50, 50 * FRAME_TS, PLAIN, START + 2000 * MS) == "discarded_late"
    assert buffer.insert(60, 60 * FRAME_TS, PLAIN, START + 2000 * MS) == "duplicate"
    assert (buffer.counts.discarded_late, buffer.counts.duplicates) == (1, 1)


def test_the_target_follows_jitter_up_and_down() -> None:
    rng = np.random.default_rng(1)
    noise = rng.uniform(0, 80, 3000)
    buffer = JitterBuffer()
    packets = voice(3000, delay=lambda seq: float(noise[seq]) if 500 <= seq < 1500 else 0.0)
    waiting = iter(packets)
    play(itertools.islice(waiting, 1500), 1500, buffer)
    assert 65.0 <= buffer.target_ms <= 90.0
    late_while_jittering = buffer.counts.discarded_late
    assert late_while_jittering < 0.06 * 1000

    quiet = JitterBuffer()
    play(packets, 3000, quiet)
    assert quiet.target_ms == 20.0
    assert quiet.delay_ms <= 50.0
    assert quiet.counts.changed["cut"] > 0


def test_a_longer_route_is_followed_and_forgotten() -> None:
    buffer = JitterBuffer()
    out = play(voice(2000, delay=lambda seq: 60.0 if seq >= 500 else 0.0), 2000, buffer)
    assert Counter(playout.kind for playout in out[600:])["played"] > 1380
    assert buffer.target_ms == 20.0
    assert buffer.delay_ms <= 50.0


def test_a_sender_clock_that_drifts_is_followed() -> None:
    for ppm in (-200, 200):
        buffer = JitterBuffer()
        drift = FRAME_MS * ppm / 1e6
        out = steady(play(voice(15_000, delay=lambda seq, drift=drift: 40 + seq * drift), 15_000, buffer))  # type: ignore[misc]
        # 300 s at 200 ppm are 60 ms: three ticks, and a few for finding the level.
        assert Counter(playout.kind for playout in out)["played"] >= len(out) - 8
        assert buffer.counts.discarded_late == 0
        assert buffer.delay_ms <= 55.0


def test_silence_that_was_not_sent_is_silence() -> None:
    packets = voice(100)
    # DTX: the sequence goes on, the timestamp leaps by 400 ms.
    packets += [(100 * FRAME_MS + 400 + seq * FRAME_MS, 100 + seq, (120 + seq) * FRAME_TS, PLAIN) for seq in range(50)]
    buffer = JitterBuffer(JitterBufferConfig(conceal_ms=0.0))
    out = steady(play(packets, 170, buffer))
    assert kinds(out) == "played 100, silence 20, played 48"
    assert buffer.counts.concealed == 0


def test_an_empty_buffer_is_concealed_for_a_while_and_then_silent() -> None:
    out = steady(play(voice(50), 100))
    assert kinds(out) == "played 50, concealed 5, silence 43"


def test_timestamps_and_numbers_wrap() -> None:
    packets = [
        (index * FRAME_MS, 65_530 + index, (2**32 - 10 * FRAME_TS + index * FRAME_TS) % 2**32, PLAIN)
        for index in range(50)
    ]
    out = steady(play(packets, 50))
    assert kinds(out) == f"played {len(out)}"
    assert out[10].rtp_ts == 0


@pytest.mark.parametrize("leap", [100_000_000, -100_000_000])
def test_a_new_time_line_is_taken_up_within_half_a_second(leap: int) -> None:
    packets = voice(100) + [(seq * FRAME_MS, seq, (seq * FRAME_TS + leap) % 2**32, PLAIN) for seq in range(100, 200)]
    buffer = JitterBuffer()
    out = play(packets, 200, buffer)
    assert kinds(out[125:]) == "played 75"
    assert buffer.counts.resyncs == 1


def test_a_pause_in_which_the_senders_clock_stood_still_costs_no_more_than_the_pause() -> None:
    packets = voice(100) + [(seq * FRAME_MS + 3000, seq, seq * FRAME_TS, PLAIN) for seq in range(100, 250)]
    out = play(packets, 400)
    assert kinds(out[275:]) == "played 125"


def test_a_stall_delivered_in_one_burst_does_not_stay_as_delay() -> None:
    buffer = JitterBuffer()
    out = play(
        voice(2000, delay=lambda seq: max(0.0, 300.0 - (seq - 100) * FRAME_MS) if 100 <= seq < 115 else 0.0),
        2000,
        buffer,
    )
    assert buffer.delay_ms <= 50.0
    assert kinds(out[1200:]).startswith("played")


def test_the_buffer_is_bounded() -> None:
    buffer = JitterBuffer(JitterBufferConfig(capacity=10))
    fates = [buffer.insert(seq, seq * FRAME_TS, PLAIN, START + seq * MS) for seq in range(12)]
    assert fates == ["queued"] * 10 + ["overflow"] * 2
    assert buffer.counts.overflow == 2
    assert buffer.buffer_ms == 200.0


def stalled(buffer: JitterBuffer, *, in_speech: Callable[[int], bool]) -> list[Playout]:
    """Ten seconds of clean packets, of which those of 300 ms come at once, late."""
    packets = voice(
        500, delay=lambda seq: max(0.0, 300.0 - (seq - 100) * FRAME_MS) if 100 <= seq < 115 else 0.0, payload=PLAIN
    )
    return play(packets, 500, buffer, in_speech=in_speech)


def test_a_stall_costs_the_wait_but_no_word() -> None:
    buffer = JitterBuffer()
    out = stalled(buffer, in_speech=lambda _: True)
    counts = buffer.counts
    assert (counts.discarded_late, counts.discarded) == (0, 0)
    assert counts.played == 500 - buffer.packets
    assert kinds(out[100:130]).count("played") >= 1


@pytest.mark.parametrize("talking", [True, False])
def test_the_delay_that_a_stall_leaves_is_gone_in_seconds(talking: bool) -> None:
    buffer = JitterBuffer()
    stalled(buffer, in_speech=lambda _: talking)
    assert buffer.target_ms <= 50.0
    assert buffer.delay_ms <= buffer.target_ms + buffer.config.far_ms + FRAME_MS
    assert (buffer.counts.changed["shorten"] > 0) == talking
    assert (buffer.counts.changed["cut"] > 0) == (not talking)


def test_a_little_too_much_delay_waits_for_the_end_of_speech() -> None:
    def changes(*, in_speech: bool) -> tuple[int, int]:
        buffer = JitterBuffer(JitterBufferConfig(start_ms=60.0))
        play(voice(60), 60, buffer, in_speech=lambda _: in_speech)
        return buffer.counts.changed["cut"], buffer.counts.changed["shorten"]

    assert changes(in_speech=True) == (0, 0)
    assert changes(in_speech=False)[0] > 0


def test_what_the_senders_encoder_took_for_voice_is_not_cut() -> None:
    buffer = JitterBuffer(JitterBufferConfig(start_ms=60.0))
    play(voice(60, payload=VOICED), 60, buffer)
    assert buffer.counts.changed["cut"] == 0


def test_packets_that_stay_away_after_a_pause_began_are_silence_not_loss() -> None:
    out = steady(play(voice(50, payload=UNVOICED), 100))
    assert kinds(out) == "played 50, silence 48"
    assert kinds(steady(play(voice(50, payload=VOICED), 100))) == "played 50, concealed 5, silence 43"


@pytest.mark.parametrize(("toc", "ms"), [(b"\x00", 10), (b"\x08", 20), (b"\x10", 40), (b"\x18", 60)])
def test_packets_of_other_lengths_are_played_whole(toc: bytes, ms: int) -> None:
    body = toc + b"\x80\x00"
    packets = [(seq * ms, seq, seq * ms * 48, body) for seq in range(3000 // ms)]
    buffer = JitterBuffer(JitterBufferConfig(start_ms=60.0, min_ms=60.0))
    out = steady(play(packets, 145, buffer))
    assert kinds(out) == f"played {len(out)}"
    assert [playout.rtp_ts for playout in out] == [tick * FRAME_TS for tick in range(len(out))]


@pytest.mark.parametrize(("toc", "ms"), [(b"\x00", 10), (b"\x10", 40), (b"\x18", 60)])
def test_a_loss_costs_its_own_length(toc: bytes, ms: int) -> None:
    body = toc + b"\x80\x00"
    packets = [(seq * ms, seq, seq * ms * 48, body) for seq in range(3000 // ms) if seq != 20]
    buffer = JitterBuffer(JitterBufferConfig(start_ms=100.0, min_ms=100.0))
    out = steady(play(packets, 140, buffer))
    filling = [piece for playout in out for piece in playout.pieces if piece.kind != "packet"]
    assert sum(piece.samples for piece in filling) == ms * 48
    assert {piece.kind for piece in filling} == {"conceal"}


@pytest.mark.parametrize(("body", "ms"), [(b"\x00\x40\x00", 10), (b"\x18\x10\x00", 60)])
def test_redundancy_of_other_lengths_repairs(body: bytes, ms: int) -> None:
    packets = [(seq * ms, seq, seq * ms * 48, body) for seq in range(3000 // ms) if seq != 20]
    buffer = JitterBuffer(JitterBufferConfig(start_ms=120.0, min_ms=120.0, max_ms=120.0))
    out = steady(play(packets, 130, buffer))
    filling = [piece for playout in out for piece in playout.pieces if piece.kind != "packet"]
    assert filling == [Piece("fec", body, ms * 48)]


def test_a_sequence_that_begins_anew_is_taken_up() -> None:
    packets = voice(100) + [
        (2000 + seq * FRAME_MS, 65_536 + 7 + seq, (3_000_000_000 + seq * FRAME_TS) % 2**32, PLAIN) for seq in range(100)
    ]
    buffer = JitterBuffer()
    out = play(packets, 200, buffer)
    assert kinds(out[130:]) == "played 70"


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_no_network_costs_much_more_than_it_lost(name: str) -> None:
    link = Link(PROFILES[name].up, seed=9)
    packets = [
        (round(arrival / MS), seq, seq * FRAME_TS, PLAIN)
        for seq in range(3000)
        for arrival in link.send(seq * FRAME_MS * MS, 120)
    ]
    buffer = JitterBuffer()
    out = steady(play(packets, 2990, buffer))
    missing = sum(playout.kind != "played" for playout in out)
    assert missing - link.lost <= 0.07 * len(out)
    assert buffer.delay_ms <= buffer.target_ms + 50.0
    assert buffer.counts.resyncs == 0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-3, 30),
            st.integers(0, 400) | st.just(20),
            st.sampled_from(
                [(PLAIN, 20), (WITH_FEC, 20), (VOICED, 20), (UNVOICED, 20), (b"\x00\x40", 10), (b"\x18\x10", 60)]
            ),
            st.booleans(),
        ),
        max_size=150,
    )
)
def test_every_packet_is_played_once_in_order_and_accounted_for(
    steps: list[tuple[int, int, tuple[bytes, int], bool]],
) -> None:
    buffer = JitterBuffer(JitterBufferConfig(capacity=8))
    seq, now, ticks, held, inserted = 1000, START, 0, 0, 0
    played: list[tuple[int, bytes]] = []
    for move, wait_ms, (head, ms), tick in steps:
        seq += move
        now += wait_ms * MS
        # The payload's tail names the packet, so that what is played can be told apart.
        buffer.insert(seq, seq * FRAME_TS * ms // FRAME_MS % 2**32, head + seq.to_bytes(4, "big"), now)
        inserted += 1
        if tick:
            playout = buffer.pop(now, held=held, in_speech=bool(seq % 3))
            ticks += 1
            made = sum(piece.samples - piece.skip for piece in playout.pieces)
            assert held + made >= FRAME_TS
            held = max(0, held + made - FRAME_TS + CHANGES[playout.change])
            played += [
                (buffer.counts.resyncs, piece.payload[-4:]) for piece in playout.pieces if piece.kind == "packet"
            ]
    counts = buffer.counts
    assert counts.played_ticks + counts.concealed + counts.fec_recovered + counts.silence == ticks
    assert inserted == (
        counts.played + counts.discarded_late + counts.discarded + counts.duplicates + counts.overflow + buffer.packets
    )
    assert counts.played == len(played)
    for (line, number), (next_line, next_number) in itertools.pairwise(played):
        assert line != next_line or number < next_number, "out of order, or twice"


def test_where_spikes_come_back_speech_begins_later_and_its_delay_is_gone_in_the_pause_after_it() -> None:
    def delay(seq: int) -> float:
        return max(0.0, 300.0 - seq % 300 * FRAME_MS)

    def said(seq: int) -> bytes:
        return VOICED if seq % 300 >= 100 else UNVOICED

    packets = [(round(seq * FRAME_MS + delay(seq)), seq, seq * FRAME_TS, said(seq)) for seq in range(1500)]
    buffer = JitterBuffer()
    delays = []
    for tick in range(1500):
        now_ms = tick * FRAME_MS + 7
        while packets and packets[0][0] <= now_ms:
            at_ms, seq, rtp_ts, payload = packets.pop(0)
            buffer.insert(seq, rtp_ts, payload, START + at_ms * MS)
        buffer.pop(START + now_ms * MS)
        delays.append(buffer.delay_ms)
    assert min(delays[1330:1500]) >= 300.0 - FRAME_MS  # as long as the spikes, while somebody speaks
    assert min(delays[1220:1310]) <= buffer.config.max_ms  # and the quantile's in the pause
    assert buffer.counts.discarded_late == 0
