"""Stream statistics by column against packet by packet, over the same voice stream, clean and spoiled."""

from __future__ import annotations

import numpy as np

from bench.harness import Work, arguments, report, rounds
from voice.netem import PROFILES, Link
from voice.sequence import StreamStats

PACKETS = 50_000
PACKET_NS = 20_000_000
FRAME_TS = 960
PROFILE = "hotel-wifi"


def stream(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequence numbers, timestamps and times of arrival of a stream over a network, in order of arrival."""
    link = Link(PROFILES[name].up, seed=1)
    arrivals = sorted((at, seq) for seq in range(PACKETS) for at in link.send(seq * PACKET_NS, 120))
    seq = np.array([seq for _, seq in arrivals])
    return (
        (seq % 65_536).astype(np.uint16),
        (seq * FRAME_TS % 2**32).astype(np.uint32),
        np.array([at for at, _ in arrivals], np.int64),
    )


def main() -> None:
    """Print packets per CPU-second of both forms and their ratio."""
    options = arguments(__doc__ or "").parse_args()
    streams = {"clean": stream("perfect"), "spoiled": stream(PROFILE)}

    def by_column(name: str) -> Work:
        columns = streams[name]
        StreamStats().receive_many(*columns)
        return Work(len(columns[0]))

    def one_by_one(name: str) -> Work:
        columns = streams[name]
        receive = StreamStats().receive
        for seq, rtp_ts, arrival_ns in zip(*(column.tolist() for column in columns), strict=True):
            receive(seq, rtp_ts, arrival_ns)
        return Work(len(columns[0]))

    found = rounds(
        {
            "clean_many": lambda: by_column("clean"),
            "clean_one": lambda: one_by_one("clean"),
            "spoiled_many": lambda: by_column("spoiled"),
            "spoiled_one": lambda: one_by_one("spoiled"),
        },
        options.rounds,
    )
    report(
        {
            "clean_ratio": found["clean_many"].per_cpu_s / found["clean_one"].per_cpu_s,
            "spoiled_ratio": found["spoiled_many"].per_cpu_s / found["spoiled_one"].per_cpu_s,
            **{f"{name}_packets_per_cpu_s": median.per_cpu_s for name, median in found.items()},
        },
        options.json,
    )


if __name__ == "__main__":
    main()
