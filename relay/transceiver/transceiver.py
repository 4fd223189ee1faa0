"""The transceiver as others see it: it answers offers, holds calls and ends them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from eventlog.emitter import Emitter

from relay.transceiver.config import EdgeAddress, TransceiverConfig


@dataclass(frozen=True, slots=True)
class Answer:
    """An accepted call: its id (a UUIDv7) and the SDP that the client must be given."""

    session_id: uuid.UUID
    sdp: str


class Transceiver:
    """One UDP socket, all of its calls, one 20 ms clock. Use from one asyncio event loop."""

    def __init__(self, config: TransceiverConfig, emitter: Emitter) -> None:
        self.config = config
        self._emitter = emitter

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the UDP socket, to be given to edges. Known once started."""
        raise NotImplementedError

    def add_edge(self, edge: EdgeAddress) -> None:
        """Listen to one more edge and let calls enter by it. An edge of the same name is replaced."""
        raise NotImplementedError

    async def start(self) -> None:
        """Bind the socket and start the clock.

        Raises:
            OSError: the address cannot be bound.

        """
        raise NotImplementedError

    async def answer(
        self, offer_sdp: str, *, region: str | None = None, attributes: Mapping[str, str] | None = None
    ) -> Answer:
        """Accept a call.

        Args:
            offer_sdp: the client's offer.
            region: by which it shall enter; None: the first edge's.
            attributes: written on the session's `offered` fact. `consent` = `audio` consents to keeping the audio.

        Raises:
            OfferError: the offer cannot be answered.
            UnknownRegionError: no edge serves the region.
            BusyError: no more sessions are taken.

        """
        raise NotImplementedError

    async def hangup(self, session_id: uuid.UUID, who: str, reason: str) -> bool:
        """End a call; `who` hung up (`client`, `agent`, `operator`, `system`). False if there is no such call."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """End all calls, stop the clock and close the socket."""
        raise NotImplementedError
