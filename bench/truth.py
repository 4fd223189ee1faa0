"""The platform against callers who know: response latency and turn-taking errors, on every network.

A whole stack runs, and callers do every script of the library that is not an everyday one, on every network profile.
What they heard is then held beside what the store answers:

- `latency_error_ms`: absolute error of the listener's latency as the platform has it for instrumented clients (our
  callers say over the data channel when their microphone fell silent and their ear heard the answer);
  `estimate_error_ms`: of the relay's own estimate, all there is for clients that say nothing but W3C statistics.
- `errors`: precision and recall of each kind of turn-taking error against what the scripts provoke on purpose.

Calls take the time that calls take: about seven minutes with the default options.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import analytics
from bench.harness import arguments, report
from relay.caller.truth import Comparison, compare
from relay.caller.verdicts import Verdicts, judge
from sidetone.settings import Settings, load
from sidetone.stack.ports import with_free_ports
from sidetone.stack.supervisor import Stack
from voice.netem import PROFILES

SEED: Final = 1
STORE_STOPS_AFTER: Final = 3
"""`stops` of the last part of the stack before the store."""

PATIENCE_S: Final = 60.0
"""How long the last facts may take into the store."""

EVER: Final = {"from": "now-1d", "to": "now+1h"}


def main() -> None:
    """Run the calls and print the figures."""
    parser = arguments(__doc__ or "")
    parser.set_defaults(rounds=1)
    parser.add_argument("--parallel", type=int, default=8, help="calls at once (default 8)")
    parser.add_argument("--network", action="append", choices=PROFILES, help="only this network; may be repeated")
    parser.add_argument("--keep", type=Path, help="write calls, turns, errors and what did not agree to this JSON file")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sidetone-truth-") as folder:
        settings = with_free_ports(load(data_dir=Path(folder) / "data", behaviours=True))
        calls, turns, errors = asyncio.run(
            _measure(settings, options.parallel, options.rounds, options.network or list(PROFILES))
        )
    verdicts = judge(calls, errors, analytics.ERROR_KINDS)
    if options.keep:
        kept = {"calls": calls, "turns": turns, "errors": errors, "odd": verdicts.odd}
        options.keep.write_text(json.dumps(kept, default=str))
    report(figures(calls, turns, verdicts) | {"seconds": time.monotonic() - started}, options.json)


def figures(
    calls: Sequence[Mapping[str, Any]], turns: Sequence[dict[str, Any]], verdicts: Verdicts
) -> dict[str, object]:
    """Everything that is reported.

    Args:
        calls: the callers' reports.
        turns: rows of `listener_latency` with the columns of `turns_latency`.
        verdicts: on the errors.

    """
    good = [call for call in calls if call["error"] is None]
    told, estimated = _compared(good, turns, "listener_ms"), _compared(good, turns, "estimate_ms")
    by_network: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for call in good:
        by_network[call["network"]].append(call)
    confusion: dict[str, dict[str, int]] = defaultdict(dict)
    for (expected, found), count in sorted(verdicts.confusion.items()):
        confusion[expected][found] = count
    return {
        "calls": len(calls),
        "failed_calls": len(calls) - len(good),
        "turns": told.graded,
        "matched": told.matched,
        "continued": told.continued,
        "missed": told.missed,
        "methods": Counter(row["method"] or "none" for row in turns),
        "latency_error_ms": told.error_ms,
        "latency_bias_ms": told.bias_ms,
        "estimate_error_ms": estimated.error_ms,
        "estimate_bias_ms": estimated.bias_ms,
        "networks": {
            name: {
                "turns": (one := _compared(group, turns, "listener_ms")).graded,
                "latency_error_ms": one.error_ms,
                "estimate_error_ms": _compared(group, turns, "estimate_ms").error_ms,
            }
            for name, group in sorted(by_network.items())
        },
        "errors": {
            kind: {"precision": tally.precision, "recall": tally.recall, "n": tally.expected}
            for kind, tally in verdicts.tallies.items()
        },
        "confusion": confusion,
        "caller_late_ms_max": max((call["late_ms_max"] for call in calls), default=0.0),
        "caller_skipped_frames": sum(call["skipped_frames"] for call in calls),
    }


def _compared(calls: Sequence[Mapping[str, Any]], turns: Sequence[dict[str, Any]], column: str) -> Comparison:
    return compare(calls, [turn | {"listener_ms": turn[column]} for turn in turns])


async def _measure(
    settings: Settings, parallel: int, rounds: int, networks: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Run the stack and the calls; the callers' reports, and the store's turns and errors."""
    async with Stack(settings, dashboard=False, report=lambda line: print(line, file=sys.stderr)) as stack:
        await stack.start()
        calls = await _calls(settings, parallel, rounds, networks)
        client = analytics.connect(settings.store_host, settings.store_port)
        try:
            await _stored(client, {call["session_id"] for call in calls if call["session_id"] is not None})
            await stack.stop(up_to=STORE_STOPS_AFTER)
            turns = analytics.run(client, "turns_latency", EVER).records()
            heard = analytics.run(client, "listener_latency", EVER).records()
            errors = analytics.run(client, "turn_errors", EVER | {"limit": 1_000_000}).records()
        finally:
            client.close()
    by_turn = {(row["session_id"], row["turn_id"]): row for row in turns}
    return calls, [by_turn[row["session_id"], row["turn_id"]] | row for row in heard], errors


async def _stored(client: Any, sessions: set[str]) -> None:
    """Wait until the store knows the end of every call; what it does not know by then shows in the figures."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        rows = await asyncio.to_thread(analytics.run, client, "sessions", EVER | {"limit": 100_000})
        if sessions <= {row["session_id"] for row in rows.records() if row["ended_ns"] is not None}:
            return
        await asyncio.sleep(1.0)


async def _calls(settings: Settings, parallel: int, rounds: int, networks: Sequence[str]) -> list[dict[str, Any]]:
    url = f"http://{settings.signalling_host}:{settings.signalling_port}"
    regions = [edge.region for edge in settings.edges]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.truth_calls",
        url,
        *map(str, (parallel, rounds, SEED)),
        ",".join(networks),
        ",".join(regions),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    calls: list[dict[str, Any]] = json.loads(said)
    return calls


if __name__ == "__main__":
    main()
