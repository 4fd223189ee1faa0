from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from relay import opus
from relay.models import FRAME_SAMPLES, Pcm
from relay.speech import load
from relay.transceiver.decimate import Decimator
from relay.transceiver.send import SETTLED_FRAMES, AgentVoice, Packet
from voice.opus import duration_ms, has_fec
from voice.rtp import parse_header, payload
from voice.sender import SenderSettings
from voice.vad import level_dbov

SETTINGS = SenderSettings(32_000, fec=True, expected_loss_percent=10, ptime_ms=20)


def packets(level_id: int | None) -> list[Packet]:
    voice = AgentVoice(111, level_id, settings=SETTINGS, voiced_dbov=-55.0)
    pcm = load("agent_hours").pcm
    speech = [pcm[at : at + FRAME_SAMPLES] for at in range(0, FRAME_SAMPLES * 20, FRAME_SAMPLES)]
    made = made_of(voice, [None, None, *speech, None, None, speech[0]])
    voice.skip(3)
    return [*made, *made_of(voice, [None])]


def made_of(voice: AgentVoice, frames: Iterable[Pcm | None]) -> list[Packet]:
    """The packets that frames make, in order."""
    return [packet for packet in map(voice.packet, frames) if packet is not None]


@pytest.mark.parametrize("level_id", [None, 1, 14])
def test_header_is_what_it_says_it_is(level_id: int | None) -> None:
    for packet in packets(level_id):
        assert parse_header(packet.data, level_id) == packet.header
        assert payload(packet.data, packet.header) == packet.payload
        if level_id is not None:
            assert packet.header.audio_level_dbov == round(packet.level_dbov)
            assert packet.header.voice_activity is packet.voiced


def test_stream_has_no_gaps_and_marks_the_start_of_speech() -> None:
    made = packets(1)
    numbers = [packet.header.sequence_number for packet in made]
    times = [packet.header.timestamp for packet in made]
    assert np.diff(np.unwrap(numbers, period=2**16)).tolist() == [1] * (len(made) - 1)
    assert np.diff(np.unwrap(times, period=2**32)).tolist() == [960] * (len(made) - 2) + [4 * 960]
    marked = [number for number, packet in enumerate(made) if packet.header.marker]
    assert marked[0] == 2
    assert marked[-1] == 24
    assert not made[0].voiced
    assert made[2].voiced


def test_opus_keeps_a_voice_recognisable_and_refuses_nonsense() -> None:
    encoder, decoder = opus.Encoder(64_000), opus.Decoder()
    pcm = load("agent_hours").pcm[: 960 * 50].astype(np.int16)
    out = np.concatenate([decoder.decode(encoder.encode(frame)) for frame in pcm.reshape(-1, 960)])
    best = max(np.corrcoef(pcm[:40_000], out[shift : shift + 40_000])[0, 1] for shift in range(0, 800, 4))
    assert best > 0.9
    assert decoder.conceal().shape == (960,)
    with pytest.raises(opus.OpusError, match="libopus"):
        decoder.decode(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="960"):
        encoder.encode(pcm[:100])
    assert opus.version().startswith("libopus")
    assert opus.packet_samples(encoder.encode(pcm[:960])) == 960


@pytest.mark.parametrize(("hertz", "kept"), [(300, True), (6_000, True), (10_000, False), (15_000, False)])
def test_decimator_passes_speech_and_stops_what_would_fold_over_it(hertz: int, kept: bool) -> None:
    decimate = Decimator()
    wave = (10_000 * np.sin(2 * np.pi * hertz * np.arange(48_000) / 48_000)).astype(np.int16)
    out = np.concatenate([decimate(frame) for frame in wave.reshape(-1, 960)])
    assert out.shape == (16_000,)
    gain_db = 20 * np.log10(np.std(out[500:]) / np.std(wave) + 1e-9)
    assert gain_db > -1.5 if kept else gain_db < -35


def test_decimator_does_not_notice_frame_borders() -> None:
    wave = np.random.default_rng(1).integers(-9000, 9000, 9600).astype(np.int16)
    early, late = Decimator(), Decimator()
    one = np.concatenate([early(frame) for frame in wave.reshape(-1, 960)])
    shifted = np.concatenate((np.zeros(480, np.int16), wave[:-480]))
    other = np.concatenate([late(frame) for frame in shifted.reshape(-1, 960)])
    assert np.array_equal(one[:-160], other[160:])


