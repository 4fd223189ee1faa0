"""A short run of the fault rounds, with a real broker; `python -m bench.faults` runs as many as you like."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SHORT = ("collector_killed_in_mid_insert", "store_killed", "rebalanced")
"""The quick ones; deaths at the other steps are in `test_collector_kill.py`."""


def rounds(count: int, *arguments: str, only: tuple[str, ...]) -> tuple[int, dict[str, Any]]:
    """Run rounds and return the exit status and what they showed."""
    kinds = [argument for name in only for argument in ("--only", name)]
    ran = subprocess.run(
        [sys.executable, "-m", "bench.faults", "--json", "--rounds", str(count), *kinds, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def test_each_fault_is_seen_to_strike_and_costs_nothing() -> None:
    status, result = rounds(len(SHORT), "--seed", "7", only=SHORT)
    assert status == 0, result
    assert result["observed"] >= len(SHORT)
    assert set(result["by_fault"]) == set(SHORT)
    assert (result["lost"], result["doubled"], result["rollup_mismatch"], result["recount_wrong"]) == (0, 0, 0, {})
    assert all(of["captured"] == of["emitted"] == of["in_log"] for of in result["source"].values())


def test_a_collector_that_skips_the_token_is_caught() -> None:
    """That rounds can fail. Every death before the commit shows it; other mutations are in `test_collector_kill.py`."""
    status, result = rounds(3, "--seed", "2", "--mutate", "skipped_token", only=("collector_killed_before_commit",))
    assert status == 1, result
    assert result["doubled"] > 0
