"""Seeded rounds of faults on a real broker and the embedded store; what is stored is held against the sources.

Prints `rounds` (run), `observed` (in which the fault was seen to strike; only these count), `by_fault`, `lost` and
`doubled` (rows of the base tables) and `rollup_mismatch` (rollups of rounds that are not what the source says). Exit
status 0 only if all three are 0. `--mutate` breaks the collectors on purpose, and the rounds must fail then.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.faults.kinds import KINDS
from bench.faults.oracle import Verdict
from bench.faults.producers import Unsettled
from bench.faults.victim import MUTATIONS, silence
from bench.faults.world import World

ROUNDS_AT_MOST = 800
"""A round has two days of its own between 2023 and what a clock may be ahead."""


class Tally:
    """What the rounds have shown so far."""

    def __init__(self) -> None:
        self.rounds = 0
        self.observed: Counter[str] = Counter()
        self.lost = self.doubled = self.mismatched = 0
        self.unsettled: list[str] = []

    def add(self, name: str, *, seen: bool, verdict: Verdict) -> None:
        """Count a round. A wrong row counts whether the fault was seen or not; a right one only if it was."""
        self.rounds += 1
        self.observed[name] += seen
        self.lost += sum(verdict.lost.values())
        self.doubled += sum(verdict.doubled.values())
        self.mismatched += len(verdict.rollups)

    @property
    def failed(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.lost or self.doubled or self.mismatched or self.unsettled)


def run(world: World, tally: Tally, wanted: int, seconds: float, only: list[str], *, until_wrong: bool) -> None:
    """Run rounds until `wanted` were observed, the time is up, or (for mutations) something is wrong."""
    names = only or list(KINDS)
    weights = [KINDS[name][1] for name in names]
    end = time.monotonic() + seconds
    shares = [weight / sum(weights) for weight in weights]
    while tally.observed.total() < wanted and tally.rounds < min(2 * wanted + 5, ROUNDS_AT_MOST):
        if time.monotonic() > end or (until_wrong and tally.failed):
            return
        # The one that is furthest behind its share; ties by the seed.
        behind = {name: tally.observed[name] / share for name, share in zip(names, shares, strict=True)}
        least = min(behind.values())
        name = str(world.rng.choice([name for name in names if behind[name] <= least]))
        began = time.monotonic()
        world.begin()
        try:
            seen = KINDS[name][0](world)
            world.recover()
        except Unsettled as error:
            tally.unsettled.append(f"{name}: {error}")
            return
        verdict = world.judge()
        tally.add(name, seen=seen, verdict=verdict)
        said = "" if verdict.clean else f"  {verdict}"
        print(
            f"{tally.rounds:4} {name:32} {'seen' if seen else 'not seen':9} {time.monotonic() - began:5.1f} s{said}",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Run the rounds and print what they showed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="observed rounds to run (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="everything random follows from it (default 1)")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long (default 3600)")
    parser.add_argument("--only", action="append", choices=list(KINDS), default=[], help="this fault; may be repeated")
    parser.add_argument("--mutate", choices=list(MUTATIONS), default="", help="break the collectors on purpose")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, and nothing else")
    options = parser.parse_args()
    silence()
    tally, began = Tally(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="sidetone-faults-") as folder,
        World(Path(folder), options.seed, options.mutate) as world,
    ):
        run(world, tally, options.rounds, options.seconds, options.only, until_wrong=bool(options.mutate))
        recount = world.recount()
        audit = world.audit()
    audited = {name: part for name, part in audit.by_type.items() if part.chunks}
    result = {
        "rounds": tally.rounds,
        "observed": tally.observed.total(),
        "by_fault": dict(sorted(tally.observed.items())),
        "lost": tally.lost,
        "doubled": tally.doubled,
        "rollup_mismatch": tally.mismatched,
        "recount_wrong": recount,
        "facts": sum(now.rows for now in world.rounds),
        "source": {
            name: {
                "captured": part.accounted_captured,
                "emitted": part.accounted_emitted,
                "in_log": part.rows,
                "repeated_chunks": part.repeated_chunks,
                "missing_chunks": part.missing_chunks,
            }
            for name, part in audited.items()
        },
        "unsettled": tally.unsettled,
        "full_disk": world.full_disk,
        "seed": options.seed,
        "mutation": options.mutate,
        "seconds": round(time.monotonic() - began, 1),
    }
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:16} {value}")
    sys.exit(1 if tally.failed or recount else 0)


if __name__ == "__main__":
    main()
