"""libopus, as much of it as a call needs: 20 ms mono frames, in-band FEC, packet loss concealment.

PyAV decodes Opus too, but neither conceals a lost packet nor reads the redundancy that the next one carries. Its wheel
ships the very library, so we load that one and fall back to the system's. Bound in cffi's ABI mode: nothing to compile.

Constants are those of `opus_defines.h` (RFC 6716 describes the codec; the API is libopus 1.1 and later).
"""

from __future__ import annotations

import ctypes.util
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cffi import FFI

SAMPLE_RATE: Final = 48_000
FRAME_SAMPLES: Final = 960
PACKET_BYTES_MAX: Final = 1_275  # RFC 6716, section 3.2.1: one frame

Pcm = npt.NDArray[np.int16]

_PACKET_SAMPLES: Final = (FRAME_SAMPLES, 2 * FRAME_SAMPLES, 3 * FRAME_SAMPLES)
_DECODED_SAMPLES_MAX: Final = 5_760  # 120 ms, the longest packet
_APPLICATION_VOIP: Final = 2048
_SET_BITRATE: Final = 4002
_SET_COMPLEXITY: Final = 4010
_SET_INBAND_FEC: Final = 4012
_SET_PACKET_LOSS_PERC: Final = 4014
_SET_SIGNAL: Final = 4024
_SIGNAL_VOICE: Final = 3001

_DECLARATIONS: Final = """
typedef struct OpusEncoder OpusEncoder;
typedef struct OpusDecoder OpusDecoder;
OpusEncoder *opus_encoder_create(int32_t rate, int channels, int application, int *error);
void opus_encoder_destroy(OpusEncoder *encoder);
int32_t opus_encode(OpusEncoder *encoder, const int16_t *pcm, int frame_samples, unsigned char *data, int32_t max);
int opus_encoder_ctl(OpusEncoder *encoder, int request, ...);
OpusDecoder *opus_decoder_create(int32_t rate, int channels, int *error);
void opus_decoder_destroy(OpusDecoder *decoder);
int opus_decoder_get_size(int channels);
int opus_decode(OpusDecoder *decoder, const unsigned char *data, int32_t bytes, int16_t *pcm, int samples, int fec);
int opus_packet_get_nb_samples(const unsigned char *data, int32_t bytes, int32_t rate);
const char *opus_strerror(int error);
const char *opus_get_version_string(void);
"""

_ffi: Final = FFI()
_ffi.cdef(_DECLARATIONS)


class OpusError(Exception):
    """libopus refused: a packet is malformed, or an argument out of range."""


class OpusUnavailableError(RuntimeError):
    """No libopus was found on this machine."""


class Encoder:
    """Speech to packets of 20, 40 or 60 ms, mono, with redundancy of what came before when the bit rate allows."""

    def __init__(self, bitrate_bps: int = 32_000, *, expected_loss_percent: int = 10, complexity: int = 5) -> None:
        self._opus = _library()
        error = _ffi.new("int *")
        state = self._opus.opus_encoder_create(SAMPLE_RATE, 1, _APPLICATION_VOIP, error)
        self._check(error[0])
        self._state = _ffi.gc(state, self._opus.opus_encoder_destroy)
        self._packet = _ffi.new("unsigned char[]", PACKET_BYTES_MAX)
        self._set(_SET_COMPLEXITY, complexity)
        self._set(_SET_SIGNAL, _SIGNAL_VOICE)
        self.configure(bitrate_bps, fec=True, expected_loss_percent=expected_loss_percent)

    def configure(self, bitrate_bps: int, *, fec: bool, expected_loss_percent: int) -> None:
        """Change how the next packets are made.

        Raises:
            OpusError: a value out of range (libopus takes 500 to 512,000 bit/s, 0 to 100 %).

        """
        self._set(_SET_BITRATE, bitrate_bps)
        self._set(_SET_INBAND_FEC, int(fec))
        self._set(_SET_PACKET_LOSS_PERC, expected_loss_percent)

    def _set(self, request: int, value: int) -> None:
        self._check(self._opus.opus_encoder_ctl(self._state, request, _ffi.cast("int32_t", value)))

    def encode(self, pcm: Pcm) -> bytes:
        """Encode one, two or three times `FRAME_SAMPLES` samples.

        Raises:
            OpusError: libopus refused.
            ValueError: the frame has another length.

        """
        if pcm.ndim != 1 or pcm.size not in _PACKET_SAMPLES or pcm.dtype != np.int16:
            raise ValueError(
                f"a frame is {FRAME_SAMPLES} int16 samples or 2 or 3 times it, not {pcm.shape} {pcm.dtype}"
            )
        samples = _ffi.from_buffer("int16_t[]", np.ascontiguousarray(pcm).data)
        size = self._opus.opus_encode(self._state, samples, pcm.size, self._packet, PACKET_BYTES_MAX)
        self._check(size)
        return bytes(_ffi.buffer(self._packet, size))

    def _check(self, code: int) -> None:
        _check(self._opus, code)


