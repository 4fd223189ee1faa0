"""Calls through a real edge: what they hear, what becomes of them, and what is written down."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aioice import stun

from eventlog.schema import PACKET_TIME_NS
from relay.app import create_app
from relay.encap import up_header
from relay.models import ModelConfig
from tests.integration.transceiver_tools import (
    Client,
    Stranger,
    World,
    question,
    until,
    world,
)

ORDER = [
    "user_speech_started",
    "user_speech_stopped",
    "endpoint_decided",
    "response_requested",
    "model_first_token",
    "model_first_audio",
    "agent_audio_started",
    "agent_audio_stopped",
]


@pytest.fixture(autouse=True)
async def nothing_is_left(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Every test ends with no task but its own, and without a task that was destroyed or an exception nobody took."""
    before = asyncio.all_tasks()
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield
        mine = {asyncio.current_task()}
        await until(lambda: asyncio.all_tasks() - mine <= before)
        assert [record.message for record in caplog.records if record.name == "asyncio"] == []


@asynccontextmanager
async def http(made: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(made.transceiver))
    async with httpx.AsyncClient(transport=transport, base_url="http://relay.test") as client:
        yield client


async def test_question_is_answered_and_written_down(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path) as made:
        await made.call(client, user_agent="a test")
        asked = await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_stopped" in client.turns())
        await until(client.hears_voice)
        assert client.session_id is not None
        assert await made.transceiver.hangup(client.session_id, "operator", "test")
        assert not await made.transceiver.hangup(client.session_id, "operator", "test")
        await client.close()
    session = client.session_id
    steps = await made.facts("session", session)
    assert [row["step"] for row in steps] == [
        "offered",
        "ice_connected",
        "dtls_connected",
        "first_packet",
        "first_frame",
        "closed",
    ]
    assert {"user_agent": "a test", "model": "echo", "edge": "edge-1", "transceiver_region": "core"}.items() <= dict(
        steps[0]["attributes"]
    ).items()
    assert (steps[-1]["reason"], dict(steps[-1]["attributes"])) == ("test", {"who": "operator"})
    assert all(row["region"] == "north" for row in steps)

    turns = await made.facts("turn", session)
    first = [row for row in turns if row["turn_id"] == 1 and row["kind"] in ORDER]
    assert [row["kind"] for row in first] == ORDER
    assert first[-1]["reason"] == "completed"
    assert client.turns() == [row["kind"] for row in turns]
    stopped = next(row for row in first if row["kind"] == "user_speech_stopped")
    # The detector works on frames of 20 ms and holds on for longer than its stated hangover now and then.
    assert abs(stopped["at_ns"] - asked.end_ns) < 150_000_000
    started = next(row for row in first if row["kind"] == "agent_audio_started")
    sent = [row for row in await made.facts("packet", session) if row["tap"] == "transceiver_out"]
    spurt = next(row for row in sent if row["marker"])
    assert started["at_ns"] // PACKET_TIME_NS == spurt["observed_ns"] // PACKET_TIME_NS
    assert spurt["voice_activity"] is True
    assert client.messages[0] == {"type": "sidetone.session", "session_id": str(session), "region": "north"}

    frames = await made.facts("frame", session)
    for direction in ("in", "out"):
        ticks = [row["tick"] for row in frames if row["direction"] == direction and row["kind"] != "discarded_late"]
        assert len(ticks) == len(set(ticks)) > 100
    (config,) = [row for row in await made.facts("input", session) if row["kind"] == "config"]
    assert json.loads(config["payload"])["config"]["model"]["name"] == "echo"


async def test_every_packet_is_seen_at_both_taps(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path) as made:
        await made.call(client)
        await client.microphone.say(question(), "normal")
        assert client.session_id is not None
        await made.transceiver.hangup(client.session_id, "operator", "test")
        await client.close()
    seen: dict[str, dict[int, Any]] = {}
    for row in await made.facts("packet", client.session_id):
        seen.setdefault(row["tap"], {})[row["ext_seq"]] = row
    for inner, outer in (("transceiver_in", "edge_up"), ("transceiver_out", "edge_down")):
        common = seen[inner].keys() & seen[outer].keys()
        assert len(common) > 50
        for column in ("rtp_ts", "stream", "size_bytes", "marker", "payload_type"):
            assert all(seen[inner][seq][column] == seen[outer][seq][column] for seq in common), column
        # The edge learns the extension's id from the transceiver's first word to the client.
        levels = [(seen[inner][seq]["audio_level_dbov"], seen[outer][seq]["audio_level_dbov"]) for seq in common]
        assert all(level is not None and level == known for level, known in levels)
    received = {header.sequence_number for _, header, _ in client.packets}
    assert received <= {seq & 0xFFFF for seq in seen["transceiver_out"]}


