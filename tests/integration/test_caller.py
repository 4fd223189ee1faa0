"""Callers against a small answering peer of this file's own: no edge, no transceiver, real sockets and real WebRTC."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from fastapi import FastAPI, Request, Response

from relay.caller import CallReport, FleetConfig, FleetError, run_fleet, run_fleet_endlessly
from relay.caller.ear import Ear
from relay.caller.microphone import Microphone
from relay.caller.phrases import Phrase, loud_windows, phrase
from relay.caller.wiring import MicrophoneTrack, gather_on_loopback, use_ear, use_microphone
from relay.opus import Decoder
from relay.speech import load, names
from voice.rtp import parse_header, payload

MS = 1_000_000
PAUSE_NS = 300 * MS
PATIENCE_S = 30


class Peer(Ear):
    """The other end of one call: counts what arrives, keeps it, and answers each pause of the caller's speech."""

    def __init__(self, number: int, connection: RTCPeerConnection, answer: Phrase) -> None:
        super().__init__()
        self.session_id = f"session-{number}"
        self.connection = connection
        self.microphone = Microphone(lambda _due, _now, _wall: None)
        self.arrivals: list[tuple[int, bytes]] = []  # wall ns, Opus packet
        self.messages: list[dict[str, Any]] = []
        self.hung_up = False
        self._answer = answer
        self._voice = Decoder()
        self._voiced_ns: int | None = None
        self._speaking: asyncio.Future[Any] | None = None

    def decrypted(self, data: bytes) -> None:
        opus = payload(data, parse_header(data))
        now_ns = time.time_ns()
        self.arrivals.append((now_ns, opus))
        if loud_windows(self._voice.decode(opus)).any():
            self._voiced_ns = now_ns
        elif self._voiced_ns is not None and now_ns - self._voiced_ns > PAUSE_NS and not self.microphone.speaking:
            self._voiced_ns = None
            self._speaking = asyncio.ensure_future(self.microphone.say(self._answer, "normal"))

    def last_voiced_ns(self, first_ns: int, last_ns: int) -> int:
        """When the last voiced sample among those that arrived in a time arrived: its packet's time less the rest."""
        decoder, ended_ns = Decoder(), 0
        for at_ns, opus in self.arrivals:
            loud = np.flatnonzero(loud_windows(decoder.decode(opus)))
            if first_ns <= at_ns <= last_ns and len(loud):
                ended_ns = at_ns - (7 - int(loud[-1])) * 2_500_000
        return ended_ns

    async def close(self) -> None:
        self.microphone.end()
        if self._speaking is not None:
            await asyncio.gather(self._speaking, return_exceptions=True)
        await self.connection.close()


