"""The uplink in virtual time: packets of real Opus in, frames and facts out."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from relay.opus import Encoder
from relay.speech import load
from relay.transceiver.counters import Counters
from relay.transceiver.facts import SessionFacts
from relay.transceiver.receive import OVERTAKEN_NS, PEACE_NS, STREAMS_MAX, UserVoice
from tests.unit.transceiver.facts_list import FactList
from voice.jitterbuffer import JitterBufferConfig
from voice.vad import EnergyVad, Pcm, Vad, level_dbov

FRAME_NS = 20_000_000
UTC_NS = 1_760_000_000_000_000_000
SSRC = 99
PAYLOAD_TYPE = 111
FIXED = JitterBufferConfig(start_ms=60.0, min_ms=60.0, max_ms=60.0)  # no tick is put in or stretched


class Unsure:
    """A detector with a probability, always the same."""

    name = "unsure"
    hangover_ms = 0.0

    def __init__(self) -> None:
        self.probability: float | None = None

    def is_speech(self, pcm: Pcm) -> bool:
        del pcm
        self.probability = 0.25
        return False


class Uplink:
    """A sender, a perfect 30 ms link with holes, and the receiver, all in virtual time."""

    def __init__(self, config: JitterBufferConfig | None = None, vad: Vad | None = None) -> None:
        self.sink = FactList()
        self.counters = Counters()
        self.voice = UserVoice(
            SessionFacts(self.sink, bytes(16), "test"),
            self.counters,
            vad or EnergyVad(),
            PAYLOAD_TYPE,
            audio_level_id=None,
            config=config,
        )
        pcm = np.tile(load("user_hours").pcm, 3)
        encoder = Encoder()
        self.packets = [encoder.encode(pcm[at : at + 960]) for at in range(0, 960 * 200, 960)]

    def rtp(self, number: int, payload_type: int = PAYLOAD_TYPE, ssrc: int = SSRC) -> bytes:
        return struct.pack("!BBHII", 0x80, payload_type, number, number * 960, ssrc) + self.packets[number]

    def receive(self, number: int, at_ns: int, **header: int) -> None:
        self.voice.received(self.rtp(number, **header), 100, UTC_NS + at_ns, at_ns)

    def run(self, lost: set[int], ticks: int = 200) -> list[Any]:
        heard = []
        for tick in range(ticks):
            if tick not in lost:
                self.receive(tick, tick * FRAME_NS + 5_000_000)
            due = tick * FRAME_NS + 10_000_000
            heard.append(self.voice.tick(due, due, UTC_NS + due))
        return heard

    def kinds(self) -> dict[int, str]:
        return {row["rtp_ts"] // 960: row["kind"] for row in self.sink.rows["frame"] if row["rtp_ts"] is not None}


@pytest.mark.parametrize("lost", [{50}, {30, 60, 61, 90}, set(range(40, 180, 20))])
def test_a_lost_packet_costs_exactly_one_frame(lost: set[int]) -> None:
    uplink = Uplink(FIXED)
    uplink.run(lost)
    kinds = uplink.kinds()
    made_up = {number for number, kind in kinds.items() if kind in ("concealed", "fec_recovered")}
    assert made_up == lost
    assert all(kind == "played" for number, kind in kinds.items() if number not in lost)


def test_in_band_redundancy_is_used_and_sounds_like_what_was_lost() -> None:
    whole, holed = Uplink(FIXED), Uplink(FIXED)
    lost = set(range(20, 180, 10))
    original = {frame.audio_ms: frame.pcm for frame in whole.run(set()) if frame is not None}
    repaired = {frame.audio_ms: frame for frame in holed.run(lost) if frame is not None}
    recovered = [f for f in repaired.values() if f.kind == "fec_recovered"]
    assert recovered
    for frame in recovered:
        if level_dbov(original[frame.audio_ms]) > -30:
            assert abs(level_dbov(frame.pcm) - level_dbov(original[frame.audio_ms])) < 6


def test_packet_facts_say_what_was_lost_and_came_twice() -> None:
    uplink = Uplink()
    uplink.receive(0, 0)
    uplink.receive(2, FRAME_NS)
    uplink.voice.replayed(uplink.rtp(2), 100, UTC_NS + FRAME_NS + 1)
    uplink.receive(1, 2 * FRAME_NS)
    rows = uplink.sink.rows["packet"]
    assert [(row["ext_seq"], row["newly_lost"], row["duplicate"], row["reordered"]) for row in rows] == [
        (0, 0, False, False),
        (2, 1, False, False),
        (2, 0, True, False),
        (1, -1, False, True),
    ]


def test_replay_from_long_ago_leaves_the_statistics_alone() -> None:
    uplink = Uplink()
    uplink.receive(150, 0)
    uplink.voice.replayed(uplink.rtp(10), 100, UTC_NS)
    assert uplink.voice.stats.received == 1
    assert uplink.counters.drops == {"replayed": 1}


def test_what_is_not_our_codec_or_no_rtp_is_dropped() -> None:
    uplink = Uplink()
    uplink.receive(0, 0, payload_type=0)
    uplink.voice.received(b"\x80", 1, UTC_NS, 0)
    for ssrc in range(20):
        uplink.receive(0, 0, ssrc=ssrc)
    assert uplink.counters.drops == {"payload_type": 1, "rtp_malformed": 1, "too_many_streams": 12}


def test_malformed_opus_is_concealed() -> None:
    uplink = Uplink()
    uplink.packets[60] = b"\xff\xff\xff"
    frames = uplink.run(set())
    assert uplink.kinds()[60] == "concealed"
    assert all(frame.pcm.shape == (960,) for frame in frames if frame is not None)


def test_frames_carry_the_time_they_were_spoken_not_the_time_they_were_played() -> None:
    uplink = Uplink()
    frames = [frame for frame in uplink.run(set()) if frame is not None]
    for frame in frames[50:]:
        # A packet's arrival is the earliest its last sample can be known: the frame begins 20 ms before.
        assert frame.at_ns == UTC_NS + round(frame.audio_ms * 1e6) + 5_000_000 - FRAME_NS


def test_detectors_probability_goes_with_its_verdict() -> None:
    uplink = Uplink(vad=Unsure())
    assert {frame.probability for frame in uplink.run(set(), 20) if frame is not None} == {0.25}


def talk(uplink: Uplink, ssrc: int, ticks: range) -> list[Any]:
    """One stream of the user's, and what was heard while it lasted."""
    heard = []
    for tick in ticks:
        uplink.receive(tick, tick * FRAME_NS + 5_000_000, ssrc=ssrc)
        due = tick * FRAME_NS + 10_000_000
        heard.append(uplink.voice.tick(due, due, UTC_NS + due))
    return [frame for frame in heard if frame is not None]


