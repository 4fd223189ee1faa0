"""Chunks against JSON lines: rows per CPU second to make them, and bytes per packet fact.

`python -m bench.chunks --json`. One round takes the packets of some calls, as an edge captures them (columns of numpy
arrays in the order of arrival, several calls interleaved), and turns them into bytes twice: by the emitter's own way
(typing, sorting, unique identities, Arrow IPC with zstd, checksum and headers) and as JSON lines compressed with zstd.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

from bench.harness import Work, arguments, report, rounds
from eventlog import cloudevents
from eventlog.backlog import Block
from eventlog.chunks import Sorter, encoded
from eventlog.codec import decode
from eventlog.columns import Assembly, copied
from eventlog.schema import PACKET

START_NS = 1_790_000_000_000_000_000
PACKET_NS = 20_000_000
LOSS = 0.01


def captured(calls: int, rows: int, seed: int = 1) -> dict[str, Any]:
    """Return packets of `calls` calls, up and down, by order of arrival: 20 ms apart, with jitter and 1 % lost."""
    random = np.random.default_rng(seed)
    streams = 2 * calls
    each = rows // streams
    sent = np.arange(each)
    stream = np.repeat(np.arange(streams), each)
    number = np.tile(sent, streams)
    jitter_us = random.gamma(2.0, 1_500.0, stream.size)
    start_ns = random.integers(0, PACKET_NS, streams)
    observed = START_NS + start_ns[stream] + number * PACKET_NS + (jitter_us * 1_000).astype(np.int64)
    arrival = np.argsort(observed, kind="stable")
    kept = arrival[random.random(arrival.size) >= LOSS]
    stream, number, observed = stream[kept], number[kept], observed[kept]
    talking = (number // 120 + stream) % 2 == 0
    ssrc = random.integers(0, 1 << 32, streams, dtype=np.uint32)
    first = random.integers(0, 1 << 16, streams)
    sessions = np.frombuffer(random.bytes(16 * calls), "V16")
    return {
        "session_id": sessions[stream // 2],
        "region": "eu-west",
        "observed_ns": observed,
        "tap": np.array(["edge_up", "edge_down"])[stream % 2].tolist(),
        "stream": ssrc[stream],
        "ext_seq": first[stream] + number,
        "rtp_ts": ((first[stream] * 977 + number * 960) % (1 << 32)).astype(np.uint32),
        "payload_type": 111,
        "marker": number == 0,
        "size_bytes": np.where(talking, random.integers(70, 120, number.size), random.integers(8, 16, number.size)),
        "audio_level_dbov": np.where(talking, random.integers(-45, -15, number.size), -127).astype(np.int8),
        "voice_activity": talking,
        "transit_delta_us": np.ma.masked_array(random.normal(0, 1_500, number.size).astype(np.int32), number == 0),
        "newly_lost": (random.random(number.size) < LOSS).astype(np.int32),
        "reordered": False,
        "duplicate": False,
    }


def chunked(columns: dict[str, Any], rows: int) -> tuple[int, int]:
    """Make chunks the emitter's way; return `(rows, bytes)`."""
    done = size = 0
    for _, part in Sorter(PACKET).chunks(_batch(copied(PACKET, columns, rows), rows), 1, 65_536):
        for count, data in encoded(PACKET, part):
            headers = cloudevents.headers(PACKET, "bench", 0, count, data, START_NS)
            done += count
            size += len(data) + sum(map(len, headers.values()))
    return done, size


def as_json_lines(columns: dict[str, Any], rows: int) -> tuple[int, int]:
    """Make compressed JSON lines of the same columns, unsorted; return `(rows, bytes)`."""
    lists = [_listed(name, values, rows) for name, values in columns.items()]
    names = list(columns)
    lines = "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in zip(*lists, strict=True))
    return rows, len(zstandard.ZstdCompressor(level=1).compress(lines.encode()))


def _listed(name: str, values: Any, rows: int) -> list[Any]:
    if not isinstance(values, np.ndarray | list):
        return [values] * rows
    if name == "session_id":
        return [value.tobytes().hex() for value in values]
    return values if isinstance(values, list) else list(values.tolist())


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=65_536, help="packets per round (default 65536)")
    parser.add_argument("--calls", type=int, default=50, help="calls that they are of (default 50)")
    options = parser.parse_args()
    columns = captured(options.calls, options.rows)
    rows = len(columns["observed_ns"])
    chunk = next(encoded(PACKET, next(iter(_sorted(columns, rows)))))[1]

    def contender(make: Callable[[dict[str, Any], int], tuple[int, int]]) -> Callable[[], Work]:
        def run() -> Work:
            done, size = make(columns, rows)
            return Work(done, {"bytes_per_fact": size / done})

        return run

    def read() -> Work:
        for _ in range(10):
            decode(PACKET, chunk)
        return Work(10 * rows)

    medians = rounds({"chunks": contender(chunked), "json": contender(as_json_lines), "decode": read}, options.rounds)
    chunks, baseline = medians["chunks"], medians["json"]
    report(
        {
            "rows": rows,
            "calls": options.calls,
            "chunk_rows_per_cpu_second": chunks.per_cpu_s,
            "json_rows_per_cpu_second": baseline.per_cpu_s,
            "encode_ratio": chunks.per_cpu_s / baseline.per_cpu_s,
            "decode_rows_per_cpu_second": medians["decode"].per_cpu_s,
            "chunk_bytes_per_fact": chunks.detail["bytes_per_fact"],
            "json_bytes_per_fact": baseline.detail["bytes_per_fact"],
            "size_ratio": baseline.detail["bytes_per_fact"] / chunks.detail["bytes_per_fact"],
        },
        options.json,
    )


def _batch(columns: Mapping[str, object], rows: int) -> pa.RecordBatch:
    assembly = Assembly(PACKET, "edge-1")
    assembly.add(Block(rows, columns=columns))
    batch = assembly.batch()
    if batch is None or assembly.invalid:
        raise RuntimeError(f"the benchmark's own packets are invalid: {assembly.problem}")
    return batch


def _sorted(columns: dict[str, Any], rows: int) -> list[Any]:
    return [part for _, part in Sorter(PACKET).chunks(_batch(columns, rows), 1, rows)]


if __name__ == "__main__":
    main()
