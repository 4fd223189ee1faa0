"""When the user stopped speaking, by the facts, against what was really said: in virtual time, over a shaky network."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from relay.caller.phrases import phrase, silence
from relay.speech import load
from relay.transceiver.config import TransceiverConfig
from relay.transceiver.counters import Counters
from relay.transceiver.facts import SessionFacts
from relay.transceiver.floors import make_floor
from relay.transceiver.receive import UserVoice
from tests.unit.transceiver.facts_list import FactList
from voice.turns import TurnEvent

FRAME_NS = 20_000_000
MS = 1_000_000
UTC_NS = 1_760_000_000_000_000_000
BEFORE = 50  # frames of silence before the question
LINK_NS = 30 * MS


@pytest.mark.parametrize("jitter_ms", [0.0, 25.0])
@pytest.mark.parametrize("clip", ["user_bill", "user_hours", "user_weather"])
def test_acoustic_end_holds_neither_jitter_nor_buffer_nor_hangover(clip: str, jitter_ms: float) -> None:
    config = TransceiverConfig(code="test", region="test", ufrag_key=bytes(16))
    vad = config.make_vad()
    voice = UserVoice(SessionFacts(FactList(), bytes(16), "test"), Counters(), vad, 111, None)
    floor = make_floor(config, vad)
    said = phrase(load(clip))
    frames = [*[silence()] * BEFORE, *said.frames, *[silence()] * 100]
    delays = np.random.default_rng(7).exponential(jitter_ms * MS, len(frames)) if jitter_ms else np.zeros(len(frames))
    arrivals = sorted((round((k + 1) * FRAME_NS + LINK_NS + delays[k]), k) for k in range(len(frames)))
    events: list[TurnEvent] = []
    for tick in range(len(frames) + 50):
        due = tick * FRAME_NS + 7 * MS
        while arrivals and arrivals[0][0] <= due:
            at, k = arrivals.pop(0)
            rtp = struct.pack("!BBHII", 0x80, 111, k, k * 960, 5) + frames[k].payload
            voice.received(rtp, 100, UTC_NS + at, at)
        heard = voice.tick(due, due, UTC_NS + due)
        if heard is not None:
            outputs = floor.user_frame(UTC_NS + due, heard.at_ns, heard.audio_ms, heard.speech)
            events += [output for output in outputs if isinstance(output, TurnEvent)]
    (stopped,) = [event for event in events if event.kind == "user_speech_stopped"]
    true_ns = UTC_NS + LINK_NS + BEFORE * FRAME_NS + said.spans[-1][1] * MS // 48
    assert abs(stopped.at_ns - true_ns) <= 25 * MS