def test_media_clock_goes_on_with_a_new_stream() -> None:
    uplink = Uplink(FIXED)
    old, new = talk(uplink, 1, range(100)), talk(uplink, 2, range(100, 180))
    assert new[0].audio_ms == old[-1].audio_ms + 20
    assert [frame.audio_ms for frame in new] == [new[0].audio_ms + 20 * tick for tick in range(len(new))]
    assert len(new) >= 75
    assert new[-1].at_ns - old[-1].at_ns == pytest.approx((180 - 100) * FRAME_NS, abs=FRAME_NS)


def test_packets_that_a_new_stream_has_overtaken_change_nothing() -> None:
    uplink = Uplink(FIXED)
    talk(uplink, 1, range(50))
    for tick in range(60, 90):
        talk(uplink, 2, range(tick, tick + 1))
        uplink.receive(tick - 10, tick * FRAME_NS + 6_000_000, ssrc=1)
    assert uplink.voice.ssrc == 2
    assert uplink.voice.stats.received == 30
    assert uplink.counters.drops == {"overtaken_stream": 30}


def test_stream_may_change_again_and_again_if_there_is_peace_between() -> None:
    uplink = Uplink()
    for ssrc in range(30):
        uplink.receive(0, ssrc * 2 * PEACE_NS, ssrc=ssrc)
        uplink.receive(0, ssrc * 2 * PEACE_NS + 2 * OVERTAKEN_NS, ssrc=ssrc + 100)
    assert uplink.counters.drops == {}
    for ssrc in range(30):
        uplink.receive(0, 60 * PEACE_NS + ssrc, ssrc=ssrc)
    assert uplink.counters.drops == {"too_many_streams": 30 - STREAMS_MAX}


def test_senders_pauses_are_silence_and_nothing_is_made_up() -> None:
    uplink = Uplink(FIXED)
    pause = b"\x08"  # what libopus makes of a pause with DTX, of which senders send the first
    uplink.packets[100] = pause
    for tick in range(200):
        if not 100 < tick < 120 and not 121 < tick < 140:
            number = tick if tick <= 100 else tick - 19 if tick <= 121 else tick - 37
            header = struct.pack("!BBHII", 0x80, PAYLOAD_TYPE, number, tick * 960, SSRC)
            packet = pause if tick in (100, 121) else uplink.packets[50] if tick == 120 else uplink.packets[tick]
            uplink.voice.received(header + packet, 100, UTC_NS + tick * FRAME_NS, tick * FRAME_NS)
        due = tick * FRAME_NS + 10_000_000
        uplink.voice.tick(due, due, UTC_NS + due)
    kinds = uplink.kinds()
    assert {kind for number, kind in kinds.items() if number < 200} == {"played", "silence"}
    assert sum(kind == "silence" for kind in kinds.values()) >= 19 + 18
