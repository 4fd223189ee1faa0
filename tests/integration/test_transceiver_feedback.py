"""Transport-wide feedback to a client that offers it: what is said of each of its packets is what became of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from aiortc import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket

from tests.integration.transceiver_tools import Client, until, world
from voice.twcc import TICK_NS, URI, Feedback, TwccError, parse

NUMBER_ID = 5
FIRST = 65_500  # wraps during the call
PACKETS = 100
UNSETTLED = 20
"""The last ones: what is late of them may not have been told yet."""

LATE_S = 15.0
_CYCLE = 1 << 32  # ticks of 250 µs until the reference time begins anew


class NumberedClient(Client):
    """Offers feedback, numbers its packets, loses every seventh and delays every eleventh behind the one after it."""

    def __init__(self, *, reduced_size: bool) -> None:
        super().__init__()
        self.sent_ns: dict[int, int] = {}
        self.unsent: set[int] = set()
        self.feedback: list[Feedback] = []
        self._reduced_size = reduced_size
        self._number = FIRST
        self._late: bytes | None = None
        self._send: Any = self.dtls._send_rtp
        self.dtls._send_rtp = self._sends
        self._rtcp: Any = self.dtls._handle_rtcp_data
        self.dtls._handle_rtcp_data = self._reported
        self._extensions = HeaderExtensionsMap()
        parameters = [
            RTCRtpHeaderExtensionParameters(id=1, uri="urn:ietf:params:rtp-hdrext:sdes:mid"),
            RTCRtpHeaderExtensionParameters(id=2, uri="urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
            RTCRtpHeaderExtensionParameters(id=NUMBER_ID, uri=URI),
        ]
        self._extensions.configure(RTCRtpParameters(headerExtensions=parameters))

    async def offer(self) -> str:
        offer = await super().offer()
        lines = f"a=extmap:{NUMBER_ID} {URI}\r\na=rtcp-fb:* transport-cc\r\n"
        lines += "a=rtcp-rsize\r\n" if self._reduced_size else ""
        return offer.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\n" + lines, 1)

    async def _sends(self, data: bytes) -> None:
        if 192 <= data[1] <= 223:
            await self._send(data)
            return
        packet = RtpPacket.parse(data, self._extensions)
        self._number = number = (self._number + 1) % 65_536
        packet.extensions.transport_sequence_number = number
        numbered = packet.serialize(self._extensions)
        if number % 7 == 3:
            self.unsent.add(number)
            return
        if number % 11 == 3 and self._late is None:
            self._late = numbered
            self.sent_ns[number] = time.time_ns()
            return
        self.sent_ns[number] = time.time_ns()
        await self._send(numbered)
        if self._late is not None:
            late, self._late = self._late, None
            await self._send(late)

    def told(self) -> dict[int, int | None]:
        """Arrival in ticks, or None, by number, as the messages so far have it."""
        found: dict[int, int | None] = {}
        for message in self.feedback:
            for place, arrival in enumerate(message.arrivals):
                ticks = None if arrival is None else message.reference * 256 + arrival
                found[(message.base + place) % 65_536] = ticks
        return found

    async def _reported(self, data: bytes) -> None:
        at = 0
        assert self._reduced_size or data[1] in (200, 201)  # RFC 3550, section 6.1
        while at < len(data):
            size = (int.from_bytes(data[at + 2 : at + 4], "big") + 1) * 4
            try:
                self.feedback.append(parse(data[at : at + size]))
            except TwccError:
                assert data[at + 1] != 205
            at += size
        await self._rtcp(data)


@pytest.mark.parametrize("reduced_size", [True, False])
async def test_every_packet_is_told_of_with_its_time(tmp_path: Path, reduced_size: bool) -> None:
    client = NumberedClient(reduced_size=reduced_size)
    async with world(tmp_path) as made:
        await made.call(client)
        await until(lambda: len(client.told()) > PACKETS + UNSETTLED)
        await client.close()
    told = client.told()
    settled = sorted(told, key=lambda number: (number - FIRST) % 65_536)[:PACKETS]
    assert [message.serial for message in client.feedback] == list(range(len(client.feedback)))
    assert {number for number in settled if told[number] is None} == client.unsent & set(settled)
    for number in settled:
        ticks = told[number]
        if ticks is not None:
            assert (ticks - client.sent_ns[number] // TICK_NS) % _CYCLE < LATE_S * 1e9 / TICK_NS


async def test_a_client_that_does_not_offer_it_gets_none(tmp_path: Path) -> None:
    client = Client()
    heard: list[bytes] = []
    stock: Any = client.dtls._handle_rtcp_data

    async def reported(data: bytes) -> None:
        heard.append(data)
        await stock(data)

    client.dtls._handle_rtcp_data = reported
    async with world(tmp_path) as made:
        await made.call(client)
        await until(lambda: len(heard) >= 2)
        await client.close()
    assert all(data[1] != 205 for data in heard)
