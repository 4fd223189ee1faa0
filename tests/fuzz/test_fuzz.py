"""Every fuzz target: its corpus replayed here, and a short run of the fuzzer, the same inputs each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.registry import CORPUS, TARGETS, corpus, largest, load

RUNS = 2_000
CORPUS_BYTES_MAX = 1_000_000


@pytest.mark.parametrize("name", TARGETS)
def test_real_messages_and_the_corpus_pass(name: str) -> None:
    target = load(name)
    for data in [*target.seeds().values(), *(file.read_bytes() for file in corpus(name))]:
        assert len(data) <= largest(name)
        target.run(data)


def test_the_corpus_is_small_and_every_folder_has_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(TARGETS)
    assert sum(file.stat().st_size for name in TARGETS for file in corpus(name)) < CORPUS_BYTES_MAX


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_a_short_run(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, "--runs", str(RUNS), "--seed", "7", "--keep", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    assert f"stat::number_of_executed_units: {RUNS}" in done.stderr, done.stderr[-2_000:]