def test_settled_silence_is_repeated_and_silent_and_speech_comes_back_whole() -> None:
    voice = AgentVoice(111, 1, settings=SETTINGS, voiced_dbov=-55.0)
    decoder = opus.Decoder()
    pcm = load("agent_hours").pcm
    speech = [pcm[at : at + FRAME_SAMPLES] for at in range(0, FRAME_SAMPLES * 50, FRAME_SAMPLES)]
    heard = [decoder.decode(packet.payload) for packet in made_of(voice, [*speech, *[None] * 100, *speech])]
    levels = [level_dbov(frame) for frame in heard]
    assert max(levels[60:150]) < -60
    assert abs(level_dbov(np.concatenate(heard[:50])) - level_dbov(np.concatenate(heard[150:]))) < 1


def speech_frames(count: int) -> list[Pcm]:
    pcm = np.tile(load("agent_hours").pcm, 3)
    return [pcm[at : at + FRAME_SAMPLES] for at in range(0, FRAME_SAMPLES * count, FRAME_SAMPLES)]


@pytest.mark.parametrize("ptime_ms", [40, 60])
def test_longer_packets_hold_several_frames_and_keep_time(ptime_ms: int) -> None:
    voice = AgentVoice(111, 1, settings=SETTINGS, voiced_dbov=-55.0)
    short = made_of(voice, speech_frames(4))
    voice.configure(replace(SETTINGS, ptime_ms=ptime_ms))
    long = made_of(voice, speech_frames(60))
    voice.configure(SETTINGS)
    made = [*short, *long, *made_of(voice, speech_frames(4))]
    assert len(long) == 60 * 20 // ptime_ms
    assert {duration_ms(packet.payload) for packet in long} == {ptime_ms}
    steps = np.diff(np.unwrap([packet.header.timestamp for packet in made], period=2**32))
    assert steps.tolist() == [960] * 4 + [ptime_ms * 48] * len(long) + [960] * 3
    assert np.diff(np.unwrap([p.header.sequence_number for p in made], period=2**16)).tolist() == [1] * (len(made) - 1)


def test_redundancy_and_rate_follow_the_settings() -> None:
    voice = AgentVoice(111, 1, settings=SETTINGS, voiced_dbov=-55.0)
    rich = made_of(voice, speech_frames(100))
    voice.configure(replace(SETTINGS, fec=False, expected_loss_percent=0))
    plain = made_of(voice, speech_frames(100))
    voice.configure(SenderSettings(12_000, fec=False, expected_loss_percent=0, ptime_ms=20))
    poor = made_of(voice, speech_frames(100))
    assert sum(has_fec(packet.payload) for packet in rich) > 50
    assert sum(has_fec(packet.payload) for packet in plain[2:]) == 0
    assert sum(len(p.payload) for p in poor[10:]) < 0.6 * sum(len(p.payload) for p in plain[10:])


def test_dtx_leaves_packets_out_and_time_goes_on() -> None:
    voice = AgentVoice(111, 1, settings=SETTINGS, voiced_dbov=-55.0, dtx=True)
    first = made_of(voice, [*speech_frames(20), *[None] * 125])
    then = made_of(voice, speech_frames(5))
    assert len(first) == 20 + 25 + 5  # settling, then one in 400 ms
    between = (then[0].header.timestamp - first[0].header.timestamp) % 2**32
    assert between == 145 * 960
    assert (then[0].header.sequence_number - first[-1].header.sequence_number) % 2**16 == 1
    assert then[0].header.marker


def test_what_was_gathered_is_given_up_when_time_is_skipped() -> None:
    voice = AgentVoice(111, 1, settings=replace(SETTINGS, ptime_ms=40), voiced_dbov=-55.0)
    (first,) = made_of(voice, speech_frames(3))
    voice.skip(2)
    (then,) = made_of(voice, speech_frames(2))
    assert (then.header.timestamp - first.header.timestamp) % 2**32 == 5 * 960


@pytest.mark.parametrize("ptime_ms", [20, 40, 60])
def test_timestamp_of_the_next_frame_goes_on_with_time_whatever_the_packets_hold(ptime_ms: int) -> None:
    voice = AgentVoice(111, None, settings=replace(SETTINGS, ptime_ms=ptime_ms), voiced_dbov=-55.0)
    tone = load("agent_hours").pcm[:FRAME_SAMPLES]
    times = []
    for frame in [tone] * 20 + [None] * 60:
        times.append(voice.timestamp)
        voice.packet(frame)
    assert np.diff(np.unwrap(times, period=2**32)).tolist() == [FRAME_SAMPLES] * 79


def test_no_packet_is_empty_if_time_was_given_up_just_before_silence_settled() -> None:
    voice = AgentVoice(111, None, settings=replace(SETTINGS, ptime_ms=60), voiced_dbov=-55.0)
    made = made_of(voice, [None] * SETTLED_FRAMES)
    voice.skip(20)
    made += made_of(voice, [None] * 60)
    assert all(packet.payload for packet in made)
