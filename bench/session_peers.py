"""The processes of `bench.sessions`: a server under test, and the peers that call it.

A server is a process of its own, so that its CPU time is its own; the peers (and, for ours, the edge between) are in
another. Peers are aiortc's connections with their media done by hand: packets encoded beforehand go out every 20 ms,
what comes in is counted and not decoded, so that hundreds fit into a core.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import uvloop
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

import relay.transceiver.transceiver
from eventlog.emitter import Emitter
from eventlog.sqlite import SqliteEventLog
from relay import speech
from relay.caller.wiring import gather_on_loopback
from relay.edge import Edge, EdgeConfig
from relay.models import FRAME_SAMPLES, Audio, Model, ModelListener, ModelOutput, Pcm
from relay.opus import Encoder
from relay.transceiver import EdgeAddress, Transceiver, TransceiverConfig
from sidetone.process import prefer_voice, settle_memory
from voice.floor import FloorConfig

LOOPBACK: Final = "127.0.0.1"
CODE: Final = "test"
PAYLOAD_TYPE: Final = 96  # of Opus in aiortc's offers
FRAME_S: Final = 0.02
_UNINTERRUPTIBLE_MS: Final = 1e9
_HEADER: Final = struct.Struct("!BBHII")


def talk(frames: int = 1500) -> list[Pcm]:
    """30 s of answers, without pauses, in frames."""
    said = np.concatenate([speech.load(name).pcm for name in speech.names("agent_")])
    whole = np.resize(said, frames * FRAME_SAMPLES)
    return [whole[at : at + FRAME_SAMPLES] for at in range(0, len(whole), FRAME_SAMPLES)]


class Talker(Model):
    """Speaks all the time, unasked."""

    name = "talker"

    def __init__(self, frames: list[Pcm]) -> None:
        self._frames = frames
        self._speaks = False
        self._to: ModelListener | None = None

    def attach(self, listener: ModelListener) -> None:
        """Keep who is to be told."""
        self._to = listener

    def hear(self, pcm: Pcm, *, speech: bool) -> None:
        """Begin to speak as soon as the call has begun."""
        del pcm, speech
        if not self._speaks and self._to is not None:
            self._speaks = self._to.speak()

    async def respond(self, turn_id: int) -> AsyncGenerator[ModelOutput]:
        """Speak for ever."""
        del turn_id
        for frame in cycle(self._frames):
            yield Audio(frame)


class Ours:
    """A transceiver with everything that it does in service: detector, turn-taking, facts to a log on disk."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._emitter = Emitter(lambda: SqliteEventLog(folder / "log"), role="transceiver", region="b", host_id="b")
        floor = FloorConfig(barge_in_ms=_UNINTERRUPTIBLE_MS, min_speech_ms=_UNINTERRUPTIBLE_MS)
        config = TransceiverConfig(CODE, "b", key, 1, host_id="b", floor=floor, max_sessions=1000)
        frames = talk()
        # The talker is no model that anybody would choose: it is not in the catalogue.
        setattr(relay.transceiver.transceiver, "create", lambda *_: Talker(frames))  # noqa: B010
        self._transceiver = Transceiver(config, self._emitter)

    async def start(self) -> tuple[str, int]:
        """Start; return where edges find it."""
        self._emitter.start()
        await self._transceiver.start()
        return self._transceiver.address

    def add_edge(self, public: tuple[str, int], internal: tuple[str, int]) -> None:
        """Learn the edge."""
        self._transceiver.add_edge(EdgeAddress("e", "b", public, internal))

    async def answer(self, offer: str) -> str:
        """Take a call."""
        return (await self._transceiver.answer(offer)).sdp

    def figures(self) -> Mapping[str, list[float] | int]:
        """Count ticks by lateness, what was skipped or starved, and what is held now."""
        counters = self._transceiver.counters
        return {
            "sessions": counters.sessions,
            "tasks": len(asyncio.all_tasks()),
            "lateness": list(counters.lateness_counts),
            "skipped": counters.skipped_ticks,
            "underruns": counters.underruns,
        }

    async def stop(self) -> None:
        """End all calls."""
        await self._transceiver.aclose()
        await asyncio.to_thread(self._emitter.close)


