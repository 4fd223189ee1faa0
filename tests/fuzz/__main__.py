"""`python -m tests.fuzz TARGET [--runs N | --seconds N] [--seed N] [--keep DIR]`: fuzz one parser of foreign bytes.

What the run finds goes to DIR (nowhere if not given) as libFuzzer's own files: new inputs, and `crash-…` for what broke
an invariant. `--merge DIR` adds to the committed corpus what covers more. The exit status is libFuzzer's, 0 if nothing
was found.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.registry import CORPUS, TARGETS, largest


def main() -> int:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=-1, help="stop after so many inputs: the same ones for a seed")
    parser.add_argument("--seconds", type=int, default=0, help="stop after a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for what is found; kept between runs")
    parser.add_argument("--merge", type=Path, help="add this folder's inputs to the corpus where they cover more")
    asked = parser.parse_args()
    corpus = CORPUS / asked.target
    options = [f"-max_len={largest(asked.target)}", "-rss_limit_mb=2048", "-timeout=120", "-print_final_stats=1"]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        seeds, found = Path(temporary, "seeds"), asked.keep or Path(temporary, "found")
        for folder in (seeds, found, *([corpus] if asked.merge else [])):
            folder.mkdir(parents=True, exist_ok=True)
        if asked.merge:
            options += ["-merge=1", str(corpus), str(seeds), str(asked.merge)]
        else:
            options += [f"-runs={asked.runs}", f"-max_total_time={asked.seconds}", f"-seed={asked.seed}"]
            options += [f"-artifact_prefix={found}/", str(found), str(seeds)]
            options += [str(corpus)] if corpus.is_dir() else []
        # libFuzzer takes its process over and ends it, and nothing would be tidied up.
        command = [sys.executable, "-m", "tests.fuzz.libfuzzer", asked.target, str(seeds), *options]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
