"""Which edge is nearest to a client: the ways in that signalling offers, ordered by what clients measured of them.

`GET /v1/edges` lists the edges, the nearest first as far as is known, each with a check that the client may send to it:
a STUN binding request that passes the edge to the transceiver and back, which is the way that its voice would go.
`POST /v1/edges/rtt` tells what came of it. A call to the region `auto` then enters by the nearest edge.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from relay.transceiver.config import EdgeAddress
from relay.transceiver.transceiver import Transceiver

AUTO: Final = "auto"
"""Asked for as a region: the nearest edge, of whatever region."""

CLIENTS_MAX: Final = 10_000
"""Whose measurements are kept; the one that reported longest ago gives way."""

KEPT_S: Final = 600.0
RTT_MS_MAX: Final = 60_000.0
REPORT_BYTES_MAX: Final = 16_384

Rtts = Mapping[str, float | None]
"""Edge → round trip in milliseconds, None where the client got no answer."""


def ordered(edges: Sequence[EdgeAddress], rtts: Rtts, hint: str | None = None) -> list[EdgeAddress]:
    """Return the edges, the best for a client first.

    Measured ones by their round trip; then those of the region hinted at; then as declared. An edge that did not answer
    the client is the last choice.
    """

    def rank(edge: EdgeAddress) -> tuple[int, float, bool]:
        rtt_ms = rtts.get(edge.name)
        silent = edge.name in rtts and rtt_ms is None
        return 2 if silent else rtt_ms is None, rtt_ms or 0.0, edge.region != hint

    return sorted(edges, key=rank)


class Board:
    """What each client, by its IP address, measured last. People behind one NAT share an entry, and a network."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[float, Rtts]] = OrderedDict()

    def report(self, client: str, rtts: Rtts, now_s: float) -> None:
        """Keep a client's measurements, in place of its last ones."""
        self._entries.pop(client, None)
        self._entries[client] = now_s, dict(rtts)
        if len(self._entries) > CLIENTS_MAX:
            self._entries.popitem(last=False)

    def rtts(self, client: str, now_s: float) -> Rtts:
        """Return what a client measured in the last ten minutes, if it did."""
        at_s, rtts = self._entries.get(client, (now_s, {}))
        return rtts if now_s - at_s <= KEPT_S else {}


def read_report(body: bytes, known: Sequence[str]) -> Rtts:
    """Read `{"rtt_ms": {edge: number or null}}`; what is said of other edges is left out.

    Raises:
        ValueError: it is no such thing.

    """
    try:
        given = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    rtts = given.get("rtt_ms") if isinstance(given, dict) else None
    if not isinstance(rtts, dict):
        raise ValueError('give {"rtt_ms": {"edge": 12.5}}')  # noqa: TRY004 - one kind of error for callers
    return {name: _milliseconds(rtts[name]) for name in known if name in rtts}


def _milliseconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= RTT_MS_MAX:
        raise ValueError(f"a round trip is between 0 and {RTT_MS_MAX:.0f} ms, or null")
    return float(value)


def make_router(transceiver: Transceiver, board: Board) -> APIRouter:
    """Return the HTTP interface."""
    router = APIRouter()

    @router.get("/v1/edges")
    async def edges(request: Request) -> Response:
        rtts = board.rtts(client_of(request), time.monotonic())
        listed = [
            {
                "name": edge.name,
                "region": edge.region,
                "rtt_ms": rtts.get(edge.name),
                "check": transceiver.offer_check(edge),
            }
            for edge in ordered(transceiver.edges, rtts, request.query_params.get("region"))
        ]
        return JSONResponse({"edges": listed}, headers={"cache-control": "no-store"})

    @router.post("/v1/edges/rtt")
    async def report(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > REPORT_BYTES_MAX:
                raise HTTPException(413, f"a report has at most {REPORT_BYTES_MAX} bytes")
        try:
            rtts = read_report(bytes(body), [edge.name for edge in transceiver.edges])
        except ValueError as error:
            raise HTTPException(400, f"the report cannot be read: {error}") from error
        board.report(client_of(request), rtts, time.monotonic())
        return Response(status_code=204)

    return router


def client_of(request: Request) -> str:
    """Return by what a client is known here: its IP address."""
    return request.client.host if request.client else ""
