"""Addresses for a stack that nobody has to find by a known port."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from typing import Any

from sidetone.settings import Settings, SettingsError

_TCP_SETTINGS = ("store_port", "signalling_port", "api_port", "dashboard_port", "collector_port")
_PORTS = range(20_000, 30_000)


def with_free_ports(settings: Settings) -> Settings:
    """Return the settings with a free port wherever the user named none."""
    with ExitStack() as held:
        changes: dict[str, Any] = {
            name: _free(held, socket.SOCK_STREAM) for name in _TCP_SETTINGS if name not in settings.model_fields_set
        }
        if "edges" not in settings.model_fields_set:
            changes["edges"] = [
                edge.model_copy(
                    update={"port": _free(held, socket.SOCK_DGRAM), "internal_port": _free(held, socket.SOCK_DGRAM)}
                )
                for edge in settings.edges
            ]
        if "transceivers" not in settings.model_fields_set:
            changes["transceivers"] = [
                transceiver.model_copy(update={"port": _free(held, socket.SOCK_DGRAM)})
                for transceiver in settings.transceivers
            ]
    return settings.model_copy(update=changes)


def _free(held: ExitStack, kind: int) -> int:
    """Find a port that nobody holds, and hold it until the last is found, so that no two are the same."""
    # Below the range from which systems take the ports of outgoing connections: one of those could be given away
    # between here and the start of the role.
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        sock = held.enter_context(socket.socket(socket.AF_INET, kind))
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port
    raise SettingsError(f"no port of {_PORTS.start} to {_PORTS.stop - 1} is free on 127.0.0.1")
