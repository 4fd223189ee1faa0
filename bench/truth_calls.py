"""The calls of `bench.truth`: every script on every network, so many at once, in a process of their own.

`python -m bench.truth_calls URL PARALLEL ROUNDS SEED NETWORK,… REGION,…` prints the callers' reports as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from typing import Any, Final

from relay.caller import EVERYDAY, FleetConfig, find, run_fleet, script_names
from relay.caller.phrasebook import Phrasebook

SECONDS: Final = 60.0
STAGGER_S: Final = 0.4


async def run(
    url: str, parallel: int, rounds: int, seed: int, networks: list[str], regions: list[str]
) -> list[dict[str, Any]]:
    """Make the calls; a list of `CallReport`s as plain values."""
    scripts = [name for name in script_names() if name not in EVERYDAY]
    for name in scripts:
        Phrasebook().prepare(find(name))
    plan = list(itertools.product(range(rounds), scripts, networks))
    random.Random(seed).shuffle(plan)  # so that no moment of the machine falls on one script or network alone
    room = asyncio.Semaphore(parallel)
    done = 0

    async def call(number: int, script: str, network: str) -> dict[str, Any]:
        nonlocal done
        async with room:
            region = regions[number % len(regions)]
            config = FleetConfig(
                url, 1, [(region, network)], seed=seed + number, seconds=SECONDS, scripts=[script], stagger_s=0.0
            )
            report: dict[str, Any] = (await run_fleet(config)).to_dict()["calls"][0]
            done += 1
            print(f"{done} of {len(plan)} calls", file=sys.stderr, end="\r", flush=True)
            return report | {"call": number}

    async def started(number: int, script: str, network: str) -> dict[str, Any]:
        await asyncio.sleep(STAGGER_S * min(number, parallel))
        return await call(number, script, network)

    return await asyncio.gather(*(started(number, script, network) for number, (_, script, network) in enumerate(plan)))


def main() -> None:
    """Run as a program."""
    from sidetone import process  # noqa: PLC0415 - settles what was loaded above

    url, parallel, rounds, seed, networks, regions = sys.argv[1:]
    process.settle_memory()
    process.prefer_voice()
    print(
        json.dumps(
            asyncio.run(run(url, int(parallel), int(rounds), int(seed), networks.split(","), regions.split(",")))
        )
    )


if __name__ == "__main__":
    main()
