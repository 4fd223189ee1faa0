"""Signalling over HTTP: offers in, answers out, and the page on which a person talks to the agent."""

from __future__ import annotations

from fastapi import FastAPI

from relay.transceiver import Transceiver


def create_app(transceiver: Transceiver) -> FastAPI:
    """Return the relay's HTTP interface around a transceiver, which it starts and closes with itself."""
    raise NotImplementedError
