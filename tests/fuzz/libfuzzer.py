"""`python -m tests.fuzz.libfuzzer TARGET SEEDS OPTION…`: write the real messages to SEEDS, become libFuzzer."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import atheris

from tests.fuzz.registry import load


def main(name: str, seeds: Path, options: list[str]) -> None:
    """Import the target and what it tests with every branch instrumented, and fuzz. Does not return."""
    with atheris.instrument_imports(include=_modules(name)):
        target = load(name)
    for file, data in target.seeds().items():
        (seeds / file).write_bytes(data)
    atheris.Setup([name, *options], target.run)
    atheris.Fuzz()


def _modules(name: str) -> list[str]:
    """Read MODULES from a target's source: it must be known before the target is imported."""
    for node in ast.parse(Path(__file__).with_name(f"{name}.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "MODULES":
            return list(ast.literal_eval(node.value)) if node.value else []
    raise SystemExit(f"target {name} names no MODULES")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
