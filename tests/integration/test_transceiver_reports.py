"""What our RTCP tells a client, as the client's own statistics show it, and what we make of what its RTCP tells us."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from aiortc.rtp import RtcpByePacket

from tests.integration.transceiver_tools import PATIENCE_S, Client, question, until, world

DROPPED_ONE_IN = 5


class LossyClient(Client):
    """Loses every fifth packet, both ways, and knows which."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent = 0
        self._up = self._down = 0
        self._send: Any = self.dtls._send_rtp
        self.dtls._send_rtp = self._sends

    def only_speak(self) -> None:
        """Offer to send and not to receive."""
        self._transceiver.direction = "sendonly"

    async def _sends(self, data: bytes) -> None:
        is_rtcp = 192 <= data[1] <= 223
        self._up += not is_rtcp
        if not is_rtcp and self._up > 10 and self._up % DROPPED_ONE_IN == 0:
            self.unsent += 1
            return
        await self._send(data)

    async def _heard(self, data: bytes, arrival_time_ms: int) -> None:
        self._down += 1
        if self._down % DROPPED_ONE_IN:
            await super()._heard(data, arrival_time_ms)

    async def reported(self) -> Any:
        """What we said of this client's stream, as its `getStats` has it; None before our first report."""
        stats = await self.peer.getSenders()[0].getStats()
        return next((entry for entry in stats.values() if entry.type == "remote-inbound-rtp"), None)


async def test_loss_and_jitter_that_we_report_are_what_happened(tmp_path: Path) -> None:
    client = LossyClient()
    said: list[Any] = []
    async with world(tmp_path) as made:
        await made.call(client)

        async with asyncio.timeout(PATIENCE_S):
            while len(said) < 3 or said[-1].packetsLost <= 5:
                await asyncio.sleep(0.05)  # aiortc tells nobody of a report
                entry = await client.reported()
                if entry is not None and (not said or entry.packetsLost != said[-1].packetsLost):
                    said.append(entry)
        unsent = client.unsent
        await client.close()
    last = said[-1]
    assert last.packetsLost <= unsent
    assert 256 // 10 < last.fractionLost < 256 // 3  # one in five, more or less, of a second's packets
    assert 0 <= last.jitter < 0.1 * 48_000
    assert client.session_id is not None
    packets = await made.facts("packet", client.session_id)
    seen = sum(row["newly_lost"] for row in packets if row["tap"] == "transceiver_in")
    assert last.packetsLost <= seen <= unsent


async def test_a_client_that_only_speaks_is_told_its_loss_too(tmp_path: Path) -> None:
    client = LossyClient()
    client.only_speak()
    async with world(tmp_path) as made:
        await made.call(client)
        entry = None
        async with asyncio.timeout(PATIENCE_S):
            while entry is None or not entry.packetsLost:
                await asyncio.sleep(0.05)  # aiortc tells nobody of a report
                entry = await client.reported()
        unsent = client.unsent
        await client.close()
    assert 0 < entry.packetsLost <= unsent
    assert client.packets == []


async def test_loss_that_the_client_reports_changes_how_we_send_and_is_written_down(tmp_path: Path) -> None:
    client = LossyClient()
    async with world(tmp_path) as made:
        await made.call(client)
        sender: Any = made.transceiver._sessions[client.session_id]._sender  # type: ignore[index]
        await until(lambda: sender.settings.expected_loss_percent > 5)
        await client.close()
    decisions = [
        json.loads(row["payload"]) for row in await made.facts("input", client.session_id) if row["kind"] == "sender"
    ]
    assert decisions
    assert decisions[0]["inputs"]["fraction_lost"] > 0.05
    assert decisions[0]["before"]["expected_loss_percent"] == 5
    assert decisions[-1]["after"]["expected_loss_percent"] > 5
    assert decisions[-1]["after"]["fec"]


async def test_client_that_goes_on_with_a_new_stream_keeps_its_call(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path) as made:
        await made.call(client)
        assert client.session_id is not None
        user: Any = made.transceiver._sessions[client.session_id]._user
        await until(lambda: user.stats.received > 100)
        sender: Any = client.peer.getSenders()[0]
        old, sender._ssrc = sender._ssrc, sender._ssrc ^ 1
        await until(lambda: user.ssrc == old ^ 1)
        await client.dtls._send_rtp(bytes(RtcpByePacket([old])))
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_started" in client.turns())
        assert made.transceiver.counters.closed == {}
        await client.dtls._send_rtp(bytes(RtcpByePacket([old ^ 1])))
        await until(lambda: made.transceiver.sessions == 0)
        await client.close()
    turns = await made.facts("turn", client.session_id)
    (onset,) = [row for row in turns if row["kind"] == "user_speech_started"]
    assert onset["audio_ms"] > 1_500  # it goes on about where the old stream was
    (closed,) = [row for row in await made.facts("session") if row["step"] == "closed"]
    assert (closed["reason"], dict(closed["attributes"])) == ("bye", {"who": "client"})
