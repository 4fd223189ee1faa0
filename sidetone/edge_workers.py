"""The parent of an edge's workers: holds their sockets, starts them, replaces one that dies, adds up what they did.

The sockets are the parent's, so that a worker's death loses nothing that the kernel has taken, and moves no client to
another worker. One worker more than there are places is kept ready: taking a dead one's place takes milliseconds.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

import structlog

from relay.edge import Counters
from relay.edge.workers import Sockets, open_sockets
from sidetone import process
from sidetone.addresses import follow_in_background, resolve_all
from sidetone.edge_role import Address, Places, no_address, shown, transceivers_of
from sidetone.edge_totals import NOTHING, WorkerMetrics, over, total
from sidetone.edge_worker import MESSAGE_BYTES_MAX
from sidetone.endpoints import announced
from sidetone.settings import Settings, SettingsError

_TURN_S: Final = 0.1
_REPORT_EVERY_S: Final = 1.0
_REPORT_EVERY_AT_END_S: Final = 0.25
_PATIENCE_S: Final = 1.0  # for reports that somebody waits for
_END_S: Final = 8.0  # beyond draining, in which a worker hands on its facts
_DEATHS_AT_ONCE: Final = 3
_DEATHS_WITHIN_S: Final = 60.0
_PAUSE_MAX_S: Final = 10.0

_log = structlog.get_logger("sidetone.edge")


class _Worker:
    """One process, and what it said last."""

    def __init__(self, started: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.process = started
        self.control = control
        self.ready = False
        self.place: int | None = None
        self.forwarding = False
        self.counters = NOTHING
        self.spools = (0, 0)
        self.refusing = False
        self.living: int | None = None
        self.reported = 0

    def tell(self, message: dict[str, Any], sockets: Sequence[socket.socket] = ()) -> None:
        """Send a message; whoever does not read them is as good as gone, and is seen to be."""
        try:
            socket.send_fds(
                self.control, [json.dumps(message).encode()], [one.fileno() for one in sockets], socket.MSG_DONTWAIT
            )
        except OSError as error:
            _log.debug("edge worker not told", worker=self.place, problem=error.strerror)


class Workers:
    """The workers of one edge. `run` belongs to one thread; all else may be called from any.

    Args:
        sockets: of the places.
        start: starts a worker whose standard input is the given socket.
        transceivers: code → numeric address.

    """

    def __init__(
        self,
        sockets: Sequence[Sockets],
        start: Callable[[socket.socket], subprocess.Popen[bytes]],
        transceivers: Mapping[str, Address],
    ) -> None:
        self._sockets = sockets
        self._start = start
        self._transceivers = dict(transceivers)
        self._changed = threading.Condition()
        self._workers: list[_Worker] = []
        self._gone = [NOTHING for _ in sockets]
        """What those did that had a place and ended."""
        self._overflowed = [0 for _ in sockets]
        self._turned_s = [time.monotonic() for _ in sockets]
        self._spools = (0, 0)
        self._asked = 0
        self._deaths: deque[float] = deque(maxlen=32)
        self._start_at_s = self._report_at_s = 0.0
        self._began = False
        self._ending = False
        self._selector = selectors.DefaultSelector()
        self.restarts = 0
        """Workers that ended unasked."""

    @property
    def forwarding(self) -> int:
        """Places whose worker forwards now."""
        with self._changed:
            return sum(worker.forwarding for worker in self._workers)

    @property
    def silent_s(self) -> float:
        """Seconds since the loop of the worst of them is known to have turned."""
        with self._changed:
            return time.monotonic() - min(self._turned_s)

    @property
    def spools_set_aside(self) -> int:
        """Damaged spools found."""
        return self._of_spools(0)

    @property
    def spools_deleted(self) -> int:
        """Damaged spools deleted."""
        return self._of_spools(1)

    def know(self, transceivers: Mapping[str, Address]) -> None:
        """Let all forward to these from now on, as `Edge.know`."""
        with self._changed:
            self._transceivers = dict(transceivers)
            for worker in self._workers:
                if worker.place is not None:
                    worker.tell({"transceivers": self._transceivers})

    def counters(self) -> Counters:
        """Return what all of them did, those that ended included; asks them first."""
        with self._changed:
            self._ask()
            self._changed.wait_for(self._all_reported, _PATIENCE_S)
            return total(map(self._of_place, range(len(self._sockets))))

    def carried(self) -> dict[int, int]:
        """Return datagrams forwarded by place, as last reported."""
        with self._changed:
            counted = {place: self._of_place(place) for place in range(len(self._sockets))}
        return {place: one.forwarded_up + one.forwarded_down for place, one in counted.items()}

    def run(self, stop: threading.Event, drain_s: float, on_ready: Callable[[], None]) -> None:
        """Keep every place taken until `stop`, then end all and return.

        Raises:
            SettingsError: a worker ended before the edge was ever ready.

        """
        try:
            while not stop.is_set():
                self._turn()
                if not self._began and self.forwarding == len(self._sockets):
                    self._began = True
                    on_ready()
            self._end(time.monotonic() + drain_s + _END_S)
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.wait()
                worker.control.close()
            self._selector.close()

    def _turn(self) -> None:
        with self._changed:
            self._fill()
            if time.monotonic() >= self._report_at_s:
                self._report_at_s = time.monotonic() + (_REPORT_EVERY_AT_END_S if self._ending else _REPORT_EVERY_S)
                self._ask()
        for key, _ in self._selector.select(_TURN_S):
            worker: _Worker = key.data
            try:
                data = worker.control.recv(MESSAGE_BYTES_MAX)
            except OSError:
                data = b""
            with self._changed:
                if data:
                    self._heard(worker, json.loads(data))
                else:
                    self._lost(worker)
                self._changed.notify_all()

    def _fill(self) -> None:
        """Give free places to those who wait, and see to it that one more waits."""
        if self._ending:
            return
        taken = {worker.place for worker in self._workers}
        free = [place for place in range(len(self._sockets)) if place not in taken]
        waiting = [worker for worker in self._workers if worker.place is None]
        for place, worker in zip(list(free), [worker for worker in waiting if worker.ready], strict=False):
            worker.place = place
            worker.tell({"take": place, "transceivers": self._transceivers}, self._sockets[place])
            free.remove(place)
            waiting.remove(worker)
        wanted = len(free) + (1 if self._began else 0)
        if len(waiting) < wanted and time.monotonic() >= self._start_at_s:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its:
                worker = _Worker(self._start(its), ours)
            self._workers.append(worker)
            self._selector.register(ours, selectors.EVENT_READ, worker)

    def _heard(self, worker: _Worker, told: dict[str, Any]) -> None:
        worker.ready |= "ready" in told
        if "forwarding" in told and worker.place is not None:
            worker.forwarding = True
            self._turned_s[worker.place] = time.monotonic()
            _log.info("edge worker forwards", worker=worker.place, pid=worker.process.pid)
        if "report" in told and worker.place is not None:
            worker.reported = told["report"]
            worker.counters = Counters(**told["counters"])
            worker.spools = tuple(told["spools"])
            worker.refusing = told["refusing"]
            worker.living = told["living"]
            self._turned_s[worker.place] = time.monotonic() - told["silent_s"]
            self._overflowed[worker.place] = max(self._overflowed[worker.place], worker.counters.overflowed)

    def _lost(self, worker: _Worker) -> None:
        """Take leave of a worker that has ended; its place is free."""
        self._selector.unregister(worker.control)
        worker.control.close()
        worker.process.kill()  # if it only closed its end: nobody else may have its place before it is gone
        status = worker.process.wait()
        self._workers.remove(worker)
        self._spools = (self._spools[0] + worker.spools[0], self._spools[1] + worker.spools[1])
        if worker.place is not None:
            self._gone[worker.place] = total([self._gone[worker.place], over(worker.counters)])
        if self._ending:
            return
        if not self._began:
            raise SettingsError(f"an edge worker ended before the edge was ready (exit status {status}); see above")
        self.restarts += 1
        now_s = time.monotonic()
        self._deaths.append(now_s)
        lately = sum(now_s - death_s <= _DEATHS_WITHIN_S for death_s in self._deaths)
        if lately > _DEATHS_AT_ONCE:
            self._start_at_s = now_s + min(_PAUSE_MAX_S, 2.0 ** (lately - _DEATHS_AT_ONCE))
        _log.warning("edge worker ended, another takes its place", worker=worker.place, exit_status=status)

    def _end(self, until_s: float) -> None:
        with self._changed:
            self._ending = True
            for worker in self._workers:
                if worker.place is None:
                    worker.control.shutdown(socket.SHUT_RDWR)
                else:
                    worker.process.terminate()
        while self._workers and time.monotonic() < until_s:
            self._turn()
            # None goes before: a client that moves may come to any, and a port without a reader has calls lost.
            if all(worker.living == 0 for worker in self._workers if worker.place is not None):
                for worker in self._workers:
                    worker.control.shutdown(socket.SHUT_WR)

    def _ask(self) -> None:
        self._asked += 1
        refusing = [worker for worker in self._workers if worker.refusing]
        for worker in self._workers:
            if worker.forwarding:
                worker.tell({"report": self._asked, "others_refuse": refusing not in ([], [worker])})

    def _all_reported(self) -> bool:
        return all(worker.reported >= self._asked for worker in self._workers if worker.forwarding)

    def _of_place(self, place: int) -> Counters:
        here = [worker.counters for worker in self._workers if worker.place == place]
        return replace(total([self._gone[place], *here]), overflowed=self._overflowed[place])

    def _of_spools(self, kind: int) -> int:
        with self._changed:
            return self._spools[kind] + sum(worker.spools[kind] for worker in self._workers)


def run_workers(settings: Settings, name: str, places: Places) -> None:
    """Be the parent of an edge's workers until SIGTERM.

    Raises:
        SettingsError: the addresses cannot be had, the kernel cannot share them out, or a worker cannot start.

    """
    mine = settings.edge(name)
    settings.make_data_dir()
    stop = process.stop_event()
    transceivers = transceivers_of(settings)
    resolved = resolve_all(transceivers, "SIDETONE_TRANSCEIVERS")
    try:
        sockets = open_sockets(places.public, places.internal, settings.edge_workers)
    except OSError as error:
        raise no_address(error, name, places) from None
    environment = {**os.environ, **settings.as_environment()}
    for meant_for_this in (process.LIFELINE_ENV, process.NOTIFY_ENV):
        environment.pop(meant_for_this, None)

    def start(control: socket.socket) -> subprocess.Popen[bytes]:
        # Of its own session, so that Ctrl-C on the terminal reaches the parent alone, which ends them.
        command = [sys.executable, "-m", "sidetone.edge_worker", name]
        return subprocess.Popen(command, stdin=control.fileno(), env=environment, start_new_session=True)  # noqa: S603 - our own

    workers = Workers(sockets, start, resolved)
    more = WorkerMetrics(lambda: workers.forwarding, lambda: workers.restarts, workers.carried)
    with ExitStack() as ending:
        for pair in sockets:
            for one in pair:
                ending.enter_context(one)
        url = shown(settings, workers, workers, ending, [more])

        def ready() -> None:
            ending.enter_context(announced(settings.data_dir, "edge", mine.name, mine.region, url))
            process.notify_ready()

        follow_in_background(transceivers, resolved, workers.know, stop)
        workers.run(stop, settings.drain_s, ready)
