"""A transceiver behind a real edge, real WebRTC clients of it, and its facts read back from a real log."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from eventlog.cloudevents import open_chunk
from eventlog.emitter import Emitter
from eventlog.port import TopicPartition
from eventlog.schema import FACTS
from eventlog.sqlite import SqliteEventLog
from relay.caller.microphone import Microphone
from relay.caller.phrases import Phrase, phrase
from relay.caller.wiring import MicrophoneTrack, gather_on_loopback, use_microphone
from relay.edge import Edge, EdgeConfig, Sampling
from relay.models import ModelConfig
from relay.opus import Decoder
from relay.speech import load
from relay.transceiver import EdgeAddress, Transceiver, TransceiverConfig
from voice.rtp import parse_header, payload
from voice.vad import level_dbov

KEY = secrets.token_bytes(32)
LOOPBACK = "127.0.0.1"
PATIENCE_S = 15.0
VOICED_DBOV = -40.0


class Client:
    """A WebRTC client: speaks phrases, keeps every RTP packet that arrives and what it decodes to."""

    def __init__(self, *, channel: bool = True) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.microphone = Microphone(lambda _due, _now, _wall: None)
        self.packets: list[tuple[int, Any, bytes]] = []  # arrival (UTC ns), header, decrypted packet
        self.levels: list[float] = []
        self.messages: list[dict[str, Any]] = []
        self.session_id: uuid.UUID | None = None
        self._decoder = Decoder()
        self._transceiver = self.peer.addTransceiver(MicrophoneTrack(), direction="sendrecv")
        gather_on_loopback(self._transceiver)
        use_microphone(self._transceiver.sender, self.microphone.next_frame)
        dtls: Any = self._transceiver.receiver.transport
        self._stock = dtls._handle_rtp_data
        dtls._handle_rtp_data = self._heard
        self.channel = self.peer.createDataChannel("sidetone") if channel else None
        if self.channel is not None:
            self.channel.on("message", lambda text: self.messages.append(json.loads(text)))

    @property
    def dtls(self) -> Any:
        return self._transceiver.sender.transport

    async def _heard(self, data: bytes, arrival_time_ms: int) -> None:
        await self._stock(data, arrival_time_ms)  # for its receiver reports
        header = parse_header(data, 2)
        self.packets.append((time.time_ns(), header, data))
        self.levels.append(level_dbov(self._decoder.decode(payload(data, header))))

    async def offer(self) -> str:
        await self.peer.setLocalDescription()
        return str(self.peer.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def connected(self) -> None:
        await until(lambda: self.peer.connectionState == "connected")

    def hears_voice(self) -> bool:
        return sum(level > VOICED_DBOV for level in self.levels) >= 10

    def turns(self) -> list[str]:
        return [message["kind"] for message in self.messages if message["type"] == "sidetone.turn"]

    async def close(self) -> None:
        self.microphone.end()
        await self.peer.close()


class World:
    """One edge in a thread, one transceiver on the running loop, one log."""

    def __init__(self, path: Path, *, sampling: Sampling | None = None, **settings: Any) -> None:
        self._sampling = sampling or Sampling()
        self.path = path / "log.sqlite"
        self.emitter = Emitter(
            lambda: SqliteEventLog(self.path), role="transceiver", region="test", host_id="host", flush_s=0.05
        )
        plain: dict[str, Any] = {
            "model": ModelConfig("echo", think_median_ms=20.0, think_sigma=0.0),
            "connect_timeout_s": PATIENCE_S,
        }
        config = TransceiverConfig(
            code="test", region="core", ufrag_key=KEY, ufrag_key_id=1, host_id="host", **{**plain, **settings}
        )
        self.transceiver = Transceiver(config, self.emitter)
        self._stop = threading.Event()

    async def start(self) -> None:
        await self.transceiver.start()
        self.emitter.start()
        self.edge = Edge(
            EdgeConfig(
                name="edge-1",
                region="north",
                bind=(LOOPBACK, 0),
                internal_bind=(LOOPBACK, 0),
                transceivers={"test": self.transceiver.address},
                keys={1: KEY},
                host_id="host",
                sampling=self._sampling,
            ),
            self.emitter,
        )
        self._thread = threading.Thread(target=self.edge.run, args=(self._stop,), daemon=True)
        self._thread.start()
        self.transceiver.add_edge(EdgeAddress("edge-1", "north", self.edge.address, self.edge.internal_address))

    async def call(self, client: Client, **attributes: str) -> Client:
        answer = await self.transceiver.answer(await client.offer(), region="north", attributes=attributes)
        client.session_id = answer.session_id
        await client.accept(answer.sdp)
        await client.connected()
        return client

    async def stop(self) -> None:
        """End as SIGTERM does; everything is in the log afterwards."""
        await self.transceiver.aclose()
        self._stop.set()
        await asyncio.to_thread(self._thread.join, PATIENCE_S)
        await asyncio.to_thread(self.emitter.close)

    async def facts(self, name: str, session_id: uuid.UUID | None = None) -> list[dict[str, Any]]:
        """Facts, as `facts_in`. Only after `stop`."""
        return await facts_in(self.path, name, session_id)


async def facts_in(path: Path, name: str, session_id: uuid.UUID | None = None) -> list[dict[str, Any]]:
    """All facts of a type in a log, of one session or all, in order of observation."""
    log = SqliteEventLog(path)
    where = TopicPartition(FACTS[name].topic, 0)
    rows: list[dict[str, Any]] = []
    offset, end = await log.bounds(where)
    while offset < end:
        for message in await log.read(where, offset, max_bytes=1 << 24):
            batch = open_chunk(message)[2]
            for column in [c for c in ("observed_ns", "at_ns", "client_ns") if c in batch.schema.names]:
                at = batch.schema.get_field_index(column)
                batch = batch.set_column(at, column, batch.column(at).cast("int64"))
            rows += batch.to_pylist()
            offset = message.offset + 1
    await log.aclose()
    mine = rows if session_id is None else [row for row in rows if row["session_id"] == session_id.bytes]
    return sorted(mine, key=lambda row: row["observed_ns"])


@asynccontextmanager
async def world(path: Path, **settings: Any) -> AsyncIterator[World]:
    made = World(path, **settings)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that other tasks bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not done():  # noqa: ASYNC110 - others bring it about, and tell nobody
            await asyncio.sleep(0.005)


def question(name: str = "user_hours") -> Phrase:
    return phrase(load(name))


class Stranger:
    """A UDP socket that is nobody's client."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK, 0))
        self.socket.setblocking(False)

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        self.socket.sendto(data, to)

    def heard(self) -> bytes | None:
        try:
            return self.socket.recv(4096)
        except BlockingIOError:
            return None


def tone(ms: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A loud 200 Hz tone that is voiced at every frame."""
    at = np.arange(48 * ms)
    return (8000 * np.sin(2 * np.pi * 200 * at / 48_000)).astype(np.int16)
