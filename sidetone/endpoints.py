"""Where the roles of this installation show their metrics: each says so in a file of the data dir while it runs.

Ports may be any free ones, and a demo's are, so that nothing else tells where to look.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = "endpoints"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One role's.

    Attributes:
        role: `edge` or `transceiver`.
        name: the edge's name or the transceiver's code.
        region: where it stands.
        url: base of its `/metrics`.
        pid: of its process.

    """

    role: str
    name: str
    region: str
    url: str
    pid: int


@contextmanager
def announced(data_dir: Path, role: str, name: str, region: str, url: str) -> Iterator[None]:
    """Say where a role of this process is found, while entered."""
    folder = data_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{role}-{name.replace('/', '_')}.json"
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(asdict(Endpoint(role, name, region, url, os.getpid()))))
    part.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running(data_dirs: Iterable[Path]) -> list[Endpoint]:
    """Return what runs now, by role and name; files that a killed process left behind are passed over."""
    found = []
    for data_dir in data_dirs:
        for file in (data_dir / _FOLDER).glob("*.json"):
            try:
                endpoint = Endpoint(**json.loads(file.read_text()))
                os.kill(endpoint.pid, 0)
            except PermissionError:
                pass  # it runs, as somebody else
            except (OSError, ValueError, TypeError):
                continue
            found.append(endpoint)
    return sorted(found, key=lambda one: (one.role, one.region, one.name))
