"""What is played, with libopus as the decoder."""

from __future__ import annotations

import numpy as np
import pytest

from relay.opus import Decoder, Encoder, OpusError
from voice.playback import FRAME_SAMPLES, Playback
from voice.stretch import OVERLAP

TICK_NS = 20_000_000


def test_a_packet_that_was_waited_for_is_decoded_as_if_nothing_had_been_invented_meanwhile() -> None:
    encoder, decoder = Encoder(), Decoder()
    tone = (8_000 * np.sin(np.arange(20 * FRAME_SAMPLES) * 2 * np.pi * 200 / 48_000)).astype(np.int16)
    payloads = [encoder.encode(frame) for frame in tone.reshape(20, FRAME_SAMPLES)]
    clean = [decoder.decode(payload) for payload in payloads]
    playback = Playback(Decoder(), OpusError)
    played = {}
    for tick in range(24):
        # From the tenth on all come 60 ms later: after two ticks of concealment at least.
        for seq in range(20):
            if tick == seq + (3 if seq >= 10 else 0):
                playback.insert(seq, seq * FRAME_SAMPLES, payloads[seq], tick * TICK_NS)
        frame = playback.pop(tick * TICK_NS, in_speech=True)
        if frame.kind == "played" and frame.rtp_ts is not None:
            played[frame.rtp_ts // FRAME_SAMPLES] = frame.pcm
    assert playback.buffer.counts.concealed > 0
    np.testing.assert_array_equal(played[10][OVERLAP:], clean[10][OVERLAP:])
    np.testing.assert_array_equal(played[11], clean[11])


@pytest.mark.parametrize("leap", [481, 500, 959, 1_201, 4_799])
def test_timestamps_may_leap_by_what_libopus_cannot_make_a_pause_of(leap: int) -> None:
    encoder = Encoder()
    tone = (8_000 * np.sin(np.arange(20 * FRAME_SAMPLES) * 2 * np.pi * 200 / 48_000)).astype(np.int16)
    playback = Playback(Decoder(), OpusError)
    for tick, frame in enumerate(tone.reshape(20, FRAME_SAMPLES)):
        rtp_ts = tick * FRAME_SAMPLES + (leap if tick >= 10 else 0)
        playback.insert(tick, rtp_ts, encoder.encode(frame), tick * TICK_NS)
        assert playback.pop(tick * TICK_NS, in_speech=True).pcm.size == FRAME_SAMPLES
    for tick in range(20, 40):
        playback.pop(tick * TICK_NS, in_speech=True)
    assert (playback.buffer.counts.played, playback.malformed) == (20, 0)
