"""`python -m bench`: run every benchmark, one after another; but not `truth`, whose calls take as long as calls take.

`--json` prints one object with an entry for each; `--rounds N` is handed on to each.
"""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import bench

_NOT_BENCHMARKS = ("__main__", "harness", "listeners", "session_peers", "soak", "truth_calls")


def main() -> None:
    """Run all benchmarks as processes of their own, so that none warms up another."""
    options = [option for option in sys.argv[1:] if option != "--json"]
    as_json = len(options) < len(sys.argv) - 1
    results = {}
    for module in pkgutil.iter_modules(bench.__path__):
        if module.name in _NOT_BENCHMARKS or module.ispkg:
            continue
        print(f"bench.{module.name} …", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"bench.{module.name}", *options]
        if as_json:
            ran = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE)
            results[module.name] = json.loads(ran.stdout)
        else:
            subprocess.run(command, check=True)
    if as_json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