class _TalkTrack(MediaStreamTrack):
    """The same voice as a track, paced as aiortc's own `AudioStreamTrack` is."""

    kind = "audio"

    def __init__(self, frames: list[Pcm]) -> None:
        super().__init__()
        self._frames = cycle(frames)
        self._begun: float | None = None
        self._sent = 0

    async def recv(self) -> av.AudioFrame:
        """Return the next 20 ms when they are due."""
        if self._begun is None:
            self._begun = time.monotonic()
        await asyncio.sleep(self._begun + self._sent * FRAME_S - time.monotonic())
        frame = av.AudioFrame.from_ndarray(next(self._frames).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, self._sent * FRAME_SAMPLES
        self._sent += 1
        return frame


class Stock:
    """What an application makes of aiortc: a peer connection per call, a track that speaks and one that is read."""

    def __init__(self, folder: Path, key: bytes) -> None:
        del folder, key
        self._frames = talk()
        self._peers: list[RTCPeerConnection] = []
        self._readers: set[asyncio.Task[None]] = set()

    async def start(self) -> tuple[str, int]:
        """Do nothing: each call has its own socket."""
        return LOOPBACK, 0

    async def answer(self, offer: str) -> str:
        """Take a call."""
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._peers.append(peer)
        peer.on("track", self._read)
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        peer.addTrack(_TalkTrack(self._frames))
        for transceiver in peer.getTransceivers():
            gather_on_loopback(transceiver)
        await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)

    def figures(self) -> Mapping[str, list[float] | int]:
        """Return nothing: it has no clock of its own."""
        return {}

    async def stop(self) -> None:
        """End all calls."""
        await asyncio.gather(*(peer.close() for peer in self._peers))

    def _read(self, track: MediaStreamTrack) -> None:
        async def read() -> None:
            try:
                while True:
                    await track.recv()
            except MediaStreamError:
                return

        task = asyncio.ensure_future(read())
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)


SERVERS: Final = {"ours": Ours, "stock": Stock}


def serve(name: str, key: bytes, pipe: Connection) -> None:
    """Run a server until the pipe says `stop`, prepared as a transceiver in service is; a process's entry."""
    prefer_voice()
    uvloop.run(_serve(name, key, pipe))


async def _serve(name: str, key: bytes, pipe: Connection) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server: Any = SERVERS[name](Path(folder), key)
        where = await server.start()
        settle_memory()
        pipe.send(where)
        while True:
            what, *arguments = await asyncio.to_thread(pipe.recv)
            if what == "stop":
                await server.stop()
                pipe.send(None)
                return
            if what == "edge":
                server.add_edge(*arguments)
                pipe.send(None)
            elif what == "answer":
                pipe.send(await server.answer(*arguments))
            elif what == "sample":
                pipe.send((time.monotonic(), time.process_time(), server.figures()))


class NoSink:
    """Takes an edge's facts and forgets them: the edge is not what is measured."""

    def add_columns(self, fact: object, columns: object, rows: int) -> None:
        """Forget."""

    def shed(self, fact: object, reason: str, rows: int) -> None:
        """Forget."""


class Peers:
    """Everybody who calls: connections, one loop that sends for all of them, and what they hear."""

    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames
        self._senders: list[tuple[Any, int]] = []
        self._connections: list[RTCPeerConnection] = []
        self._sent = 0
        self.heard = 0

    async def call(self, pipe: Connection) -> None:
        """Make one more call."""
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connections.append(peer)
        transceiver = peer.addTransceiver("audio", direction="sendrecv")
        gather_on_loopback(transceiver)
        dtls: Any = transceiver.sender.transport
        dtls._handle_rtp_data = self._hear  # noqa: SLF001 - or aiortc would decode it
        await peer.setLocalDescription()
        pipe.send(("answer", peer.localDescription.sdp))
        answer = await asyncio.to_thread(pipe.recv)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        async with asyncio.timeout(20):
            while peer.connectionState != "connected":  # noqa: ASYNC110 - aiortc's event comes before the keys are there
                await asyncio.sleep(0.02)
        self._senders.append((dtls, secrets.randbits(32)))

    async def talk(self) -> None:
        """Send a packet of each peer every 20 ms, until cancelled."""
        begun = time.monotonic()
        while True:
            payload = self._frames[self._sent % len(self._frames)]
            for dtls, ssrc in self._senders:
                head = _HEADER.pack(0x80, PAYLOAD_TYPE, self._sent & 0xFFFF, self._sent * FRAME_SAMPLES, ssrc)
                await dtls._send_rtp(head + payload)  # noqa: SLF001 - encoded already, which a track's frames are not
            self._sent += 1
            await asyncio.sleep(max(0.0, begun + self._sent * FRAME_S - time.monotonic()))

    async def close(self) -> None:
        """Hang up."""
        await asyncio.gather(*(peer.close() for peer in self._connections))

    async def _hear(self, data: bytes, arrival_time_ms: int) -> None:
        del data, arrival_time_ms
        self.heard += 1


def encoded() -> list[bytes]:
    """What a peer says: the user's questions, with redundancy, 32 kbit/s."""
    said = np.concatenate([speech.load(name).pcm for name in speech.names("user_")])
    encoder = Encoder(32_000)
    return [encoder.encode(said[at : at + FRAME_SAMPLES]) for at in range(0, len(said) - FRAME_SAMPLES, FRAME_SAMPLES)]


class EdgeThread:
    """An edge between the peers and the transceiver, in the peers' process."""

    def __init__(self, transceiver: tuple[str, int], key: bytes) -> None:
        self._stop = threading.Event()
        self.edge = Edge(
            EdgeConfig(
                name="e",
                region="b",
                bind=(LOOPBACK, 0),
                internal_bind=(LOOPBACK, 0),
                transceivers={CODE: transceiver},
                keys={1: key},
                host_id="b",
                packet_facts=False,
            ),
            NoSink(),
        )
        self._thread = threading.Thread(target=self.edge.run, args=(self._stop,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop forwarding."""
        self._stop.set()
        self._thread.join()
