from __future__ import annotations

import subprocess
import sys


def test_a_process_of_steady_memory_is_handed_no_fresh_pages_for_what_it_had_before() -> None:
    code = (
        "import resource\n"
        "from eventlog.lean import steady_memory, without_pandas\n"
        "without_pandas()\n"
        "steady_memory()\n"
        "import numpy as np, pyarrow as pa, pyarrow.compute as pc\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def work():\n"
        "    for _ in range(20):\n"
        "        pc.add(pa.array(np.ones(1 << 20)), 1)\n"
        "work()\n"
        "before = faults()\n"
        "work()\n"
        "print(pa.default_memory_pool().backend_name, faults() - before)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    backend, faults = ran.stdout.split()
    assert backend == "system"
    assert int(faults) < 20, "each of the twenty rounds took 24 MB, which is at least twelve pages of the largest kind"
