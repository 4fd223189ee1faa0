"""Content-Encoding both ways: what clients may send compressed, and what they get compressed.

Decoders are readers that never hold more than a buffer, so a small body cannot unfold into all of memory.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Protocol

import cramjam
import lz4.frame  # type: ignore[import-untyped]
import zstandard

from sidetone.store.errors import StoreError

# In ClickHouse's order of preference (src/IO/CompressionMethod.cpp).
PREFERENCE = ("zstd", "br", "lz4", "gzip", "deflate")
_FEED = 16_384
_BROTLI_MAX = 256 << 20


class Reader(Protocol):
    """The part of a binary file that is needed."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


class Encoder(Protocol):
    """A streaming compressor."""

    def feed(self, data: bytes) -> bytes:
        """Compress; may give nothing yet."""

    def finish(self) -> bytes:
        """What is left, and the end of the stream."""


class _Deflate(io.RawIOBase):
    """zlib-wrapped deflate as a reader."""

    def __init__(self, source: Reader) -> None:
        self._source, self._zlib = source, zlib.decompressobj()

    def read(self, size: int = -1, /) -> bytes:
        while not self._zlib.eof:
            data = self._zlib.unconsumed_tail or self._source.read(_FEED)
            if not data:
                raise EOFError("the deflate stream ends early")
            if out := self._zlib.decompress(data, size):
                return out
        return b""


class _Brotli(io.RawIOBase):
    """Brotli as a reader. The library decodes only in one piece, so the piece is bounded here."""

    def __init__(self, source: Reader) -> None:
        self._source, self._out = source, io.BytesIO()
        self._decoded = False

    def read(self, size: int = -1, /) -> bytes:
        if not self._decoded:
            packed = b"".join(iter(lambda: self._source.read(_FEED), b""))
            self._out, self._decoded = io.BytesIO(_unbrotli(packed)), True
        return self._out.read(size)


def _unbrotli(packed: bytes) -> memoryview:
    for size in (_BROTLI_MAX >> 8, _BROTLI_MAX >> 4, _BROTLI_MAX):
        room = bytearray(size)
        try:
            return memoryview(room)[: cramjam.brotli.decompress_into(packed, room)]
        except (OSError, cramjam.DecompressionError) as error:
            if size == _BROTLI_MAX:
                raise StoreError(
                    354, f"Cannot decode the br body, or it is over {_BROTLI_MAX >> 20} MiB decoded; send zstd instead."
                ) from error
    raise AssertionError


_READERS: dict[str, Callable[[Reader], Reader]] = {
    "identity": lambda source: source,
    "gzip": lambda source: gzip.GzipFile(fileobj=source),  # type: ignore[call-overload]
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": lambda source: zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True),  # type: ignore[arg-type]
    "lz4": lambda source: lz4.frame.LZ4FrameFile(source, mode="rb"),
}


def decoder(encoding: str, source: Reader) -> Reader:
    """A reader of `source` decoded.

    Raises:
        StoreError: an encoding that is not supported.
    """
    make = _READERS.get(encoding.strip().lower() or "identity")
    if make is None:
        raise StoreError(
            48, f"Unknown Content-Encoding: {encoding!r}. Send one of {', '.join(sorted(_READERS))} instead."
        )
    return make(source)


# What a broken compressed body raises, over all decoders.
DECODE_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    zlib.error,
    zstandard.ZstdError,
    cramjam.DecompressionError,
)


class _Zlib:
    def __init__(self, wbits: int) -> None:
        # Level 3 is ClickHouse's http_zlib_compression_level.
        self._zlib = zlib.compressobj(level=3, wbits=wbits)

    def feed(self, data: bytes) -> bytes:
        return self._zlib.compress(data)

    def finish(self) -> bytes:
        return self._zlib.flush()


class _Zstd:
    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=1).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._zstd.compress(data)

    def finish(self) -> bytes:
        return self._zstd.flush()


class _Lz4:
    def __init__(self) -> None:
        self._lz4 = lz4.frame.LZ4FrameCompressor()
        self._head: bytes = self._lz4.begin()

    def feed(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._lz4.compress(data))

    def finish(self) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._lz4.flush())


class _BrotliEncoder:
    def __init__(self) -> None:
        self._brotli = cramjam.brotli.Compressor(level=1)

    def feed(self, data: bytes) -> bytes:
        self._brotli.compress(data)
        return bytes(self._brotli.flush())

    def finish(self) -> bytes:
        return bytes(self._brotli.finish())


_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "zstd": _Zstd,
    "br": _BrotliEncoder,
    "lz4": _Lz4,
    "gzip": lambda: _Zlib(31),
    "deflate": lambda: _Zlib(15),
}


def choose(accept: str) -> str | None:
    """The encoding for a response, by ClickHouse's preference among those accepted."""
    accepted = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    return next((name for name in PREFERENCE if name in accepted), None)


def encoder(name: str) -> Encoder:
    """A fresh compressor of a name that `choose` gave."""
    return _ENCODERS[name]()
