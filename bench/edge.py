"""How many packets a relay forwards per second of its own CPU: the edge, with a fact for every packet and without.

In the same run: its portable way, the least that an asyncio relay can do, the least that C can do (built when there is
a compiler), and coturn relaying channel data (when it is installed). Each is a process of its own under the same
saturating load; the CPU of the whole process counts, with facts on also that of making chunks and writing them to a
SQLite log. With `--speech` packets are as large as speech makes them, one not as the next; else all are of one size.
`--delay`, `--soak` and `--overload` measure the edge alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from bench import harness
from bench.relays import alone, contenders, serve
from bench.relays.contenders import Contender, Unavailable
from bench.relays.load import BURST, CLIENTS, PACKET_BYTES
from bench.relays.sizes import speech_bytes
from relay.edge import Limits

PACKETS: Final = 800 * BURST
SLOW_PACKETS: Final = 240 * BURST  # for those that take as long for these
PATIENT: Final = Limits(shed_behind_s=3600)  # saturated all the time, and yet a fact for every packet
SETTLE_S: Final = 1.0  # for the facts of a run to be flushed and logged: their CPU counts


def _runner(contender: Contender, packets: int, *, edge: bool, facts: bool) -> Callable[[], harness.Work]:
    def run() -> harness.Work:
        before = contender.counters() if edge else None
        cpu, started = contender.cpu_s(), time.perf_counter()
        arrived = contender.load.saturate(packets)
        wall = time.perf_counter() - started
        if facts:
            time.sleep(SETTLE_S)
        cpu = contender.cpu_s() - cpu
        detail = {"lost": float(packets - arrived)}
        if before is not None:
            after = contender.counters()
            messages = after.messages_up - before.messages_up
            detail["up_together"] = (after.forwarded_up - before.forwarded_up) / max(1, messages)
            if facts:
                detail["facts"] = after.emitted["packet"] - before.emitted["packet"]
        return harness.Work(arrived, wall_s=wall, cpu_s=cpu, detail=detail)

    return run


def compare(rounds: int, *, speech: bool = False) -> dict[str, object]:
    """Run all contenders, interleaved; return medians and ratios. With `speech` sizes vary, as coturn's load cannot."""
    missing: dict[str, str] = {}
    sizes = speech_bytes(2 * BURST) if speech else [PACKET_BYTES]
    with ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="sidetone-bench-"))
        runners = {}
        starts: tuple[tuple[str, int, Callable[[], Contender]], ...] = (
            ("edge_with_facts", PACKETS, lambda: contenders.python(ending, folder, serve.edge, limits=PATIENT)),
            ("edge_without_facts", PACKETS, lambda: contenders.python(ending, folder, serve.edge, packet_facts=False)),
            (
                "portable_with_facts",
                SLOW_PACKETS,
                lambda: contenders.python(ending, folder, serve.edge, compiled=False, limits=PATIENT),
            ),
            ("asyncio", SLOW_PACKETS, lambda: contenders.python(ending, folder, serve.forwarder)),
            ("c", PACKETS, lambda: contenders.c_loop(ending, folder)),
            ("coturn", SLOW_PACKETS, lambda: contenders.coturn(ending, folder)),
        )
        for name, packets, start in starts:
            if speech and name == "coturn":
                missing[name] = "packets of one size: how long they are is in the channel header, made once"
                continue
            try:
                contender = start()
                if speech:
                    contender.load.vary(sizes)
                runners[name] = _runner(
                    contender, packets, edge=name.endswith("_facts"), facts=name.endswith("with_facts")
                )
            except Unavailable as what:
                missing[name] = f"needs {what}"
        medians = harness.rounds(runners, rounds)
    packets_of = {name: packets for name, packets, _ in starts}
    speed = {name: median.per_cpu_s for name, median in medians.items()}

    def ratio(mine: str, other: str) -> float | None:
        return speed[mine] / speed[other] if other in speed else None

    return {
        "packet_bytes": sum(sizes) / len(sizes),
        "packet_sizes": len(set(sizes)),
        "clients": CLIENTS,
        "packets_per_run": PACKETS,
        "rounds": rounds,
        "packets_per_cpu_s": speed,
        "packets_per_s": {name: median.per_s for name, median in medians.items()},
        "lost_packets": {name: median.detail["lost"] for name, median in medians.items()},
        "facts_per_packet": {
            name: median.detail["facts"] / packets_of[name]
            for name, median in medians.items()
            if "facts" in median.detail
        },
        "packets_per_message_up": {
            name: median.detail["up_together"] for name, median in medians.items() if "up_together" in median.detail
        },
        "missing": missing,
        "vs_c": ratio("edge_with_facts", "c"),
        "vs_coturn": ratio("edge_with_facts", "coturn"),
        "vs_asyncio": ratio("edge_with_facts", "asyncio"),
        "vs_c_without_facts": ratio("edge_without_facts", "c"),
        "vs_coturn_without_facts": ratio("edge_without_facts", "coturn"),
        "vs_asyncio_without_facts": ratio("edge_without_facts", "asyncio"),
        "portable_vs_asyncio": ratio("portable_with_facts", "asyncio"),
    }


def main() -> None:
    """Measure what is asked for and print it."""
    parser = harness.arguments(__doc__ or "")
    parser.add_argument("--speech", action="store_true", help="packets of the sizes that speech has, not all of one")
    parser.add_argument("--delay", action="store_true", help="delay that the edge adds to a packet, at half load")
    parser.add_argument(
        "--soak", type=int, metavar="PACKETS", help="memory before and after so many packets and 50,000 flows"
    )
    parser.add_argument("--overload", action="store_true", help="what gives way when more comes in than goes out")
    options = parser.parse_args()
    if options.delay:
        result = alone.delay()
    elif options.soak is not None:
        result = alone.soak(options.soak)
    elif options.overload:
        result = alone.overload()
    else:
        result = compare(options.rounds, speech=options.speech)
    harness.report(result, options.json)


if __name__ == "__main__":
    main()
