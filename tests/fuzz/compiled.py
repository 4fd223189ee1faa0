"""`python -m tests.fuzz.compiled [--runs N | --seconds N] [--seed N]`: the edge's compiled half under the sanitizers.

`compiled.c` sends datagrams through its sockets, mutated ones of the other targets' seeds and corpus, and derives facts
of what was captured. It is built with gcc's address and undefined behaviour sanitizers, which end it, as do its own
checks. The exit status is 0 if nothing was found; the seed brings back what was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from relay.edge.wire import CODE, HERE
from tests.fuzz.registry import corpus, load

_TARGETS: Final = ("rtp", "edge_up", "edge_down", "demux", "stun")
_FLAGS: Final = ("-g", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer")
_SANITIZERS: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# A leak is no danger here, and looking for one takes rights that a container may not have.
_OPTIONS: Final = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


def fuzz(runs: int, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Build and run it, for so many runs or, if these are 0, seconds."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        program = Path(folder, "compiled")
        source = Path(__file__).with_suffix(".c")
        compiler = [os.environ.get("CC", "cc"), *_FLAGS, *_SANITIZERS, f"-I{HERE}", "-o", str(program)]
        subprocess.run([*compiler, str(source), *map(str, CODE)], check=True)
        seeds = [data for target in _TARGETS for data in load(target).seeds().values()]
        inputs = [Path(folder, f"seed-{number}") for number in range(len(seeds))]
        for path, data in zip(inputs, seeds, strict=True):
            path.write_bytes(data)
        inputs += [path for target in _TARGETS for path in corpus(target)]
        command = [str(program), str(seed), str(runs), str(seconds), *map(str, inputs)]
        return subprocess.run(command, env=os.environ | _OPTIONS, capture_output=True, text=True, check=False)


def main() -> int:
    """Read the command line, fuzz and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.compiled", description=__doc__)
    parser.add_argument("--runs", type=int, default=0, help="stop after so many")
    parser.add_argument("--seconds", type=int, default=60, help="stop after a time, if no runs are given")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    done = fuzz(asked.runs, asked.seconds, asked.seed)
    sys.stdout.write(done.stdout + done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
