"""Checks that a client may send before it calls, to learn how far it is through an edge: answered, and nothing more."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from aioice import stun

from relay import encap
from relay.transceiver.config import EdgeAddress
from relay.transceiver.demux import Client, Demux
from relay.transceiver.ice import password
from relay.ufrag import RANDOM_BYTES

LIFE_S: Final = 20.0
CHECKS_MAX: Final = 500
"""Open at once; more are not given out, and the client goes by what else it knows."""

_ANSWERS_MAX: Final = 10


class _Check:
    """One edge's check for one client: a peer of the demultiplexer that answers signed requests."""

    remote = None

    def __init__(self, edge: EdgeAddress, ufrag: str, answer: Callable[[bytes, Client], None]) -> None:
        self.edge = edge
        self.ufrag = ufrag
        self.password = password()
        self._answer = answer
        self._left = _ANSWERS_MAX

    def authentic(self, message: stun.Message) -> bool:
        attributes = message.attributes
        return (
            self._left > 0
            and message.message_method is stun.Method.BINDING
            and "MESSAGE-INTEGRITY" in attributes
            and bool(message.check_message_integrity(self.password.encode()))
        )

    def asked(self, message: stun.Message, client: Client) -> bool:
        del message, client
        return False  # it never asks

    def stun_received(self, message: stun.Message, client: Client, arrival_ns: int) -> None:
        del arrival_ns
        if message.message_class is not stun.Class.REQUEST:
            return
        self._left -= 1
        response = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.RESPONSE,
            transaction_id=message.transaction_id,
        )
        response.attributes["XOR-MAPPED-ADDRESS"] = client
        response.add_message_integrity(self.password.encode())
        data = bytes(response)
        # A recorded request may come from a forged source, which must not get more than was sent.
        if len(data) <= len(bytes(message)):
            self._answer(data, client)

    def dtls_received(self, data: bytes) -> None:
        """Nothing but checks is taken."""

    def srtp_received(self, data: bytes, arrival_ns: int) -> None:
        """Nothing but checks is taken."""


class Checks:
    """The checks that are open now, at most some hundreds, each for some seconds."""

    def __init__(self, demux: Demux, header_key: bytes, mint: Callable[[bytes], str]) -> None:
        self._demux = demux
        self._header_key = header_key
        self._mint = mint
        self._open = 0

    def offer(self, edge: EdgeAddress, send: Callable[[bytes, tuple[str, int]], None]) -> dict[str, str | int] | None:
        """Return where and with what to check an edge; None if too many checks are open."""
        if self._open >= CHECKS_MAX:
            return None

        def answer(data: bytes, client: Client) -> None:
            send(encap.down_header(*client, bytes(encap.SESSION_BYTES), self._header_key) + data, edge.internal)

        check = _Check(edge, self._mint(secrets.token_bytes(RANDOM_BYTES)), answer)
        self._open += 1
        self._demux.add(check.ufrag, check)
        asyncio.get_running_loop().call_later(LIFE_S, self._close, check)
        host, port = edge.advertised
        return {"host": host, "port": port, "username": f"{check.ufrag}:rtt", "password": check.password}

    def _close(self, check: _Check) -> None:
        self._open -= 1
        self._demux.remove(check.ufrag, check)
