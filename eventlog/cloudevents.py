"""A chunk's name and seal: CloudEvents 1.0 attributes as message headers (Kafka binding, binary mode).

`ce_sequence` is gapless from 0 per `ce_source` and `ce_type`, so that a reader notices a chunk lost before the log.
`crc32c` covers the message's value. The same chunk sent twice carries the same headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import crc32c
import pyarrow as pa

from eventlog.codec import ChunkError, decode
from eventlog.port import Message
from eventlog.schema import BY_CE_TYPE, FactType

CONTENT_TYPE: Final = "application/vnd.apache.arrow.stream"
_SECOND_NS: Final = 1_000_000_000
_MAX_UINT64: Final = 2**64 - 1
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z", re.ASCII)
_DIGITS: Final = re.compile(r"\d{1,20}", re.ASCII)
_CRC: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """What a chunk's headers say.

    Attributes:
        ce_id: unique within the source; source and id together name the chunk.
        source: producer, unique per process start.
        type: CloudEvents type, version included.
        sequence: gapless from 0 per source and type.
        rows: number of facts.
        crc32c: CRC-32C (RFC 3720, B.4) of the value.
        time_ns: when the chunk was made, UTC nanoseconds.

    """

    ce_id: str
    source: str
    type: str
    sequence: int
    rows: int
    crc32c: int
    time_ns: int


def headers(fact: FactType, source: str, sequence: int, rows: int, data: bytes, time_ns: int) -> dict[str, str]:
    """Return the headers of a chunk. `data` is the encoded chunk, `time_ns` when it was made (UTC)."""
    return {
        "ce_specversion": "1.0",
        "ce_id": f"{fact.name}-{sequence}",
        "ce_source": source,
        "ce_type": fact.ce_type,
        "ce_time": _format_time(time_ns),
        # The CloudEvents sequence extension asks for strings that sort as the numbers do.
        "ce_sequence": f"{sequence:020d}",
        "content-type": CONTENT_TYPE,
        "rows": str(rows),
        "crc32c": f"{crc32c.crc32c(data):08x}",
    }


def parse(headers: Mapping[str, str]) -> ChunkHeader:
    """Read the headers of a chunk.

    Raises:
        ChunkError: `bad_header`; the detail names the header.

    """
    for name, wanted in (("ce_specversion", "1.0"), ("content-type", CONTENT_TYPE)):
        if (found := _text(headers, name)) != wanted:
            raise ChunkError("bad_header", f"{name} is {found!r}, should be {wanted!r}")
    checksum = _text(headers, "crc32c")
    if not _CRC.fullmatch(checksum):
        raise ChunkError("bad_header", f"crc32c is {checksum!r}, should be 8 hexadecimal digits")
    return ChunkHeader(
        ce_id=_text(headers, "ce_id"),
        source=_text(headers, "ce_source"),
        type=_text(headers, "ce_type"),
        sequence=_number(headers, "ce_sequence"),
        rows=_number(headers, "rows"),
        crc32c=int(checksum, 16),
        time_ns=_parse_time(_text(headers, "ce_time")),
    )


def open_chunk(message: Message) -> tuple[FactType, ChunkHeader, pa.RecordBatch]:
    """Verify a message in full (type, topic, checksum, schema, number of rows) and unpack it.

    Raises:
        ChunkError: the message is no valid chunk; nothing else is raised for whatever it holds.

    """
    header = parse(message.headers)
    fact = BY_CE_TYPE.get(header.type)
    if fact is None:
        raise ChunkError("unknown_type", f"ce_type {header.type!r} is not one of {sorted(BY_CE_TYPE)}")
    if message.where.topic != fact.topic:
        raise ChunkError("wrong_topic", f"{fact.name} facts are on {message.where.topic}, belong on {fact.topic}")
    actual = crc32c.crc32c(message.value)
    if actual != header.crc32c:
        raise ChunkError("bad_checksum", f"crc32c of the value is {actual:08x}, the header says {header.crc32c:08x}")
    batch = decode(fact, message.value)
    if batch.num_rows != header.rows:
        raise ChunkError("bad_row_count", f"{batch.num_rows} rows in the chunk, the header says {header.rows}")
    return fact, header, batch


def _format_time(time_ns: int) -> str:
    seconds, fraction = divmod(time_ns, _SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _parse_time(text: str) -> int:
    if match := _TIME.fullmatch(text):
        try:
            seconds = int(datetime.fromisoformat(f"{match[1]}+00:00").timestamp())
        except ValueError:
            pass  # such as the 30th of February: refused below
        else:
            return seconds * _SECOND_NS + int(match[2])
    raise ChunkError("bad_header", f"ce_time is {text!r}, should be like 2026-01-31T09:30:00.123456789Z")


def _text(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise ChunkError("bad_header", f"{name} is missing")
    return value


def _number(headers: Mapping[str, str], name: str) -> int:
    text = _text(headers, name)
    if not _DIGITS.fullmatch(text) or int(text) > _MAX_UINT64:
        raise ChunkError("bad_header", f"{name} is {text!r}, should be a number below 2**64")
    return int(text)