async def test_delete_ends_the_call(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path) as made, http(made) as api:
        answer = await api.post(
            "/v1/realtime/calls",
            params={"region": "north"},
            content=await client.offer(),
            headers={"content-type": "application/sdp", "user-agent": "httpx test"},
        )
        assert answer.status_code == 201
        assert answer.headers["content-type"].startswith("application/sdp")
        await client.accept(answer.text)
        await client.connected()
        assert (await api.delete(answer.headers["location"])).status_code == 200
        assert (await api.delete(answer.headers["location"])).status_code == 404
        await until(lambda: client.peer.connectionState == "closed")  # our DTLS alert told the client
        assert made.transceiver.sessions == 0
        await client.close()
    (closed,) = [row for row in await made.facts("session") if row["step"] == "closed"]
    assert (closed["reason"], dict(closed["attributes"])) == ("hangup", {"who": "client"})


async def test_client_that_goes_away_ends_the_call(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path) as made:
        await made.call(client)
        await until(lambda: len(client.packets) > 0)
        await client.close()
        await until(lambda: made.transceiver.sessions == 0)
    (closed,) = [row for row in await made.facts("session") if row["step"] == "closed"]
    assert closed["reason"] in ("bye", "dtls_closed")
    assert dict(closed["attributes"]) == {"who": "client"}


async def test_call_that_never_connects_is_closed(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path, connect_timeout_s=0.2) as made:
        await made.transceiver.answer(await client.offer())
        await until(lambda: made.transceiver.sessions == 0)
        await client.close()
    assert [(row["step"], row["reason"]) for row in await made.facts("session")] == [
        ("offered", None),
        ("closed", "connect_timeout"),
    ]


async def test_ten_calls_share_one_socket(tmp_path: Path) -> None:
    clients = [Client() for _ in range(10)]
    async with world(tmp_path) as made:
        for client in clients:
            await made.call(client)
        assert made.transceiver.sessions == 10
        await until(lambda: all(len(client.packets) > 20 for client in clients))
        await asyncio.gather(*(client.close() for client in clients))
        await until(lambda: made.transceiver.sessions == 0)
    packets = await made.facts("packet")
    for tap in ("transceiver_in", "transceiver_out"):
        assert {row["session_id"] for row in packets if row["tap"] == tap} == {
            c.session_id.bytes for c in clients if c.session_id
        }


async def test_user_who_barges_in_is_given_the_floor(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path, model=ModelConfig("scripted", think_median_ms=20.0, think_sigma=0.0)) as made:
        await made.call(client)
        await client.microphone.say(question(), "normal")
        await until(lambda: "agent_audio_started" in client.turns())
        await client.microphone.say(question("user_weather"), "barge-in")
        await until(lambda: client.turns().count("agent_audio_started") == 2)
        await client.close()
        await until(lambda: made.transceiver.sessions == 0)
    turns = await made.facts("turn", client.session_id)
    kinds = [row["kind"] for row in turns]
    assert kinds.index("agent_audio_started") < kinds.index("user_barged_in") < kinds.index("agent_yielded")
    stop = next(row for row in turns if row["kind"] == "agent_audio_stopped")
    assert (stop["reason"], stop["turn_id"]) == ("yielded", 1)


async def test_consented_audio_is_kept_and_other_audio_is_not(tmp_path: Path) -> None:
    asked, silent = Client(), Client()
    async with world(tmp_path) as made:
        await made.call(asked, consent="audio")
        await made.call(silent)
        await until(lambda: len(asked.packets) > 20 and len(silent.packets) > 20)
        for client in (asked, silent):
            await client.close()
        await until(lambda: made.transceiver.sessions == 0)
    steps = [(row["session_id"], row["reason"]) for row in await made.facts("session") if row["step"] == "consent"]
    assert asked.session_id is not None
    assert steps == [(asked.session_id.bytes, "audio")]
    audio = await made.facts("audio")
    assert {row["session_id"] for row in audio} == {asked.session_id.bytes}
    assert {row["tap"] for row in audio} == {"transceiver_in", "transceiver_out"}
    assert all(row["payload"] for row in audio)


async def test_round_trips_are_measured_by_rtcp_and_stun(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path) as made:
        await made.call(client)
        await until(lambda: made.transceiver.counters.packets["transceiver_in"] > 150)
        stats = await client.peer.getSenders()[0].getStats()
        # Our sender reports carry a report block on the client's stream.
        assert any(getattr(one, "roundTripTime", None) for one in stats.values())
        await client.close()
        await until(lambda: made.transceiver.sessions == 0)
    legs = [row for row in await made.facts("leg", client.session_id) if row["leg"] == "client_transceiver"]
    assert {row["method"] for row in legs} == {"stun", "rtcp"}
    assert all(0 < row["rtt_us"] < 5_000_000 for row in legs)