class Decoder:
    """Packets to speech, mono at 48 kHz, whatever the sender's channels and bandwidth."""

    def __init__(self) -> None:
        self._opus = _library()
        error = _ffi.new("int *")
        state = self._opus.opus_decoder_create(SAMPLE_RATE, 1, error)
        _check(self._opus, error[0])
        self._state = _ffi.gc(state, self._opus.opus_decoder_destroy)
        self._pcm = np.zeros(_DECODED_SAMPLES_MAX, np.int16)
        self._out = _ffi.from_buffer("int16_t[]", self._pcm.data)
        self._marked = _ffi.new("char[]", self._opus.opus_decoder_get_size(1))
        self.mark()

    def decode(self, packet: bytes) -> Pcm:
        """Decode a packet to as many samples as it holds.

        Raises:
            OpusError: the packet is malformed.

        """
        return self._decode(_ffi.from_buffer("unsigned char[]", packet), len(packet), _DECODED_SAMPLES_MAX, 0)

    def recover(self, next_packet: bytes, samples: int = FRAME_SAMPLES) -> Pcm:
        """Decode what was lost from the redundancy in the packet after it; concealment where it carries none.

        `samples` must be the length of that packet's first frame at least; what it exceeds it by is concealed.

        Raises:
            OpusError: the packet is malformed, or `samples` is no multiple of 2.5 ms.

        """
        return self._decode(_ffi.from_buffer("unsigned char[]", next_packet), len(next_packet), samples, 1)

    def conceal(self, samples: int = FRAME_SAMPLES) -> Pcm:
        """Invent what was lost from what came before it.

        Raises:
            OpusError: `samples` is no multiple of 2.5 ms, or more than 120 ms.

        """
        return self._decode(_ffi.NULL, 0, samples, 0)

    def mark(self) -> None:
        """Remember what has been decoded up to here; libopus' state is flat memory, to be copied at will."""
        _ffi.memmove(self._marked, self._state, len(self._marked))

    def rewind(self) -> None:
        """Forget all that was decoded or invented since `mark`."""
        _ffi.memmove(self._state, self._marked, len(self._marked))

    def _decode(self, data: Any, size: int, samples: int, fec: int) -> Pcm:
        count = self._opus.opus_decode(self._state, data, size, self._out, samples, fec)
        _check(self._opus, count)
        return self._pcm[:count].copy()


def version() -> str:
    """Return the library's own name and version, such as `libopus 1.6`."""
    return _text(_library().opus_get_version_string())


def packet_samples(packet: bytes) -> int:
    """Return how many samples at 48 kHz a packet holds; 0 if it is malformed."""
    return max(0, int(_library().opus_packet_get_nb_samples(packet, len(packet), SAMPLE_RATE)))


def _check(opus: Any, code: int) -> None:
    if code < 0:
        raise OpusError(f"libopus: {_text(opus.opus_strerror(code))}")


def _text(string: Any) -> str:
    raw: Any = _ffi.string(string)
    return str(raw, "ascii")


@cache
def _library() -> Any:
    """Load libopus once.

    Raises:
        OpusUnavailableError: there is none.

    """
    tried = []
    for candidate in _candidates():
        try:
            return _ffi.dlopen(candidate)
        except OSError as error:
            tried.append(f"{candidate} ({error})")
    raise OpusUnavailableError(
        "libopus was not found: neither in PyAV's wheel nor on the system "
        f"(tried: {'; '.join(tried) or 'nothing'}). Install it, on Debian and Ubuntu with: apt-get install libopus0"
    )


def _candidates() -> list[str]:
    spec = find_spec("av")
    bundled: list[Path] = []
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        # auditwheel puts a wheel's libraries beside the package, delocate (macOS) inside it.
        bundled = [
            *sorted((package.parent / "av.libs").glob("libopus-*")),
            *sorted((package / ".dylibs").glob("libopus*")),
        ]
    system = ctypes.util.find_library("opus")
    return [*map(str, bundled), *([system] if system else [])]
