"""What every role's process does the same way: log, say that it is ready, end when asked or orphaned."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Coroutine
from typing import Any, Final, NoReturn, TypeVar

import structlog

LIFELINE_ENV: Final = "SIDETONE_LIFELINE"
"""Set to `1` by the supervisor: standard input is a pipe that it holds, and its end means that it died."""

NOTIFY_ENV: Final = "NOTIFY_SOCKET"
"""Where a role says that it is ready: sd_notify(3)."""

_T = TypeVar("_T")

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def configure_logging(log_format: str) -> None:
    """Log to standard error, as console lines or as JSON."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # A line is one write, so that those of an edge's workers do not mix.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )


def notify_ready() -> None:
    """Tell the supervisor that this role can work, by systemd's notify protocol (sd_notify(3))."""
    address = os.environ.get(NOTIFY_ENV)
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.send(f"READY=1\nMAINPID={os.getpid()}".encode())


def follow_parent() -> None:
    """End this process as SIGTERM would once the supervisor is gone, however it went."""
    if os.environ.get(LIFELINE_ENV) != "1":
        return

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def end_now() -> NoReturn:
    """End this process with status 0, whatever its threads wait for."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def settle_memory() -> None:
    """Exempt what exists now from garbage collection.

    A full collection looks through all that the libraries made at import: it takes tens of milliseconds, in which no
    voice is played, and frees nothing.
    """
    gc.collect()
    gc.freeze()


def prefer_voice() -> None:
    """Let this process, which carries voice, run before all others of the machine where that is allowed.

    To be called before other threads are started: they inherit it, and must, because a thread that holds the
    interpreter and does not get to run holds up voice all the same.

    Without it a busy machine keeps a thread waiting for 4 to 9 ms at a time (measured on two cores), several times in
    a tick of 20 ms. Real-time scheduling takes root or CAP_SYS_NICE; the kernel keeps a share for all others.
    """
    log = structlog.get_logger("sidetone")
    if not hasattr(os, "sched_setscheduler"):
        return
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        log.info("no right to real-time scheduling (CAP_SYS_NICE): voice waits its turn on a busy machine")


def stop_event() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets. Main thread only."""
    stop = threading.Event()
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    return stop


def async_stop_event() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets, on the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    return stop


async def until(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Return what `work` returns, or cancel it and return None once `stop` is set."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
