"""Full-duplex calls per core: our transceiver beside stock aiortc, in the same run.

Each side is a process that holds as many calls as asked, both directions carrying speech all the time; its CPU time
over some seconds, per call, gives the calls that a core would hold. A process that is mostly idle says little about
that, so each holds 80 % of what it can on this machine, by a short run beforehand. Ours does everything that it does in
service (speech detection, turn-taking, facts of every packet and frame to a log on disk); stock decodes, encodes and no
more. The lateness of our playout ticks is that of the same runs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bench.harness import arguments, report
from bench.session_peers import EdgeThread, Peers, encoded, serve
from relay.transceiver.counters import LATENESS_BUCKETS_S

SETTLE_S: Final = 3.0
FIRST_CALLS: Final = 12  # of stock; of ours as many times more as follows
SHARE: Final = 0.8
P99: Final = 0.99
CALLS_RATIO: Final = {"ours": 2, "stock": 1}


@dataclass(frozen=True, slots=True)
class Load:
    """What a server took for its calls: CPU seconds per second, packets heard by a peer per second, tick lateness."""

    calls: int
    cpu_share: float
    heard_per_call_s: float
    lateness: tuple[int, ...]
    skipped: int

    @property
    def calls_per_core(self) -> float:
        """Calls that one core would hold."""
        return self.calls / self.cpu_share


def p99_ms(counts: Sequence[Sequence[int]]) -> float | None:
    """Upper bound of the bucket in which the 99th percentile of all runs lies.

    None without ticks, or beyond the last bucket.
    """
    together = [sum(bucket) for bucket in zip(*counts, strict=True)]
    total, seen = sum(together), 0
    for bound, count in zip(LATENESS_BUCKETS_S, together, strict=False):
        seen += count
        if total and seen >= P99 * total:
            return bound * 1000
    return None


def measure(name: str, calls: int, seconds: float) -> Load:
    """Run one server with so many calls, and everybody who calls it."""
    return asyncio.run(_measure(name, calls, seconds))


async def _measure(name: str, calls: int, seconds: float) -> Load:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    key = secrets.token_bytes(32)
    process = context.Process(target=serve, args=(name, key, theirs), daemon=True)
    process.start()
    edge: EdgeThread | None = None
    peers = Peers(encoded())
    talking = asyncio.create_task(peers.talk())

    async def ask(*what: object) -> object:
        ours.send(what)
        return await asyncio.to_thread(ours.recv)

    try:
        address = await asyncio.to_thread(ours.recv)
        if name == "ours":
            edge = EdgeThread(address, key)
            await ask("edge", edge.edge.address, edge.edge.internal_address)
        for _ in range(calls):
            await peers.call(ours)
        await asyncio.sleep(SETTLE_S)
        before, heard = await ask("sample"), peers.heard
        await asyncio.sleep(seconds)
        after, heard = await ask("sample"), peers.heard - heard
        load = _load(calls, before, after, heard)
        talking.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await peers.close()
                await ask("stop")
    finally:
        talking.cancel()
        if edge is not None:
            edge.stop()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
    return load


def _load(calls: int, before: object, after: object, heard: int) -> Load:
    if not isinstance(before, tuple) or not isinstance(after, tuple):
        raise TypeError("a server's sample is (elapsed s, CPU s, figures)")
    elapsed_s, cpu_s = after[0] - before[0], after[1] - before[1]
    first, last = before[2], after[2]
    return Load(
        calls,
        cpu_s / elapsed_s,
        heard / calls / elapsed_s,
        tuple(b - a for a, b in zip(first.get("lateness", ()), last.get("lateness", ()), strict=True)),
        last.get("skipped", 0) - first.get("skipped", 0),
    )


def main() -> None:
    """Print calls per core of both, their ratio, and the lateness of our ticks."""
    parser = arguments(__doc__ or "")
    parser.set_defaults(rounds=3)
    parser.add_argument(
        "--calls", type=int, help="calls that stock holds; ours twice as many (default: 80 %% of what each can hold)"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="measured (default 6)")
    options = parser.parse_args()
    calls = {name: (options.calls or FIRST_CALLS) * times for name, times in CALLS_RATIO.items()}
    if options.calls is None:
        calls = {
            name: round(SHARE * measure(name, some, options.seconds).calls_per_core) for name, some in calls.items()
        }
    found: dict[str, list[Load]] = {name: [] for name in calls}
    for number in range(options.rounds):
        for name in list(found) if number % 2 == 0 else list(found)[::-1]:
            found[name].append(measure(name, calls[name], options.seconds))
    per_core = {name: statistics.median(load.calls_per_core for load in loads) for name, loads in found.items()}
    result: dict[str, object] = {
        "vs_stock": per_core["ours"] / per_core["stock"],
        **{f"{name}_calls_per_core": value for name, value in per_core.items()},
        **{f"{name}_calls": some for name, some in calls.items()},
        **{f"{name}_cpu_share": statistics.median(load.cpu_share for load in loads) for name, loads in found.items()},
        **{f"{name}_heard_per_call_s": loads[-1].heard_per_call_s for name, loads in found.items()},
        "tick_lateness_ms_p99_at_most": p99_ms([load.lateness for load in found["ours"]]),
        "skipped_ticks": sum(load.skipped for load in found["ours"]),
    }
    report(result, options.json)


if __name__ == "__main__":
    main()
