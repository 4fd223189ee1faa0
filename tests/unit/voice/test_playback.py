"""What is played, with libopus as the decoder."""

from __future__ import annotations

import numpy as np

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