async def test_client_messages_become_facts_and_bad_ones_are_counted(tmp_path: Path) -> None:
    client = Client()
    async with world(tmp_path) as made:
        await made.call(client)
        channel = client.channel
        assert channel is not None
        await until(lambda: channel.readyState == "open")
        for text in ("{", "[]", '{"type": "else"}', '{"type":"sidetone.stats","kind":5}', b"\0\1"):
            channel.send(text)
        now_ns = time.time_ns()
        channel.send(
            json.dumps(
                {
                    "type": "sidetone.stats",
                    "client_ns": now_ns,
                    "kind": "inbound-rtp",
                    "stream": 7,
                    "values": {"jitter": 0.5, "mid": "0"},
                }
            )
        )
        counts = made.transceiver.counters.messages
        await until(lambda: counts["taken"] == 1 and counts["bad"] == 5)
        await client.close()
        await until(lambda: made.transceiver.sessions == 0)
    (row,) = await made.facts("client")
    assert (row["client_ns"], row["kind"], row["stream"], dict(row["values"])) == (
        now_ns,
        "inbound-rtp",
        7,
        {"jitter": 0.5},
    )


async def test_strangers_are_not_answered(tmp_path: Path) -> None:
    client, stranger = Client(), Stranger()
    async with world(tmp_path) as made:
        await made.call(client)
        ufrag = client.dtls.transport._connection.remote_username
        drops = made.transceiver.counters.drops
        forged = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        forged.attributes.update({"USERNAME": f"{ufrag}:none", "PRIORITY": 1})
        unsigned = bytes(forged)
        forged.add_message_integrity(b"not the password of this call")
        wrong_length = bytearray(bytes(forged))
        wrong_length[2:4] = b"\xff\xfc"
        dtls_hello = bytes((22, 254, 255)) + bytes(60)
        srtp = bytes((0x80, 111)) + bytes(60)
        header = up_header("192.0.2.1", 9, made.transceiver.config.header_keys[0])
        for data in (bytes(forged), unsigned, bytes(wrong_length), dtls_hello, srtp, b"", b"\xff" * 40):
            stranger.send(data, made.edge.address)  # by the public way
            stranger.send(header + data, made.transceiver.address)  # as if it were an edge
            # As an edge would say it, from the edge's own address, for a client that was never validated:
            made.transceiver._demux.receive(header + data, made.edge.internal_address, 1)
        await until(lambda: made.transceiver.counters.drops.get("unknown_edge", 0) >= 7)
        drops = made.transceiver.counters.drops
        assert drops["stun_unauthenticated"] >= 2
        assert drops["stun_malformed"] >= 1
        assert drops["unknown_client"] >= 2
        before = len(client.packets)
        await until(lambda: len(client.packets) > before + 20)
        assert stranger.heard() is None
        await client.close()
        await until(lambda: made.transceiver.sessions == 0)
    stranger.socket.close()


async def test_offers_that_cannot_be_answered_are_refused_in_words(tmp_path: Path) -> None:
    sdp = {"content-type": "application/sdp"}
    client = Client()
    offer = await client.offer()
    async with world(tmp_path, max_sessions=0) as made, http(made) as api:
        for path in ("/v1/realtime/calls", "/whip"):
            assert (await api.post(path, content=offer)).status_code == 415
            assert (await api.post(path, content="x" * 70_000, headers=sdp)).status_code == 413
            bad = await api.post(path, content="v=0\r\nm=nothing", headers=sdp)
            assert (bad.status_code, "not valid SDP" in bad.text) == (400, True)
            nowhere = await api.post(path, params={"region": "mars"}, content=offer, headers=sdp)
            assert (nowhere.status_code, "mars" in nowhere.text) == (400, True)
            busy = await api.post(path, content=offer, headers=sdp)
            assert (busy.status_code, int(busy.headers["retry-after"]) > 0) == (503, True)
            assert (await api.options(path)).headers["accept-post"] == "application/sdp"
            assert (await api.delete(f"{path}/{uuid.uuid4()}")).status_code == 404
            assert (await api.delete(f"{path}/no-such")).status_code == 404
        assert (await api.get("/healthz")).status_code == 200
        assert (await api.get("/readyz")).status_code == 503
        assert (await api.get("/")).status_code == 200
        assert (await api.get("/v1/regions")).json()["regions"] == ["north"]
        assert "sidetone_transceiver_refused_offers_total" in (await api.get("/metrics")).text
    await client.close()


async def test_channel_that_the_client_closes_may_be_opened_again(tmp_path: Path) -> None:
    client = Client()
    ping = json.dumps({"type": "sidetone.ping", "client_ns": 5})

    def pongs() -> int:
        return sum(message["type"] == "sidetone.pong" for message in client.messages)

    async with world(tmp_path) as made:
        await made.call(client)
        assert client.channel is not None
        await until(lambda: len(client.messages) > 0)
        client.channel.send(ping)
        await until(lambda: pongs() == 1)
        client.channel.close()
        await until(lambda: client.channel is not None and client.channel.readyState == "closed")
        again = client.peer.createDataChannel("sidetone")
        again.on("message", lambda text: client.messages.append(json.loads(text)))
        second = client.peer.createDataChannel("sidetone")  # beside one that is open it is not ours
        await until(lambda: again.readyState == second.readyState == "open")
        second.send(ping)
        again.send(ping)
        await until(lambda: pongs() == 2)
        await client.close()
