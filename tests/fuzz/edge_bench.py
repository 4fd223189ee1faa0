"""An edge without sockets: router, flow table, capture and flush path, with the time in hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from eventlog.schema import FactType
from relay.edge import EdgeConfig, Limits
from relay.edge.capture import Capture
from relay.edge.flows import FlowTable
from relay.edge.flush import Flusher
from relay.edge.router import Outgoing, Router
from relay.encap import down_header
from tests.fuzz.messages_of import ALPHA, BETA, HEADER_KEY, KEYS, SESSION, check

Address = tuple[str, int]

_NS: Final = 1_000_000_000
_UTC_NS: Final = 1_760_000_000 * _NS
_CONFIG: Final = EdgeConfig(
    name="edge",
    region="test",
    bind=("127.0.0.1", 0),
    internal_bind=("127.0.0.1", 0),
    transceivers={"alph": ALPHA, "beta": BETA},
    keys=KEYS,
    host_id="host",
    limits=Limits(flows=3, flows_per_source=2, flows_per_ufrag=2, rows=16, streams_per_tap=2),
)


class _Sink:
    """Takes facts and counts them."""

    def __init__(self) -> None:
        self.rows = 0
        self.shed_rows = 0

    def add_columns(self, fact: FactType, columns: Mapping[str, Any], rows: int) -> None:
        """Take many."""
        assert all(isinstance(column, str) or len(column) == rows for column in columns.values()), fact.name
        self.rows += rows

    def shed(self, fact: FactType, reason: str, rows: int) -> None:
        """Take note of what was given up."""
        assert fact.name
        assert reason
        self.shed_rows += rows


class Bench:
    """One edge with bounds so small that inputs reach them."""

    def __init__(self) -> None:
        self.flows = FlowTable(_CONFIG.limits, HEADER_KEY)
        self.capture = Capture(_CONFIG.limits.rows)
        self.router = Router(_CONFIG, self.flows, self.capture)
        self._flusher = Flusher(_CONFIG, self.capture, self.flows.owners, _Sink())
        self._now_ns = _NS

    def later(self, seconds: float) -> None:
        """Let time pass, as the edge's loop does."""
        self._now_ns += int(seconds * _NS)
        for _ in self.flows.sweep(self._now_ns):
            pass

    def up(self, data: bytes, source: Address) -> Sequence[Outgoing]:
        """A client's datagram."""
        return self.router.up([(data, source, _UTC_NS + self._now_ns, 184)], self._now_ns)

    def down(self, data: bytes, source: Address) -> Sequence[Outgoing]:
        """A transceiver's datagram."""
        return self.router.down([(data, source, _UTC_NS + self._now_ns, 184)], self._now_ns)

    def answer(self, client: Address) -> None:
        """Let the transceiver of a client's flow answer it."""
        flow = self.flows.by_address.get(client)
        if flow is not None:
            self.down(down_header(*client, SESSION, HEADER_KEY, 1) + check(response=True), flow.transceiver)

    def kept(self) -> tuple[int, ...]:
        """How much is held: flows, rows, transactions."""
        return (
            len(self.flows.by_address),
            len(self.flows.by_down_key),
            self.capture.captured,
            len(self.capture.legs),
            len(self.router._pairs._pending),
        )

    def flush(self) -> None:
        """Turn what was captured into facts."""
        for _ in self._flusher.flush(_UTC_NS + self._now_ns, last=True):
            pass
