"""The edge's loop: receive, route, send; and between batches a slice of telemetry."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import structlog

from eventlog.schema import PACKET
from relay.edge import wire
from relay.edge.capture import Capture
from relay.edge.config import EdgeConfig
from relay.edge.flowmap import FlowMap
from relay.edge.flows import FlowRefusedError, FlowTable
from relay.edge.flush import FactSink, Flusher, warm_up
from relay.edge.io import UdpSocket
from relay.edge.native import NativeForwarder
from relay.edge.portable import PortableForwarder
from relay.edge.pressure import Gauge, Pressure
from relay.edge.probe import PROBE_NS
from relay.edge.router import Router
from relay.edge.workers import Sockets, worker_of
from relay.encap import derive

_NS: Final = 1_000_000_000
_STOP_CHECK_S: Final = 0.1  # an idle loop looks at its stop event this often
_SLICE_NS: Final = 500_000  # telemetry between two batches of voice when more waits; otherwise it is one step
_SPARING_NS: Final = 20_000_000  # between two slices while telemetry gives way
_SWEEP_NS: Final = _NS
_LOG_NS: Final = 10 * _NS
_SAVE_NS: Final = _NS  # between two writings of the flow map, if flows changed
_LIVING_NS: Final = _NS // 4  # between two looks whether calls live, while draining

_log = structlog.get_logger("sidetone.edge")


@dataclass(frozen=True, slots=True)
class Counters:
    """What an edge did since it started.

    Attributes:
        flows: live now.
        calls: sessions among them whose clients were heard lately; a second old at most.
        flows_opened: ever.
        flows_closed: by reason (`idle`, `unanswered`, `evicted`).
        forwarded_up: datagrams to transceivers, that the kernel took.
        forwarded_down: datagrams to clients, likewise.
        dropped: datagrams not forwarded, by reason; those that the kernel refused to send are `…_send_full` and
            `…_send_error`, by the socket that they were to leave by.
        overflowed: datagrams that the kernel dropped before they were read.
        captured: RTP packets seen with facts on; equals emitted plus thinned plus waiting plus shed.
        emitted: facts handed on, by type.
        shed: rows that became no fact, by type and reason.
        waiting: captured packets not looked at yet, being worked on, or without a session or a judgement so far.
        lost: packets that the facts showed to be missing.
        found: those of them that came after all.
        thinned: packets without a fact of their own, which another's represents.
        keeps: asked of by transceivers: sessions to be written in full for some seconds.
        messages_up: that datagrams to transceivers were put into; the kernel cuts those up that hold several.

    """

    flows: int
    flows_opened: int
    flows_closed: dict[str, int]
    forwarded_up: int
    forwarded_down: int
    dropped: dict[str, int]
    overflowed: int
    captured: int
    emitted: dict[str, int]
    shed: dict[str, dict[str, int]]
    calls: int = 0
    waiting: int = 0
    lost: int = 0
    found: int = 0
    thinned: int = 0
    keeps: int = 0
    messages_up: int = 0


class Edge:
    """One edge process: two UDP sockets and a flow table. `address` faces clients, `internal_address` transceivers."""

    def __init__(self, config: EdgeConfig, emitter: FactSink, sockets: Sockets | None = None) -> None:
        """Bind both sockets and get everything ready that would otherwise delay the first call.

        A worker is given its `sockets`, which are bound already.

        Raises:
            OSError: an address cannot be bound.

        """
        self._config = config
        limits = config.limits
        outside, inside = sockets or (None, None)
        size = limits.receive_buffer_bytes
        self._public = UdpSocket(config.bind, receive_buffer_bytes=size, bound=outside)
        try:
            self._internal = UdpSocket(config.internal_bind, receive_buffer_bytes=size, bound=inside)
        except OSError:
            self._public.close()
            raise
        warm_up(config)
        header_keys = [derive(key) for key in config.keys.values()]
        self._flows = FlowTable(limits, header_keys[0])
        self._capture = Capture(limits.rows)
        self._router = Router(config, self._flows, self._capture)
        self._flusher = Flusher(config, self._capture, self._flows.owners, emitter, self._router.keeps)
        self._forwarder = self._make_forwarder()
        self._gauge = Gauge(limits)
        self._draining = False
        self._hurried = False
        self.living: int | None = None
        """Flows of calls that draining waits for; None before."""
        self._map: FlowMap | None = None
        self._saved = (0, 0)  # changes of the flow table, and when (monotonic)
        if config.flow_map is not None:
            idle_ns = int(limits.idle_s * _NS)
            self._map = FlowMap(config.flow_map, header_keys, idle_ns, config.worker, config.workers)
            self._restore(self._map)
        self._chores: list[Iterator[None]] = []
        self._next_flush_ns = self._next_sweep_ns = 0
        self._next_probe_ns = time.monotonic_ns() + PROBE_NS
        self._next_log_ns = time.monotonic_ns() + _LOG_NS
        self._telemetry_errors = 0
        self._next_trouble_ns = 0
        self._logged: Counters | None = None
        self._refused: set[str] = set()
        self._turned_ns = time.monotonic_ns()
        self._next_slice_ns = 0

    @property
    def address(self) -> tuple[str, int]:
        """Where clients send."""
        return self._public.address

    @property
    def internal_address(self) -> tuple[str, int]:
        """Where transceivers send, and what they see as the edge's source."""
        return self._internal.address

    @property
    def silent_s(self) -> float:
        """Seconds since the loop last looked at its sockets; an idle one does it ten times a second."""
        return (time.monotonic_ns() - self._turned_ns) / _NS

    def know(self, transceivers: Mapping[str, tuple[str, int]]) -> None:
        """Forward to and listen to these transceivers from now on; may be called from any thread.

        Args:
            transceivers: code → numeric address, in place of all that the configuration named.

        """
        self._router.know(transceivers)

    @property
    def refusing(self) -> bool:
        """Whether it takes no new calls at present, of what it knows by itself."""
        return self._router.refusing is not None

    def heed(self, *, others_refuse: bool) -> None:
        """Let probes say whether other workers of this edge refuse new calls. May be called from any thread."""
        self._router.others_refuse = others_refuse

    def drain(self) -> None:
        """Take no new calls from now on, and tell transceivers so; those that live go on. For any thread."""
        self._draining = True
        self._next_probe_ns = 0

    def hurry(self) -> None:
        """Wait for no call when `run` is to end. May be called from any thread."""
        self._hurried = True

    def run(self, stop: threading.Event, drain_s: float = 0.0) -> None:
        """Forward until `stop` is set; then hand all captured facts on, close the sockets and return.

        With `drain_s`, calls that live then go on until they end, for so many seconds at most; no new ones are taken.
        A worker goes on until it is told to `hurry`: clients of the others may come to it when they move.

        Meant for a process of its own: while it runs, what exists now is exempt from garbage collection.
        """
        log = _log.bind(edge=self._config.name, region=self._config.region)
        log.info(
            "edge started",
            address=self.address,
            internal_address=self.internal_address,
            io=self._forwarder.name,
            io_because=self._io_because,
            kernel_times=self._public.kernel_times,
        )
        # To look through all that the libraries made at import takes tens of milliseconds and frees nothing.
        gc.freeze()
        try:
            while not stop.is_set():
                self._turn()
            self._run_dry(drain_s, log)
        finally:
            gc.unfreeze()
            self._chores.append(self._flusher.flush(time.time_ns(), last=True))
            if self._map is not None:
                self._chores.append(self._map.save(list(self._flows.by_address.values()), time.time_ns()))
            while self._chores:
                self._work(until_ns=None)
            self.close()
            log.info("edge stopped", **asdict(self.counters()))

    def close(self) -> None:
        """Release the sockets. `run` does it; call this only if it never ran."""
        if self._map is not None:
            self._map.close()
        self._forwarder.close()
        self._public.close()
        self._internal.close()

    def counters(self) -> Counters:
        """Return a snapshot; may be called from any thread."""
        dropped = self._forwarder.dropped()
        emitted, thinned = dict(self._flusher.emitted), self._flusher.thinned
        shed = {name: dict(reasons) for name, reasons in self._capture.shed.items() if reasons}
        captured = self._capture.captured  # last, as the loop goes on: what is no fact yet was certainly captured
        told = emitted[PACKET.name] + thinned + sum(shed.get(PACKET.name, {}).values())
        forwarded_up, forwarded_down = self._forwarder.forwarded()
        for name, udp in (("public", self._public), ("internal", self._internal)):
            dropped.update({f"{name}_{reason}": count for reason, count in udp.dropped.items() if count})
        if self._telemetry_errors:
            dropped["telemetry_error"] = self._telemetry_errors
        return Counters(
            flows=len(self._flows.by_address),
            calls=self._flows.calls,
            flows_opened=self._flows.opened,
            flows_closed=dict(self._flows.closed),
            forwarded_up=forwarded_up,
            forwarded_down=forwarded_down,
            dropped=dict(dropped),
            overflowed=self._forwarder.overflowed(),
            captured=captured,
            waiting=captured - told,
            lost=self._flusher.lost,
            found=self._flusher.found,
            thinned=thinned,
            keeps=self._router.keeps.taken,
            messages_up=self._forwarder.messages_up(),
            emitted=emitted,
            shed=shed,
        )

    def _make_forwarder(self) -> NativeForwarder | PortableForwarder:
        """Take the fastest way that is to be had here."""
        library = wire.load()
        self._io_because = "as configured" if not self._config.compiled else library.problem
        if self._io_because is not None:
            return PortableForwarder(self._public, self._internal, self._router, self._config.limits)
        return NativeForwarder(
            library, self._public, self._internal, self._config, self._flows, self._capture, self._router
        )

    def _turn(self) -> None:
        self._forwarder.turn(0 if self._chores else self._idle_s())
        self._turned_ns = now_ns = time.monotonic_ns()
        pressure = self._gauge.turned(behind=self._forwarder.behind, now_ns=now_ns)
        if self._draining:
            self._router.refusing = "draining"
        else:
            self._router.refusing = "overload" if pressure >= Pressure.REFUSE_CALLS else None
        self._capture.shedding = pressure >= Pressure.SHED_TELEMETRY
        self._plan(now_ns)
        if self._chores and now_ns >= self._next_slice_ns:
            self._next_slice_ns = now_ns + _SPARING_NS if self._capture.shedding else 0
            self._work(until_ns=now_ns + (_SLICE_NS if self._forwarder.behind else 0))

    def _run_dry(self, drain_s: float, log: structlog.typing.FilteringBoundLogger) -> None:
        now_ns = time.monotonic_ns()
        ends_ns, look_ns = now_ns + int(drain_s * _NS), now_ns
        while now_ns < ends_ns and not self._hurried:
            if now_ns >= look_ns:
                look_ns = now_ns + _LIVING_NS
                self.living = self._flows.living(now_ns)
                if not self.living and self._config.workers == 1:
                    return
                if not self._draining:
                    self.drain()
                    if self._map is not None and self._config.workers > 1:
                        threading.Thread(target=self._know_calls_elsewhere, args=(self._map,), daemon=True).start()
                    log.info("edge draining", living=self.living, seconds_at_most=drain_s)
            self._turn()
            now_ns = time.monotonic_ns()

    def _know_calls_elsewhere(self, kept: FlowMap) -> None:
        """Read which calls the other workers have; off the loop. No new ones come to them from now on."""
        ufrags = frozenset(entry.ufrag for entry in kept.load(time.time_ns()) if entry.ufrag is not None)
        self._router.ufrags_elsewhere = ufrags

    def _restore(self, kept: FlowMap) -> None:
        """Take up the flows of this edge's previous life, unless they are older than a flow may be idle."""
        entries = kept.load(time.time_ns())
        config = self._config
        allowed, now_ns = set(config.transceivers.values()), time.monotonic_ns()
        for entry in entries:
            if entry.transceiver in allowed and worker_of(*entry.client, config.workers) == config.worker:
                with contextlib.suppress(FlowRefusedError):  # bounds may have been lowered since
                    self._flows.restore(entry, now_ns)
        if entries:
            _log.info("flows restored", edge=config.name, flows=len(self._flows.by_address), saved=len(entries))

    def _save(self, kept: FlowMap, now_ns: int) -> None:
        """Keep the flows if they changed; from time to time also if not, as an old map is not believed."""
        changes, saved_ns = self._saved
        fresh_ns = int(self._config.limits.idle_s * _NS / 3)
        if now_ns - saved_ns < (_SAVE_NS if changes != self._flows.changes else fresh_ns):
            return
        self._saved = self._flows.changes, now_ns
        self._chores.append(kept.save(list(self._flows.by_address.values()), time.time_ns()))

    def _idle_s(self) -> float:
        return min(_STOP_CHECK_S, max(0.0, (self._next_flush_ns - time.monotonic_ns()) / _NS))

    def _plan(self, now_ns: int) -> None:
        """Start what is due, unless the last round of it is still going on."""
        if self._chores:
            return
        if now_ns >= self._next_flush_ns:
            self._next_flush_ns = now_ns + int(self._config.limits.flush_s * _NS)
            self._chores.append(self._flusher.flush(time.time_ns()))
        if now_ns >= self._next_sweep_ns:
            self._next_sweep_ns = now_ns + _SWEEP_NS
            self._chores.append(self._flows.sweep(now_ns))
            self._tell_refusals()
        if self._config.probes and now_ns >= self._next_probe_ns:
            self._next_probe_ns = now_ns + PROBE_NS
            self._internal.send_batch(self._router.pings(time.time_ns()))
        if self._map is not None:
            self._save(self._map, now_ns)
        if now_ns >= self._next_log_ns:
            self._next_log_ns = now_ns + _LOG_NS
            counters = self.counters()
            if counters != self._logged:
                self._logged = counters
                _log.info("edge counters", edge=self._config.name, region=self._config.region, **asdict(counters))

    def _tell_refusals(self) -> None:
        for whom, refusal in self._forwarder.refusals().items():
            if whom not in self._refused:
                self._refused.add(whom)
                _log.warning(
                    f"the kernel does not segment messages to {whom} (tunnel, small MTU or old kernel); from now on "
                    "datagrams to them leave one by one, which costs more CPU",
                    edge=self._config.name,
                    error=str(refusal),
                )

    def _work(self, until_ns: int | None) -> None:
        """Take one step of the first chore, and more until an instant; None: all."""
        chore = self._chores[0]
        try:
            next(chore)
            while until_ns is None or time.monotonic_ns() < until_ns:
                next(chore)
        except StopIteration:
            self._chores.remove(chore)
        except Exception:  # noqa: BLE001 - voice goes on whatever telemetry does; logged and counted
            self._chores.remove(chore)
            self._telemetry_errors += 1
            now_ns = time.monotonic_ns()
            if now_ns >= self._next_trouble_ns:  # what fails once a flush must not fill a disk with tracebacks
                self._next_trouble_ns = now_ns + _LOG_NS
                _log.exception(
                    "telemetry failed; packets and round trips that it had in hand are counted as shed (error)",
                    edge=self._config.name,
                    failed=self._telemetry_errors,
                )
