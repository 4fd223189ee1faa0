"""A store in a process of its own, for whoever needs one: tests, benchmarks, one machine's stack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self


class StoreProcess:
    """Starts `python -m sidetone.store` and returns when it answers.

    Attributes:
        host: where it listens.
        port: likewise.
        process: the child.

    Raises:
        RuntimeError: it ended instead; the message has what it wrote to stderr.
    """

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "sidetone.store", "--port", str(port), "--data-dir", str(data_dir)]
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, err = self.process.stdout, self.process.stderr
        line = out.readline() if out else ""
        if not line:
            self.process.wait()
            raise RuntimeError(err.read() if err else "")
        self.host, _, text = line.strip().partition(" ")
        self.port = int(text)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self._reap()

    def terminate(self, timeout_s: float = 10.0) -> int:
        """SIGTERM, and wait; gives the exit status."""
        self.process.terminate()
        self.process.wait(timeout_s)
        self._reap()
        return self.process.returncode

    def _reap(self) -> None:
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
