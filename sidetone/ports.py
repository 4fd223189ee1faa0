"""Free ports for what nobody has to find by a known one."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack, suppress
from typing import Final

_PORTS: Final = range(20_000, 30_000)
"""Below the range from which systems take the ports of outgoing connections: one of those could be given away between
here and the start of who is to listen."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that nobody holds.

    Raises:
        OSError: there is none.

    """
    with ExitStack() as held:
        return held_port(held, kind)


def held_port(held: ExitStack, *kinds: socket.SocketKind) -> int:
    """Return such a port and hold it until `held` is closed, so that no two are the same.

    Args:
        held: what holds it.
        kinds: of sockets that it has to be free for.

    Raises:
        OSError: there is none.

    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with suppress(OSError):
            for kind in kinds:
                held.enter_context(socket.socket(socket.AF_INET, kind)).bind(("0.0.0.0", port))  # noqa: S104 - nobody listens
            return port
    raise OSError(errno.EADDRINUSE, f"no port of {_PORTS.start} to {_PORTS.stop - 1} is free")
