"""How far a caller is from each edge: measured before the call, reported, and the nearest region chosen."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx
from aioice import stun

CHECKS: Final = 3
SPACING_S: Final = 0.02
PATIENCE_S: Final = 1.5
_TIMEOUT_S: Final = 10.0


class RegionsError(Exception):
    """The regions cannot be learnt; the message says why."""


@dataclass(frozen=True, slots=True)
class Way:
    """An edge and the round trip through it in milliseconds, None if it did not answer."""

    edge: str
    region: str
    rtt_ms: float | None


async def nearest(signalling_url: str, token: str | None = None) -> list[Way]:
    """Measure the way through every edge, report it, and return the ways in the server's order, the nearest first.

    Raises:
        RegionsError: the server does not answer, or is none of ours.

    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        async with httpx.AsyncClient(base_url=signalling_url, headers=headers, timeout=_TIMEOUT_S) as http:
            offered = (await http.get("/v1/edges")).raise_for_status().json()["edges"]
            rtts = await asyncio.gather(*(measure(edge["check"]) for edge in offered))
            measured = {edge["name"]: rtt for edge, rtt in zip(offered, rtts, strict=True) if edge["check"]}
            (await http.post("/v1/edges/rtt", json={"rtt_ms": measured})).raise_for_status()
            listed = (await http.get("/v1/edges")).raise_for_status().json()["edges"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise RegionsError(f"{signalling_url} does not say which edges there are: {error}") from error
    return [Way(edge["name"], edge["region"], measured.get(edge["name"], edge["rtt_ms"])) for edge in listed]


async def measure(check: dict[str, Any] | None) -> float | None:
    """Return the shortest of a few round trips in milliseconds; None if there was no answer or no check to send."""
    if check is None:
        return None
    loop = asyncio.get_running_loop()
    where = str(check["host"]), int(check["port"])
    transport, answers = await loop.create_datagram_endpoint(_Answers, remote_addr=where)
    try:
        for _ in range(CHECKS):
            request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
            request.attributes["USERNAME"] = str(check["username"])
            request.attributes["PRIORITY"] = 1
            request.add_message_integrity(str(check["password"]).encode())
            request.add_fingerprint()
            answers.sent[request.transaction_id] = time.perf_counter()
            transport.sendto(bytes(request))
            await asyncio.sleep(SPACING_S)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await answers.all_here.wait()
        except TimeoutError:
            pass  # what came counts
    finally:
        transport.close()
    return min(answers.rtts_ms, default=None)


class _Answers(asyncio.DatagramProtocol):
    """Times what comes back."""

    def __init__(self) -> None:
        self.sent: dict[bytes, float] = {}
        self.rtts_ms: list[float] = []
        self.all_here = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        del addr
        sent_s = self.sent.pop(data[8:20], None)
        if sent_s is not None:
            self.rtts_ms.append((time.perf_counter() - sent_s) * 1e3)
            if len(self.rtts_ms) == CHECKS:
                self.all_here.set()
