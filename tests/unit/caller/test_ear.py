from __future__ import annotations

import struct

import numpy as np
import pytest

from relay.caller.ear import STREAM_LIMIT, Ear
from relay.caller.phrases import phrase, silence
from relay.speech import load

MS = 1_000_000
SSRC = 99


def packet(seq: int, opus: bytes, *, ssrc: int = SSRC, timestamp: int | None = None) -> bytes:
    stamp = seq * 960 if timestamp is None else timestamp
    return struct.pack("!BBHII", 0x80, 111, seq % 65536, stamp % 2**32, ssrc) + opus


def call(ear: Ear, packets: dict[int, bytes], ticks: int, *, delay_ms: float = 30) -> list[np.ndarray]:
    """Send packet n at 20·n ms over a way of so many ms, and play every 20 ms; returns what was played."""
    played = []
    for tick in range(ticks):
        for data in [packets[tick]] if tick in packets else []:
            ear.datagram(data, round((20 * tick + delay_ms) * MS))
            ear.decrypted(data)
        now = round((20 * tick + delay_ms + 5) * MS)
        played.append(ear.play(now, now, in_speech=False))
    return played


def speech() -> list[bytes]:
    return [frame.payload for frame in phrase(load("agent_hours")).frames]


def test_speech_comes_out_whole_after_the_buffers_delay() -> None:
    ear = Ear()
    frames = speech()
    played = call(ear, {n: packet(n, opus) for n, opus in enumerate(frames)}, len(frames))
    onset = next(n for n, loud in enumerate(played) if loud.any())
    assert played[onset][0]
    assert ear.playout_delay_ms == pytest.approx(5 + 20 * onset)
    assert ear.playout.emitted == ear.playout.total_samples == 960 * (len(frames) - onset)
    assert ear.playout.delay_s / ear.playout.emitted == pytest.approx((5 + 20 * onset) / 1000)
    assert ear.playout.concealed_samples == 0
    [received] = ear.received()
    assert (received.ssrc, received.packets, received.lost, received.duplicates) == (SSRC, len(frames), 0, 0)


def test_a_lost_packet_is_counted_and_bridged() -> None:
    ear = Ear()
    frames = speech()
    lost = {40, 41, 42}
    call(ear, {n: packet(n, opus) for n, opus in enumerate(frames) if n not in lost}, len(frames))
    assert ear.received()[0].lost == 3
    # The last of the three is in the redundancy of the packet after it, if the encoder spent bits on it.
    assert 2 * 960 <= ear.playout.concealed_samples <= 3 * 960
    assert ear.playout.concealment_events == 1


def test_what_arrives_before_the_keys_do_has_arrived() -> None:
    ear = Ear()
    ear.datagram(packet(0, b"?"), 0)
    assert ear.arrived == 1
    assert ear.ssrc is None
    ear.decrypted(packet(1, silence().payload))  # not announced by a datagram of its own: not ours
    ear.decrypted(packet(1, silence().payload))
    assert ear.arrived == 1


def test_duplicates_are_not_played_twice() -> None:
    ear = Ear()
    data = packet(0, silence().payload)
    for _ in range(2):
        ear.datagram(data, 0)
        ear.decrypted(data)
    [received] = ear.received()
    assert (received.packets, received.duplicates) == (1, 1)
    assert ear.arrived == 2


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x6f", b"\x00\x01" + bytes(18), b"\x16\xfe\xfd", b"\x80\xc8" + bytes(26)]
)
def test_anything_but_rtp_is_passed_over(data: bytes) -> None:
    ear = Ear()
    ear.datagram(data, 0)
    ear.decrypted(data)
    assert ear.arrived == 0


def test_a_packet_that_is_no_opus_is_bridged_and_counted() -> None:
    ear = Ear()
    frames = [*speech()[:20], b"\xff\xff\xff", *speech()[21:40]]
    call(ear, {n: packet(n, opus) for n, opus in enumerate(frames)}, 50)
    assert ear.playout.undecodable == 1


def test_a_new_source_replaces_the_old_one() -> None:
    ear = Ear()
    for ssrc in (1, 2):
        data = packet(5, silence().payload, ssrc=ssrc)
        ear.datagram(data, 0)
        ear.decrypted(data)
    assert ear.ssrc == 2
    assert {stream.ssrc for stream in ear.received()} == {1, 2}


def test_a_flood_of_sources_is_bounded() -> None:
    ear = Ear()
    for ssrc in range(2 * STREAM_LIMIT):
        ear.datagram(packet(0, b"", ssrc=ssrc), 0)
    assert len(ear.received()) == STREAM_LIMIT