class Answerer:
    """A signalling server whose calls end at peers in this process."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.full_after = 100
        app = FastAPI()
        app.post("/v1/realtime/calls")(self._offered)
        app.delete("/v1/realtime/calls/{number}")(self._ended)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self._serving = asyncio.create_task(self._server.serve([self._listening]))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    async def close(self) -> None:
        await self.hang_up()
        self._server.should_exit = True
        await self._serving

    async def hang_up(self) -> None:
        await asyncio.gather(*(peer.close() for peer in self.peers))

    async def _offered(self, request: Request) -> Response:
        if len(self.peers) >= self.full_after:
            return Response("the house is full", status_code=503)
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer = Peer(len(self.peers), connection, phrase(load("agent_hours")))
        self.peers.append(peer)

        @connection.on("datachannel")
        def opened(channel: Any) -> None:
            channel.send("not JSON")
            channel.send(json.dumps({"type": "sidetone.session", "session_id": peer.session_id}))
            channel.on("message", lambda text: peer.messages.append(json.loads(text)))

        offer = (await request.body()).decode()
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        transceiver = connection.getTransceivers()[0]
        transceiver.sender.replaceTrack(MicrophoneTrack())
        transceiver.direction = "sendrecv"
        gather_on_loopback(transceiver)
        use_microphone(transceiver.sender, peer.microphone.next_frame)
        use_ear(transceiver.receiver, peer)
        await connection.setLocalDescription()
        location = f"/v1/realtime/calls/{len(self.peers) - 1}"
        return Response(connection.localDescription.sdp, 201, {"location": location}, "application/sdp")

    async def _ended(self, number: int) -> Response:
        self.peers[number].hung_up = True
        return Response(status_code=200)


@pytest.fixture
async def answerer() -> AsyncIterator[Answerer]:
    running = Answerer()
    yield running
    await running.close()


class Progress:
    """Sets `stop` when every call of a fleet has come so far."""

    def __init__(self, calls: int, what: str, times: int = 1) -> None:
        self.stop = asyncio.Event()
        self.seen: list[tuple[int, str]] = []
        self._wanted = (calls, what, times)

    def __call__(self, report: CallReport, what: str) -> None:
        self.seen.append((report.call, what))
        calls, wanted, times = self._wanted
        counts = [self.seen.count((call, wanted)) for call in {call for call, _ in self.seen}]
        if sum(count >= times for count in counts) >= calls:
            self.stop.set()


async def run(config: FleetConfig, progress: Progress) -> list[CallReport]:
    async with asyncio.timeout(PATIENCE_S):
        return (await run_fleet(config, progress, stop=progress.stop)).calls


async def test_the_truth_is_what_arrived_and_what_was_heard(answerer: Answerer) -> None:
    progress = Progress(1, "heard")
    [call] = await run(FleetConfig(answerer.url, 1, [("eu", "perfect")], seconds=20.0), progress)
    [peer] = answerer.peers
    assert call.error is None
    assert call.session_id == peer.session_id
    assert peer.hung_up
    [utterance], [answer], [spoken] = call.utterances, call.answers, peer.microphone.utterances
    assert utterance.complete
    assert utterance.clip in names("user_")
    assert utterance.end_ns - utterance.start_ns == pytest.approx(load(utterance.clip).duration_ms * MS, abs=25 * MS)
    # On a perfect network what was said arrives at once: truth and arrival differ by what the loop takes, no frame.
    arrived_ns = peer.last_voiced_ns(utterance.start_ns, utterance.end_ns + PAUSE_NS)
    assert 0 <= arrived_ns - utterance.end_ns < 20 * MS
    assert answer.kind == "normal"
    assert answer.utterance == 0
    assert answer.user_end_ns == utterance.end_ns
    # The agent's first sample is in a frame that leaves 20 ms after it was captured, and waits in the caller's buffer.
    [playout] = [message for message in peer.messages if message["type"] == "sidetone.playout"]
    expected_ns = spoken.start_ns + 20 * MS + playout["values"]["playout_delay_ms"] * MS
    assert abs(answer.heard_start_ns - expected_ns) < 20 * MS
    assert playout["client_ns"] == answer.heard_start_ns
    latency_ms = (answer.heard_start_ns - utterance.end_ns) / MS
    assert playout["values"]["heard_delay_ms"] == pytest.approx(latency_ms)
    assert latency_ms > PAUSE_NS / MS


async def test_what_the_networks_did_is_what_both_ends_counted(answerer: Answerer) -> None:
    regions = [("eu", "hotel-wifi"), ("us", "lte-edge"), ("ap", "starlink")]
    progress = Progress(3, "heard")
    calls = await run(FleetConfig(answerer.url, 3, regions, seconds=20.0, scripts=["simple"]), progress)
    assert [call.error for call in calls] == [None] * 3
    assert [(call.region, call.network) for call in calls] == regions
    lost = 0
    for call in calls:
        peer = next(peer for peer in answerer.peers if peer.session_id == call.session_id)
        for injected, received in ((call.uplink, peer.received()), (call.downlink, call.received)):
            [stream], [measured] = injected.streams, received
            assert (stream.ssrc, stream.delivered) == (measured.ssrc, measured.packets)
            assert stream.lost_seen == measured.lost
            assert stream.duplicates == measured.duplicates
            lost += stream.lost_seen
    assert lost > 0


async def test_statistics_bear_the_names_of_the_w3c(answerer: Answerer) -> None:
    progress = Progress(1, "connected")
    [call] = await run(FleetConfig(answerer.url, 1, [("eu", "perfect")], seconds=20.0), progress)
    assert call.error is None
    stats = [message for message in answerer.peers[0].messages if message["type"] == "sidetone.stats"]
    by_kind = {message["kind"]: message for message in stats}
    assert {"inbound-rtp", "outbound-rtp"} <= set(by_kind)
    inbound = by_kind["inbound-rtp"]
    assert inbound["stream"] == call.received[0].ssrc
    assert inbound["values"]["packetsReceived"] == call.received[0].packets
    assert inbound["values"]["packetsLost"] == 0
    assert {"jitter", "jitterBufferDelay", "jitterBufferEmittedCount", "concealedSamples"} <= set(inbound["values"])
    assert by_kind["outbound-rtp"]["values"]["packetsSent"] == call.uplink.streams[0].sent
    assert all(isinstance(value, (int, float)) for message in stats for value in message["values"].values())
    assert all(isinstance(message["client_ns"], int) for message in stats)


async def test_breaking_in_and_encouraging_happen_while_the_agent_speaks(answerer: Answerer) -> None:
    config = FleetConfig(
        answerer.url, 2, [("eu", "perfect")], seconds=20.0, scripts=["barge-in", "backchannel"], stagger_s=0.0
    )
    progress = Progress(2, "said", times=2)
    calls = await run(config, progress)
    for call, kind in zip(calls, ("barge-in", "backchannel"), strict=True):
        first, second = call.utterances[:2]
        assert (first.kind, second.kind) == ("normal", kind)
        answer = call.answers[0]
        assert answer.kind == "normal"
        assert answer.heard_start_ns < second.start_ns
        assert answer.heard_end_ns is None or second.start_ns < answer.heard_end_ns
        assert second.start_ns - answer.heard_start_ns >= 700 * MS


async def test_a_call_that_is_refused_does_not_disturb_the_others(answerer: Answerer) -> None:
    answerer.full_after = 1
    progress = Progress(1, "heard")
    calls = await run(FleetConfig(answerer.url, 2, [("eu", "perfect")], seconds=20.0), progress)
    assert calls[0].error is None
    assert calls[0].answers
    assert calls[1].error is not None
    assert "503: the house is full" in calls[1].error
    assert calls[1].session_id is None
    assert (1, "failed") in progress.seen
    assert (0, "ended") in progress.seen


async def test_a_server_that_is_not_there_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    [call] = (await run_fleet(FleetConfig(f"http://127.0.0.1:{port}", 1, [("eu", "perfect")]))).calls
    assert call.error is not None
    assert f"127.0.0.1:{port}" in call.error


async def test_a_connection_that_is_cut_is_reported(answerer: Answerer) -> None:
    progress = Progress(1, "never")
    calling = asyncio.create_task(run(FleetConfig(answerer.url, 1, [("eu", "perfect")], seconds=20.0), progress))
    async with asyncio.timeout(PATIENCE_S):
        while (0, "connected") not in progress.seen:  # noqa: ASYNC110 - progress is a callback
            await asyncio.sleep(0.01)
        await answerer.hang_up()
        [call] = await calling
    assert call.error is not None
    assert "connection was lost" in call.error


def resources() -> tuple[set[asyncio.Task[Any]], int, int]:
    """Tasks, threads and open files of this process."""
    return asyncio.all_tasks(), threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_after_a_stop(answerer: Answerer) -> None:
    async def one_call() -> None:
        progress = Progress(1, "connected")
        await run(FleetConfig(answerer.url, 1, [("eu", "lte-good")], seconds=20.0), progress)
        await answerer.hang_up()

    await one_call()  # whatever is made once per process is there from now on
    before = resources()
    await one_call()
    async with asyncio.timeout(PATIENCE_S):
        # aiortc ends some of its own after it has said that it has; what counts is that they end.
        while resources() != before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_stop_before_the_connection_stands_leaves_nothing_either(answerer: Answerer) -> None:
    stop = asyncio.Event()
    tasks = asyncio.all_tasks()
    calling = asyncio.create_task(
        run_fleet(FleetConfig(answerer.url, 3, [("eu", "3g")], seconds=20.0, stagger_s=0.2), stop=stop)
    )
    async with asyncio.timeout(PATIENCE_S):
        while not answerer.peers:  # noqa: ASYNC110 - the peer comes with the first offer
            await asyncio.sleep(0.005)
        stop.set()
        report = await calling
        assert len(report.calls) == 3
        await answerer.hang_up()
        while asyncio.all_tasks() - tasks:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    json.dumps(report.to_dict())


async def test_an_endless_fleet_calls_again(answerer: Answerer) -> None:
    progress = Progress(2, "connected")
    async with asyncio.timeout(PATIENCE_S):
        config = FleetConfig(answerer.url, 1, [("eu", "perfect")], seconds=0.5)
        report = await run_fleet_endlessly(config, progress, stop=progress.stop)
    assert [call.call for call in report.calls] == [0, 1]
    assert len({call.session_id for call in report.calls}) == 2


async def test_recordings_take_the_place_of_the_questions(answerer: Answerer, tmp_path: Path) -> None:
    path = tmp_path / "mine.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((6000 * np.sin(np.arange(16_000) / 10)).astype("<i2").tobytes())
    progress = Progress(1, "heard")
    [call] = await run(FleetConfig(answerer.url, 1, [("eu", "perfect")], seconds=20.0, speech=[path]), progress)
    assert call.utterances[0].clip == "mine"
    assert call.answers


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"calls": 0}, "at least one call"),
        ({"regions": []}, "at least one call"),
        ({"regions": [("eu", "string-and-cans")]}, "office-wifi"),
        ({"scripts": ["sing"]}, "simple"),
    ],
)
async def test_a_fleet_that_cannot_be_run_says_why(change: dict[str, Any], complaint: str) -> None:
    given: dict[str, Any] = {"signalling_url": "http://127.0.0.1:1", "calls": 1, "regions": [("eu", "perfect")]}
    with pytest.raises(FleetError, match=complaint):
        await run_fleet(FleetConfig(**{**given, **change}))
