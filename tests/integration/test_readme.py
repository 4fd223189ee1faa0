"""Every command of the README is run: here, or by the test named here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.stack_tools import settings_in
from tests.integration.test_demo import COMMAND as DEMO

ROOT = Path(__file__).parents[2]
RUN_ELSEWHERE = {
    "make test": "what runs this",
    DEMO: "test_demo",
}
BOUNDED = {
    "make demo": 'make demo ARGS="--headless --seconds 2"',
    "make bench": 'make bench ARGS="--rounds 1"',
}
"""Commands that run until Ctrl-C, or for minutes, with what ends them sooner."""


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("line", [line for line in commands() if line not in RUN_ELSEWHERE])
def test_command_of_the_readme_works(line: str, tmp_path: Path) -> None:
    environment = {**os.environ, **settings_in(tmp_path / "data").as_environment()}
    ran = subprocess.run(
        BOUNDED.get(line, line), shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"


def test_what_runs_elsewhere_is_in_the_readme() -> None:
    assert set(RUN_ELSEWHERE) <= set(commands())


def test_every_document_that_the_readme_names_is_there() -> None:
    named = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
