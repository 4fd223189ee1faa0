"""One of several processes of an edge: gets ready, waits for a place at the ports, and forwards.

Standard input is a socket that the parent holds. What comes and goes there are JSON objects, a message each:

    worker → parent   {"ready": true}                          everything is loaded
    parent → worker   {"take": 1, "transceivers": …}           with the place's two sockets (SCM_RIGHTS)
    worker → parent   {"forwarding": true}
    parent → worker   {"report": 7, "others_refuse": false}, {"transceivers": …}
    worker → parent   {"report": 7, "counters": …, "silent_s": …, "spools": [0, 0], "refusing": false,
                       "living": null}                         while it drains: flows of calls that it waits for

The end of it means that nothing is to be waited for: the parent is gone, and the ports must be free for the next one,
or no worker has a call any more.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
from dataclasses import asdict
from typing import Any, Final

import structlog

from eventlog.emitter import Emitter
from eventlog.lean import steady_memory, without_pandas
from relay.edge import Edge, wire
from relay.edge.flush import warm_up
from relay.edge.workers import Sockets
from sidetone import process
from sidetone.edge_role import config_of, facts_of, places_of, yield_to_voice
from sidetone.settings import load

MESSAGE_BYTES_MAX: Final = 1 << 17
_STOP_CHECK_S: Final = 0.2


def main(name: str) -> None:
    """Be a worker of the edge of this name, until SIGTERM or until the parent is gone."""
    settings = load()
    process.configure_logging(settings.log_format)
    without_pandas()
    steady_memory()
    yield_to_voice()
    stop = process.stop_event()
    control = socket.socket(fileno=sys.stdin.fileno())
    places = places_of(settings, name)
    warm_up(config_of(settings, name, places, {}))
    wire.load()
    emitter = facts_of(settings, name)
    process.settle_memory()
    _tell(control, {"ready": True})
    while not select.select([control], [], [], _STOP_CHECK_S)[0]:
        if stop.is_set():
            return
    data, handles, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, 2)
    if not data:
        return
    told = json.loads(data)
    process.prefer_voice()
    structlog.contextvars.bind_contextvars(worker=told["take"])
    sockets = Sockets(*(socket.socket(fileno=handle) for handle in handles))
    config = config_of(settings, name, places, _addresses(told), told["take"])
    edge = Edge(config, emitter, sockets)
    emitter.start()
    threading.Thread(target=_obey, args=(control, edge, emitter, stop), name="control", daemon=True).start()
    _tell(control, {"forwarding": True})
    edge.run(stop, settings.drain_s)
    emitter.close()


def _obey(control: socket.socket, edge: Edge, emitter: Emitter, stop: threading.Event) -> None:
    while data := _heard(control):
        told = json.loads(data)
        if "transceivers" in told:
            edge.know(_addresses(told))
        if "report" in told:
            edge.heed(others_refuse=told["others_refuse"])
            _tell(
                control,
                {
                    "report": told["report"],
                    "counters": asdict(edge.counters()),
                    "silent_s": edge.silent_s,
                    "spools": [emitter.spools_set_aside, emitter.spools_deleted],
                    "refusing": edge.refusing,
                    "living": edge.living,
                },
            )
    edge.hurry()
    stop.set()


def _heard(control: socket.socket) -> bytes:
    try:
        return control.recv(MESSAGE_BYTES_MAX)
    except ConnectionError:  # the parent went with something unread
        return b""


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode())
    except OSError:
        return  # the parent is gone, which whoever reads from it will see


def _addresses(told: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {code: (host, port) for code, (host, port) in told["transceivers"].items()}


if __name__ == "__main__":
    main(sys.argv[1])
