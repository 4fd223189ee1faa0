import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidetone.store.encoding import DECODE_ERRORS, PREFERENCE, choose, decoder, encoder
from sidetone.store.errors import StoreError
from sidetone.store.multipart import Part, parse_multipart
from sidetone.store.spool import Spool


def unpack(encoding: str, data: bytes, size: int = 1000) -> bytes:
    reader = decoder(encoding, io.BytesIO(data))
    return b"".join(iter(lambda: reader.read(size), b""))


@pytest.mark.parametrize("name", PREFERENCE)
@given(st.lists(st.binary(max_size=2000), max_size=5))
@settings(max_examples=20, deadline=None)
def test_what_is_encoded_decodes(name: str, chunks: list[bytes]) -> None:
    packer = encoder(name)
    packed = b"".join(packer.feed(chunk) for chunk in chunks) + packer.finish()
    assert unpack(name, packed) == b"".join(chunks)


@pytest.mark.parametrize("name", ["zstd", "lz4", "gzip"])
def test_streams_may_follow_one_another(name: str) -> None:
    packed = b""
    for part in (b"one", b"two" * 10_000):
        packer = encoder(name)
        packed += packer.feed(part) + packer.finish()
    assert unpack(name, packed) == b"one" + b"two" * 10_000


@pytest.mark.parametrize("name", PREFERENCE)
def test_a_reader_gives_no_more_than_asked(name: str) -> None:
    packer = encoder(name)
    packed = packer.feed(bytes(5_000_000)) + packer.finish()
    assert len(packed) < 50_000
    reader = decoder(name, io.BytesIO(packed))
    assert 0 < len(reader.read(1000)) <= 1000


@pytest.mark.parametrize("name", PREFERENCE)
def test_garbage_is_a_decoding_error(name: str) -> None:
    with pytest.raises((*DECODE_ERRORS, StoreError)):
        unpack(name, b"this is not compressed at all")


def test_an_unknown_encoding_names_those_known() -> None:
    with pytest.raises(StoreError, match="zstd"):
        decoder("snappy", io.BytesIO())


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("", None), ("identity", None), ("lz4,zstd,gzip", "zstd"), ("gzip;q=1.0, deflate", "gzip"), ("LZ4", "lz4")],
)
def test_the_preferred_encoding_is_chosen(accept: str, expected: str | None) -> None:
    assert choose(accept) == expected


@pytest.mark.parametrize("size", [0, 10, 1 << 20, (1 << 20) + 1, (64 << 20) + 5])
def test_a_spool_gives_back_what_it_took(tmp_path: Path, size: int) -> None:
    piece = os.urandom(1 << 20)
    with Spool(tmp_path) as spool:
        for start in range(0, size, len(piece)):
            spool.write(piece[: min(len(piece), size - start)])
        assert spool.size == size
        assert spool.blocking is (size > 64 << 20)
        tail = spool.read(max(0, size - 10), 100)
        assert len(tail) == min(size, 10)
        with open(f"/dev/fd/{spool.descriptor()}", "rb") as again:  # noqa: PTH123 - as the engine opens it
            assert again.seek(0, os.SEEK_END) == size
        assert spool.read(max(0, size - 10), 100) == tail
    assert not list(tmp_path.iterdir())


FORM = (
    b'--b0\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n'
    b'--b0\r\nContent-Disposition: form-data; name="t"; filename="t.csv"\r\n'
    b"Content-Type: text/csv\r\n\r\n1\r\n2\r\n\r\n"
    b"--b0--\r\n"
)


def test_a_form_has_values_and_files() -> None:
    assert parse_multipart("multipart/form-data; boundary=b0", FORM) == [
        Part("query", is_file=False, data=b"SELECT 1"),
        Part("t", is_file=True, data=b"1\r\n2\r\n"),
    ]


@given(st.integers(0, len(FORM) - 5))
def test_a_form_cut_short_is_refused(length: int) -> None:
    with pytest.raises(StoreError):
        parse_multipart("multipart/form-data; boundary=b0", FORM[:length])
    with pytest.raises(StoreError):
        parse_multipart("multipart/form-data", FORM)
