"""What every benchmark shares: interleaved rounds, medians, CPU seconds, one JSON object on stdout.

A benchmark compares the product with a baseline *in the same run*: each round runs every contender once, so that a
machine that is slower for a while slows all of them, and the medians over the rounds are compared.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of a contender got done.

    Attributes:
        units: things done (rows, bytes, packets); the denominators of all rates.
        detail: further figures of this run, reported as their medians.
        wall_s: elapsed seconds, if the contender measured only a part of its run itself.
        cpu_s: CPU seconds of that part, likewise.

    """

    units: float
    detail: Mapping[str, float] | None = None
    wall_s: float | None = None
    cpu_s: float | None = None


@dataclass(frozen=True, slots=True)
class Median:
    """Medians over all rounds of one contender: rates in units per second of elapsed and of CPU time."""

    per_s: float
    per_cpu_s: float
    wall_s: float
    cpu_s: float
    detail: dict[str, float]


def cpu_s() -> float:
    """CPU seconds, user and system, of this process and of its children that have been waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def rounds(contenders: Mapping[str, Callable[[], Work]], n: int = 5, *, warm_up: bool = True) -> dict[str, Median]:
    """Run all contenders in turn, `n` times, and return their medians by name.

    With `warm_up` each runs once before, uncounted. Every second round goes in the reverse order, so that none always
    follows the same neighbour.
    """
    if warm_up:
        for contender in contenders.values():
            contender()
    runs: dict[str, list[Work]] = {name: [] for name in contenders}
    for number in range(n):
        names = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in names:
            runs[name].append(_timed(contenders[name]))
    return {name: _median(works) for name, works in runs.items()}


def _timed(contender: Callable[[], Work]) -> Work:
    wall, cpu = time.perf_counter(), cpu_s()
    work = contender()
    wall, cpu = time.perf_counter() - wall, cpu_s() - cpu
    return Work(
        units=work.units,
        detail=work.detail,
        wall_s=work.wall_s if work.wall_s is not None else wall,
        cpu_s=work.cpu_s if work.cpu_s is not None else cpu,
    )


def _median(works: list[Work]) -> Median:
    walls = [work.wall_s or 0.0 for work in works]
    cpus = [work.cpu_s or 0.0 for work in works]
    names = {name for work in works for name in work.detail or {}}
    return Median(
        per_s=statistics.median(work.units / max(wall, 1e-9) for work, wall in zip(works, walls, strict=True)),
        per_cpu_s=statistics.median(work.units / max(cpu, 1e-9) for work, cpu in zip(works, cpus, strict=True)),
        wall_s=statistics.median(walls),
        cpu_s=statistics.median(cpus),
        detail={
            name: statistics.median(work.detail[name] for work in works if work.detail and name in work.detail)
            for name in sorted(names)
        },
    )


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have: `--json` and `--rounds`. Logs go to standard error."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, and nothing else")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds to take medians over (default 5)")
    return parser


def report(result: Mapping[str, object], as_json: bool) -> None:
    """Print a result: one JSON object, or a line per figure for people. Units are in the names."""
    if as_json:
        print(json.dumps(rounded(result)))
        return
    flat = dict(_flat("", result))
    width = max(map(len, flat), default=0)
    for name, value in flat.items():
        print(f"{name:{width}}  {f'{value:,.4g}' if isinstance(value, float) and abs(value) < 1000 else _plain(value)}")


def rounded(value: object) -> object:
    """Return the same structure with floats cut to four significant digits."""
    if isinstance(value, Mapping):
        return {str(key): rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _plain(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, float) else str(value)


def _flat(prefix: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _flat(f"{prefix}{key}.", inner)]
    return [(prefix.removesuffix("."), value)]
