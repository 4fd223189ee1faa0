"""Host names become the numeric addresses that voice needs, at a role's start and again when they move.

A container's name is known from the moment it starts and may mean another address when it is made anew, so roles wait
for names for a while and look at them again while they run.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from sidetone.settings import SettingsError

Address = tuple[str, int]

WAIT_S: Final = 30.0
"""How long a role waits at its start for a name that is not known yet."""

LOOK_AGAIN_S: Final = 5.0

_RETRY_S: Final = 0.5
_V6: Final = socket.AF_INET6

_log = structlog.get_logger("sidetone.addresses")


def is_numeric(host: str) -> bool:
    """Tell whether this is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def look_up(host: str) -> str:
    """Return the numeric address of a host, IPv4 before IPv6, as sockets write it: datagrams are known by it.

    Raises:
        OSError: nobody knows the name now.

    """
    if is_numeric(host):
        scoped = "%" in host
        return host if scoped or ":" not in host else socket.inet_ntop(_V6, socket.inet_pton(_V6, host))
    found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return str(min(found, key=lambda info: info[0] != socket.AF_INET)[4][0])


def resolve(host: str, setting: str, *, wait_s: float = WAIT_S) -> str:
    """Return the numeric address of a host, waiting for its name to become known.

    Args:
        host: name or address.
        setting: where the host comes from, for the error: `SIDETONE_EDGES, edge eu-west-1`.
        wait_s: how long to wait for the name.

    Raises:
        SettingsError: the name was not known in time.

    """
    return resolve_all({"": (host, 0)}, setting, wait_s=wait_s)[""][0]


def resolve_all(places: Mapping[str, Address], setting: str, *, wait_s: float = WAIT_S) -> dict[str, Address]:
    """Return named hosts and ports with their hosts resolved, waiting for names to become known.

    Those whose names are not known in time are left out: one edge that is down must not keep the others from work.

    Args:
        places: hosts and ports by name.
        setting: where they come from, for the error.
        wait_s: how long to wait for all of them.

    Raises:
        SettingsError: not one of them was known in time.

    """
    deadline = time.monotonic() + wait_s
    known: dict[str, Address] = {}
    waiting = False
    while True:
        missing = {}
        for name, (host, port) in places.items():
            try:
                known[name] = known.get(name) or (look_up(host), port)
            except OSError as error:
                missing[name] = f"no address is known for the host {host!r} ({error.strerror})"
        if not missing or time.monotonic() >= deadline:
            break
        if not waiting:
            waiting = True
            _log.info("waiting for addresses", setting=setting, missing=missing)
        time.sleep(_RETRY_S)
    for name, problem in missing.items():
        where = f"{setting}, {name}" if name else setting
        remedy = f"{problem}, waited {wait_s:g} s; start that host, or correct its name in {where}"
        if not known:
            raise SettingsError(remedy)
        _log.warning("going on without a host", problem=remedy)
    return known


def follow(
    places: Mapping[str, Address],
    known: Mapping[str, Address],
    moved: Callable[[dict[str, Address]], None],
    stop: threading.Event,
    *,
    every_s: float = LOOK_AGAIN_S,
) -> None:
    """Call `moved` with all addresses whenever a name means another one, until `stop`; blocking.

    A name that is unknown for the moment keeps its last address, one that was never known gets its first.

    Args:
        places: hosts and ports by name, as in the settings.
        known: the same as first resolved.
        moved: told about all of them, on this thread.
        stop: ends it.
        every_s: time between two looks.

    """
    now = dict(known)
    while not stop.wait(every_s):
        seen = dict(now)
        for name, (host, port) in places.items():
            try:
                seen[name] = (look_up(host), port)
            except OSError as error:
                _log.debug("a host's address is not known", host=host, detail=error.strerror)
        if seen != now:
            _log.info("addresses changed", was=now, now=seen)
            now = seen
            moved(dict(now))


def follow_in_background(
    places: Mapping[str, Address],
    known: Mapping[str, Address],
    moved: Callable[[dict[str, Address]], None],
    stop: threading.Event,
) -> None:
    """Do what `follow` does on a thread of its own, if there is any name among the hosts."""
    if all(is_numeric(host) for host, _ in places.values()):
        return
    threading.Thread(target=follow, args=(places, known, moved, stop), name="addresses", daemon=True).start()
