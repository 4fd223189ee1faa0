"""Attacks on a real WebRTC call, through a real edge at a real transceiver: replays, forgeries from its own address."""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path
from typing import Any

from aioice import stun
from aiortc.rtp import is_rtcp

from relay.transceiver.demux import ADDRESSES_PER_SESSION
from tests.integration.transceiver_tools import Client, Stranger, World, question, until, world


def captured_request(client: Client, password: str | None = None) -> bytes:
    """Return a check as this client sends it, which anybody on its path may have recorded, or as somebody forges it."""
    ours, theirs = (str(d.sdp) for d in (client.peer.localDescription, client.peer.remoteDescription))
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{of(theirs, 'ice-ufrag')}:{of(ours, 'ice-ufrag')}"
    message.attributes["PRIORITY"] = 1_845_501_695
    message.attributes["ICE-CONTROLLING"] = 7
    message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity((password or of(theirs, "ice-pwd")).encode())
    message.add_fingerprint()
    return bytes(message)


def pair(client: Client) -> Any:
    """The candidate pair that the client uses."""
    return client.dtls.transport._connection._nominated[1]


class Wiretap:
    """Takes the place of a protocol's transport and keeps what is sent."""

    def __init__(self, protocol: Any) -> None:
        self.transport = protocol.transport
        self.sent: list[bytes] = []
        protocol.transport = self

    def sendto(self, data: bytes, to: tuple[str, int]) -> None:
        self.sent.append(data)
        self.transport.sendto(data, to)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


def own_address(client: Client) -> tuple[str, int]:
    """Where the client's datagrams come from."""
    host, port = pair(client).protocol.transport.get_extra_info("sockname")[:2]
    return host, port


def of(sdp: str, name: str) -> str:
    found = re.search(rf"^a={name}:(\S+)", sdp, re.MULTILINE)
    assert found is not None
    return found[1]


async def goes_on(client: Client) -> None:
    """The agent hears a question and answers it, from here on."""
    client.levels.clear()
    await client.microphone.say(question(), "normal")
    await until(client.hears_voice)


async def replayed(at: World, client: Client, strangers: list[Stranger]) -> dict[int, list[bytes]]:
    """Send what was recorded from everywhere; return what came back to whom while the call was tried."""
    request = captured_request(client)
    for stranger in strangers:
        stranger.send(request, at.edge.address)
    heard: dict[int, list[bytes]] = {n: [] for n in range(len(strangers))}

    def collect() -> None:
        for n, stranger in enumerate(strangers):
            while (data := stranger.heard()) is not None:
                heard[n].append(data)

    await goes_on(client)
    collect()
    asked = sum(map(len, heard.values()))
    most = max(sum(map(len, got)) for got in heard.values())
    print(f"\nreplays: {len(strangers)} of {len(request)} B each; {asked} B back, at most {most} B to one")  # noqa: T201
    assert all(sum(map(len, got)) <= len(request) for got in heard.values())
    return heard


async def test_replays_of_a_recorded_request_neither_move_nor_silence_the_call_nor_amplify(tmp_path: Path) -> None:
    async with world(tmp_path) as at:
        client = await at.call(Client())
        address = own_address(client)
        # More than a session has places for.
        heard = await replayed(at, client, [Stranger() for _ in range(3 * ADDRESSES_PER_SESSION)])
        assert any(heard.values()), "some got a check, which proves that they were taken for the client's"
        assert not any(0x80 <= data[0] < 0xC0 for got in heard.values() for data in got), "voice went elsewhere"
        assert at.transceiver.counters.drops.get("unknown_client", 0) == 0
        assert own_address(client) == address
        assert client.peer.connectionState == "connected"
        await client.close()


async def test_forgeries_from_the_calls_own_address_are_refused(tmp_path: Path) -> None:
    """Whoever can forge the client's address gets as far as the transceiver, and no further."""
    async with world(tmp_path) as at:
        client = await at.call(Client())
        await goes_on(client)
        before = at.transceiver.counters.drops
        forged = [
            *(b"\x80\x6f" + secrets.token_bytes(170) for _ in range(200)),  # SRTP
            *(b"\x80\xc9" + secrets.token_bytes(40) for _ in range(200)),  # SRTCP
            *(b"\x17\xfe\xfd" + secrets.token_bytes(60) for _ in range(200)),  # DTLS application data
            *(b"\x15\xfe\xfd\0\0\0\0\0\0\0\0\0\2\2\0" for _ in range(200)),  # DTLS alert: fatal, close
            *(captured_request(client, "guess") for _ in range(200)),
        ]
        for n, data in enumerate(forged):
            pair(client).protocol.transport.sendto(data, at.edge.address)
            if n % 20 == 0:
                await asyncio.sleep(0)
        await goes_on(client)
        drops = {name: count - before.get(name, 0) for name, count in at.transceiver.counters.drops.items()}
        print(f"\nforgeries: {len(forged)}; {drops}")  # noqa: T201
        assert drops["srtp_refused"] == 400
        assert drops["stun_unauthenticated"] == 200
        assert client.peer.connectionState == "connected"
        assert at.edge.counters().flows == 1
        await client.close()


async def test_a_packets_number_alone_feigns_no_duplicate(tmp_path: Path) -> None:
    """Somebody who sees the call's SSRC and numbers; libsrtp asks for the number before it asks for the signature."""
    async with world(tmp_path) as at:
        client = await at.call(Client())
        wiretap = Wiretap(pair(client).protocol)
        await goes_on(client)
        known = [data for data in wiretap.sent if 0x80 <= data[0] < 0xC0 and not is_rtcp(data)][-40:-10]
        assert len(known) == 30
        refused, seen = (at.transceiver.counters.drops.get(name, 0) for name in ("srtp_refused", "replayed"))
        for data in known:
            wiretap.transport.sendto(data[:24] + secrets.token_bytes(len(data) - 24), at.edge.address)
        for data in known[::3]:
            wiretap.transport.sendto(data, at.edge.address)
        await goes_on(client)
        assert at.transceiver.counters.drops["srtp_refused"] == refused + 30
        assert at.transceiver.counters.drops.get("replayed", 0) == seen
        await client.close()
    rows = [row for row in await at.facts("packet") if row["tap"] == "transceiver_in"]
    assert sum(row["duplicate"] for row in rows) == 10


async def test_who_has_a_call_cannot_take_anothers_address(tmp_path: Path) -> None:
    """Requests signed for one's own call, with another call's address forged as their source."""
    async with world(tmp_path) as at:
        victim, mallory = await at.call(Client()), await at.call(Client())
        await goes_on(victim)
        refused = at.transceiver.counters.drops.get("srtp_refused", 0)
        for _ in range(2):
            pair(victim).protocol.transport.sendto(captured_request(mallory), at.edge.address)
            await goes_on(victim)
        assert at.transceiver.counters.drops.get("srtp_refused", 0) == refused, "its voice went to another call"
        await goes_on(mallory)
        await victim.close()
        await mallory.close()
