"""What the workers of an edge and their parent tell each other: one side is real, the other is the test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relay.edge.workers import Sockets, open_sockets
from relay.probe import PING, refuses
from sidetone.edge_totals import NOTHING
from sidetone.edge_worker import MESSAGE_BYTES_MAX
from sidetone.edge_workers import Workers
from tests.integration.edge_tools import LOOPBACK, Peer, wait_for
from tests.integration.worker_tools import WORKERS, settings_with_workers

FAKE_WORKER = f"""
import json, pathlib, socket, sys
control, counters, folder = socket.socket(fileno=0), json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
def tell(**what):
    control.send(json.dumps(what).encode())
tell(ready=True)
taken = json.loads(socket.recv_fds(control, {MESSAGE_BYTES_MAX}, 2)[0])["take"]
tell(forwarding=True)
while data := control.recv({MESSAGE_BYTES_MAX}):
    told = json.loads(data)
    if "report" in told:
        (folder / str(taken)).write_text(str(told["others_refuse"]))
        refusing = taken == 1 and not (folder / "relaxed").exists()
        tell(report=told["report"], counters=counters, silent_s=0.0, spools=[0, 0], refusing=refusing, living=None)
"""


@contextmanager
def places() -> Iterator[list[Sockets]]:
    with ExitStack() as opened:
        sockets = open_sockets((LOOPBACK, 0), (LOOPBACK, 0), WORKERS)
        for pair in sockets:
            for one in pair:
                opened.enter_context(one)
        yield sockets


def test_a_worker_that_refuses_calls_is_told_of_to_the_others(tmp_path: Path) -> None:
    def start(control: socket.socket) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", FAKE_WORKER, json.dumps(asdict(NOTHING)), str(tmp_path)]
        return subprocess.Popen(command, stdin=control.fileno())

    def told() -> list[str]:
        return [path.read_text() for path in (tmp_path / "0", tmp_path / "1") if path.exists()]

    stop = threading.Event()
    with places() as sockets:
        running = threading.Thread(target=Workers(sockets, start, {}).run, args=(stop, 0.0, lambda: None))
        running.start()
        try:
            wait_for(lambda: told() == ["True", "False"], "the first is told, the second knows by itself")
            (tmp_path / "relaxed").touch()
            wait_for(lambda: told() == ["False", "False"], "it is over")
        finally:
            stop.set()
            running.join()


class Parent:
    """Of one worker process, the first of an edge's."""

    def __init__(self, folder: Path, transceiver: Peer, sockets: Sockets, **more: Any) -> None:
        settings = settings_with_workers(folder).model_copy(update=more)
        self.control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(60)
        with its:
            command = [sys.executable, "-m", "sidetone.edge_worker", settings.edges[0].name]
            environment = {**os.environ, **settings.as_environment()}
            self.process = subprocess.Popen(command, stdin=its.fileno(), env=environment, start_new_session=True)
        assert self.heard() == {"ready": True}
        take = {"take": 0, "transceivers": {"alph": transceiver.address}}
        socket.send_fds(self.control, [json.dumps(take).encode()], [one.fileno() for one in sockets])
        assert self.heard() == {"forwarding": True}

    def heard(self) -> dict[str, Any]:
        return dict(json.loads(self.control.recv(MESSAGE_BYTES_MAX)))

    def report(self, *, others_refuse: bool = False) -> dict[str, Any]:
        self.control.send(json.dumps({"report": 1, "others_refuse": others_refuse}).encode())
        return self.heard()


def next_ping(transceiver: Peer) -> bytes:
    transceiver.pending()
    data = transceiver.receive()
    assert data[0] == PING
    return data


def test_the_first_worker_says_to_transceivers_that_another_refuses_calls(tmp_path: Path) -> None:
    transceiver = Peer()
    with transceiver.socket, places() as sockets:
        parent = Parent(tmp_path, transceiver, sockets[0])
        try:
            for others_refuse in (False, True, False):
                assert parent.report(others_refuse=others_refuse)["refusing"] is False
                assert refuses(next_ping(transceiver)) is others_refuse
        finally:
            parent.control.close()
            assert parent.process.wait(20) == 0


def test_a_worker_without_calls_drains_until_its_parent_says_that_all_are_dry(tmp_path: Path) -> None:
    transceiver = Peer()
    with transceiver.socket, places() as sockets:
        parent = Parent(tmp_path, transceiver, sockets[0], drain_s=60.0)
        try:
            assert parent.report()["living"] is None
            parent.process.terminate()
            wait_for(lambda: parent.report()["living"] == 0, "it drains")
            wait_for(lambda: parent.report()["refusing"], "it takes no calls")
            assert refuses(next_ping(transceiver))
            assert parent.process.poll() is None
        finally:
            parent.control.close()
            assert parent.process.wait(20) == 0
