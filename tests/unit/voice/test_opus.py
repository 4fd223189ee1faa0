"""What is read from Opus packets, against packets that libopus made."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from hypothesis import given, settings
from hypothesis import strategies as st

from voice.opus import duration_ms, frame_ms, has_fec, is_voiced

SAMPLES = 960


def encode(
    *, fec: bool, frames: int = 100, layout: str = "mono", application: str = "voip", bit_rate: int = 24_000
) -> list[bytes]:
    """Speech-like sound as Opus packets of 20 ms."""
    codec = AudioCodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = 48_000, layout, "s16", bit_rate
    codec.time_base = Fraction(1, 48_000)
    codec.options = {
        "application": application,
        "fec": "1" if fec else "0",
        "packet_loss": "20" if fec else "0",
        "frame_duration": "20",
    }
    rng = np.random.default_rng(1)
    channels = 2 if layout == "stereo" else 1
    packets: list[bytes] = []
    for index in range(frames):
        at = (np.arange(SAMPLES) + index * SAMPLES) / 48_000
        voice = sum(np.sin(2 * np.pi * 140 * n * at) / n for n in range(1, 20)) * (1 + np.sin(2 * np.pi * 4 * at))
        pcm = (4000 * voice + rng.normal(0, 50, SAMPLES)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(pcm, channels).reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, index * SAMPLES, Fraction(1, 48_000)
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_packets_with_fec_say_so(layout: str) -> None:
    with_fec = [has_fec(packet) for packet in encode(fec=True, layout=layout)]
    assert sum(with_fec[10:]) > 0.8 * len(with_fec[10:])
    assert not with_fec[0]
    assert not any(has_fec(packet) for packet in encode(fec=False, layout=layout))


def test_celt_has_no_fec() -> None:
    assert not any(has_fec(packet) for packet in encode(fec=True, application="lowdelay", bit_rate=96_000))


def test_durations_of_real_packets() -> None:
    assert {duration_ms(packet) for packet in encode(fec=False, frames=10)} == {20.0}


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"", None),
        (b"\x00", 10.0),
        (b"\x18", 60.0),
        (b"\x60", 10.0),
        (b"\x80", 2.5),
        (b"\xf9", 40.0),
        (b"\xfb\x03", 60.0),
        (b"\xfb", None),
        (b"\xfb\x00", None),
        (b"\x1b\x03", None),  # 180 ms: longer than a packet may be
    ],
)
def test_durations(packet: bytes, expected: float | None) -> None:
    assert duration_ms(packet) == expected


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"\x08\x40", True),  # 20 ms: one voice flag, then the LBRR flag
        (b"\x08\x80", False),
        (b"\x18\x10", True),  # 60 ms: three voice flags first
        (b"\x18\xe0", False),
        (b"\x0c\x10", True),  # stereo: the side channel's flag
        (b"\x0a\x01\x40\x00", True),  # two frames, the first of one octet
        (b"\x0a\x00\x40", False),  # the first frame is empty
        (b"\x0b\x41\x02\x40\x00\x00", True),  # one frame, padded
        (b"\x0b\x82\x01\x40\x00", True),  # two frames of different size
        (b"\x0b", False),
        (b"\x08", False),
        (b"", False),
    ],
)
def test_fec_flags_of_every_framing(packet: bytes, expected: bool) -> None:
    assert has_fec(packet) is expected


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"\x08\x80", True),
        (b"\x08\x40", False),
        (b"\x18\x20", True),  # the last of 60 ms
        (b"\x80\xff", None),  # CELT has no flags
        (b"\x08", False),  # DTX
        (b"\xf8", False),
        (b"", None),
    ],
)
def test_voice_flags(packet: bytes, expected: bool | None) -> None:
    assert is_voiced(packet) is expected


@settings(deadline=None)
@given(st.binary(max_size=20))
def test_no_bytes_upset_it(packet: bytes) -> None:
    has_fec(packet)
    duration = duration_ms(packet)
    assert duration is None or 2.5 <= duration <= 120.0
    assert all(frame_ms(toc) > 0 for toc in packet[:1])
