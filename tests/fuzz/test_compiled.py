from __future__ import annotations

from tests.fuzz.compiled import fuzz

RUNS = 20_000


def test_the_sanitizers_find_nothing_in_the_compiled_half_in_a_short_run() -> None:
    done = fuzz(RUNS, 0, 7)
    assert done.returncode == 0, done.stderr[-8_000:]
    assert done.stdout.startswith(f"{RUNS} runs, ")
