"""Several edges and transceivers of one region in one process, on real sockets, with one log."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from eventlog.emitter import Emitter
from eventlog.sqlite import SqliteEventLog
from relay.edge import Edge, EdgeConfig, Limits
from relay.edge.workers import Sockets, open_sockets
from relay.models import ModelConfig
from relay.transceiver import EdgeAddress, Transceiver, TransceiverConfig
from tests.integration.transceiver_tools import LOOPBACK, PATIENCE_S, Client

REGION = "north"
PATIENT = Limits(late_s=60.0)
"""Nothing is given up because the machine is busy."""

Keys = Mapping[int, bytes]


class RegionEdge:
    """An edge whose sockets are held here, so that it can be restarted as a worker is."""

    def __init__(self, name: str, region: Region) -> None:
        self.name = name
        self._region = region
        (self._held,) = open_sockets((LOOPBACK, 0), (LOOPBACK, 0), 1)
        self.address = EdgeAddress(name, REGION, self._held.public.getsockname(), self._held.internal.getsockname())
        self._thread: threading.Thread | None = None

    def start(self, keys: Keys, drain_s: float = 0.0) -> None:
        config = EdgeConfig(
            name=self.name,
            region=REGION,
            bind=self.address.advertised,
            internal_bind=self.address.internal,
            transceivers=self._region.addresses(),
            keys=keys,
            host_id="host",
            flow_map=self._region.folder / "flows" / self.name,
            limits=PATIENT,
        )
        self.edge = Edge(config, self._region.emitter, Sockets(*(one.dup() for one in self._held)))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.edge.run, args=(self._stop, drain_s), daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Ask it to end, as SIGTERM does, and do not wait for it."""
        self._stop.set()

    def stop(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive()
            self._thread = None

    async def restart(self, keys: Keys) -> None:
        """Stop it and start it with other keys; what arrives meanwhile waits in its sockets."""
        await asyncio.to_thread(self.stop)
        await asyncio.to_thread(self.start, keys)

    def close(self) -> None:
        self.stop()
        for one in self._held:
            one.close()


class Region:
    """Edges and transceivers that know each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log.sqlite"
        self.emitter = Emitter(
            lambda: SqliteEventLog(self.log), role="region", region=REGION, host_id="host", flush_s=0.05
        )
        self.emitter.start()
        self.edges: dict[str, RegionEdge] = {}
        self.transceivers: dict[str, Transceiver] = {}

    def addresses(self) -> dict[str, tuple[str, int]]:
        return {code: transceiver.address for code, transceiver in self.transceivers.items()}

    async def add_edge(self, name: str, keys: Keys) -> RegionEdge:
        self.edges[name] = made = RegionEdge(name, self)
        for transceiver in self.transceivers.values():
            transceiver.add_edge(made.address)
        await asyncio.to_thread(made.start, keys)
        return made

    async def add_transceiver(self, code: str, key_id: int, key: bytes, other: bytes | None = None) -> Transceiver:
        config = TransceiverConfig(
            code=code,
            region=REGION,
            ufrag_key=key,
            ufrag_key_id=key_id,
            ufrag_key_other=other,
            host_id="host",
            model=ModelConfig("echo", think_median_ms=20.0, think_sigma=0.0),
            connect_timeout_s=4 * PATIENCE_S,
            edges=tuple(edge.address for edge in self.edges.values()),
        )
        made = Transceiver(config, self.emitter)
        await made.start()
        self.transceivers[code] = made
        for edge in self.edges.values():
            edge.edge.know(self.addresses())
        return made

    async def call(self, code: str, edge: str | None = None) -> Client:
        """Call the agent by a transceiver, and by a certain edge if one is named."""
        client = Client()
        prefer = [] if edge is None else [edge]
        answer = await self.transceivers[code].answer(await client.offer(), region=REGION, prefer=prefer)
        client.session_id = answer.session_id
        await client.accept(answer.sdp)
        await client.connected()
        return client

    def edge_of(self, client: Client) -> str:
        """Name of the edge that a call's answer sent its client to."""
        sdp = client.peer.remoteDescription.sdp
        (port,) = set(re.findall(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+) ", sdp))
        (name,) = (edge.name for edge in self.edges.values() if edge.address.advertised[1] == int(port))
        return name

    async def stop(self) -> None:
        for transceiver in self.transceivers.values():
            await transceiver.aclose()
        for edge in self.edges.values():
            await asyncio.to_thread(edge.close)
        await asyncio.to_thread(self.emitter.close)


@asynccontextmanager
async def region(folder: Path) -> AsyncIterator[Region]:
    made = Region(folder)
    try:
        yield made
    finally:
        await made.stop()
