"""What the tests of the whole stack share: run the `sidetone` command as a person does, and look at its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sidetone.settings import Settings, load
from sidetone.stack.ports import with_free_ports


def settings_in(folder: Path) -> Settings:
    """Return settings for a stack of its own, on free ports."""
    return with_free_ports(load(data_dir=folder))


def command(*arguments: str) -> list[str]:
    """Return the command line of `sidetone`."""
    return [sys.executable, "-m", "sidetone", *arguments]


@contextmanager
def running(arguments: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run `sidetone` beside the test; whatever is left of it at the end is killed."""
    with subprocess.Popen(
        command(*arguments),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read standard error up to the line that contains `text`."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return line
    raise AssertionError(f"{text!r} was never said; it said: {''.join(seen)}")


def processes_of(folder: Path) -> list[int]:
    """Return the ids of all processes whose environment names this data dir."""
    wanted = f"SIDETONE_DATA_DIR={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue  # it has just ended, or is not ours to look at
            if wanted in environment and state != "Z":
                found.append(int(entry.name))
    return found


def gone_within(folder: Path, seconds: float) -> bool:
    """Tell whether all processes of that data dir end within a time."""
    deadline = time.monotonic() + seconds
    while processes_of(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def interrupt(process: subprocess.Popen[str]) -> None:
    """Do what Ctrl-C does."""
    process.send_signal(signal.SIGINT)
