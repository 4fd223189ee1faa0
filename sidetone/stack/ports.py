"""Addresses for a stack that nobody has to find by a known port."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any

from sidetone.ports import held_port
from sidetone.settings import Settings

_TCP_SETTINGS = ("store_port", "signalling_port", "api_port", "dashboard_port", "collector_port")


def with_free_ports(settings: Settings) -> Settings:
    """Return the settings with a free port wherever the user named none."""
    with ExitStack() as held:
        changes: dict[str, Any] = {
            name: held_port(held, socket.SOCK_STREAM) for name in _TCP_SETTINGS if name not in settings.model_fields_set
        }
        if "edges" not in settings.model_fields_set:
            changes["edges"] = [
                edge.model_copy(
                    update={
                        "port": held_port(held, socket.SOCK_DGRAM),
                        "internal_port": held_port(held, socket.SOCK_DGRAM),
                    }
                )
                for edge in settings.edges
            ]
        if "transceivers" not in settings.model_fields_set:
            changes["transceivers"] = [
                transceiver.model_copy(update={"port": held_port(held, socket.SOCK_DGRAM)})
                for transceiver in settings.transceivers
            ]
    return settings.model_copy(update=changes)
