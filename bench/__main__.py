"""`python -m bench`: run the benchmarks of speed, one after another, as ratios to a baseline of the same run.

What measures quality, or makes calls that take as long as calls take, runs by itself: `python -m bench.truth`, `media`,
`sessions`, `endpointing`, `hangover`, `soak`, `faults`.

`--json` prints one object with an entry for each; `--rounds N` is handed on to each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

BENCHMARKS: Final = ("chunks", "sqlite_log", "kafka_log", "store", "collector", "questions", "edge", "voice")


def main() -> None:
    """Run them as processes of their own, so that none warms up another."""
    options = [option for option in sys.argv[1:] if option != "--json"]
    as_json = len(options) < len(sys.argv) - 1
    results = {}
    for name in BENCHMARKS:
        print(f"bench.{name} …", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"bench.{name}", *options]
        if as_json:
            ran = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE)
            results[name] = json.loads(ran.stdout)
        else:
            subprocess.run(command, check=True)
    if as_json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
