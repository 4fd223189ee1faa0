"""An edge of several workers as processes, and what it shows of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import httpx

from relay.edge.workers import worker_of
from sidetone.endpoints import running
from sidetone.live import Values, parse
from sidetone.settings import Settings
from tests.integration.stack_tools import settings_in
from tests.integration.transceiver_tools import Client

WORKERS = 2


def settings_with_workers(folder: Path) -> Settings:
    """Settings of an edge of two workers that logs as JSON; its key is made."""
    made = settings_in(folder).model_copy(update={"edge_workers": WORKERS, "log_format": "json"})
    made.ufrag_key_bytes()
    return made


@dataclass
class Shown:
    """What an edge shows now."""

    values: Values

    def total(self, name: str) -> int:
        return round(sum(self.values.get(f"sidetone_edge_{name}", {}).values()))

    def carried(self) -> list[int]:
        """Datagrams by worker."""
        by_worker = self.values["sidetone_edge_worker_forwarded_datagrams_total"]
        return [round(by_worker[str(worker)]) for worker in range(WORKERS)]


def shown(settings: Settings) -> Shown:
    """Ask the edge for its metrics."""
    (edge,) = (one for one in running([settings.data_dir]) if one.role == "edge")
    answer = httpx.get(f"{edge.url}/metrics")
    assert answer.status_code == 200
    return Shown(parse(answer.text))


def pids(settings: Settings) -> dict[int, int]:
    """Process by worker, as the edge's log says."""
    lines = (settings.data_dir / "edge.log").read_text().splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]
    return {line["worker"]: line["pid"] for line in said if line["event"] == "edge worker forwards"}


def worker_of_call(client: Client) -> int:
    """Which worker has a client's packets, by the address that it sends from."""
    candidates = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) ", client.peer.localDescription.sdp)
    ((host, port),) = set(candidates)  # once per section of the bundle
    return worker_of(host, int(port), WORKERS)
