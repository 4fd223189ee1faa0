"""The transceiver as others see it: it answers offers, holds calls and ends them."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from platform import python_version
from typing import Final

from aiortc import RTCCertificate

from eventlog.ids import RANDOM_BYTES, uuid7
from relay import opus
from relay.models import Application, ModelError, create
from relay.transceiver.behaviour import BehaviourError, behaving
from relay.transceiver.checks import Checks
from relay.transceiver.clock import PlayoutClock
from relay.transceiver.config import EdgeAddress, TransceiverConfig
from relay.transceiver.counters import Counters
from relay.transceiver.demux import Demux
from relay.transceiver.errors import BusyError, OfferError, UnknownRegionError
from relay.transceiver.facts import FactSink
from relay.transceiver.offer import Offer, read_offer
from relay.transceiver.predictions import PredictorWorker
from relay.transceiver.session import Session, Shared
from relay.transceiver.wire import Wire
from relay.ufrag import RANDOM_BYTES as UFRAG_RANDOM_BYTES
from relay.ufrag import mint

SWITCH_INTERVAL_S: Final = 0.0005
"""Longest that another thread of the process (telemetry's, above all) keeps the interpreter while the clock waits. Each
call into a codec gives the interpreter away, so that Python's 5 ms would be paid many times in a tick of 20."""

VERSIONS: Final[dict[str, str]] = {
    "python": python_version(),
    **{name: version(name) for name in ("aiortc", "aioice", "numpy", "webrtcvad-wheels")},
}
"""Of what a conversation's decisions rest on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An accepted call: its id (a UUIDv7) and the SDP that the client must be given."""

    session_id: uuid.UUID
    sdp: str


class Transceiver:
    """One UDP socket, all of its calls, one 20 ms clock. Use from one asyncio event loop."""

    def __init__(self, config: TransceiverConfig, emitter: FactSink) -> None:
        self.config = config
        self.counters = Counters()
        self._emitter = emitter
        self._demux = Demux(self.counters, config.header_keys, config.region)
        self._edges: dict[str, EdgeAddress] = {}
        self._sessions: dict[uuid.UUID, Session] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._shared: Shared | None = None
        self._opened = 0
        self._draining = False
        self._checks = Checks(
            self._demux,
            config.header_keys[0],
            lambda random: mint(config.code, config.ufrag_key, config.ufrag_key_id, random),
        )
        for edge in config.edges:
            self.add_edge(edge)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the UDP socket, to be given to edges. Known once started."""
        return self._running().wire.address

    @property
    def edges(self) -> tuple[EdgeAddress, ...]:
        """The edges by which calls enter; the first is the default."""
        return tuple(self._edges.values())

    @property
    def silent_edges(self) -> frozenset[str]:
        """Names of edges that are gone, or cut off: no new call enters there while there is another."""
        return self._demux.silent_edges(time.time_ns())

    @property
    def refusing_edges(self) -> frozenset[str]:
        """Names of edges that take no new calls, as they drain or are overloaded: passed by like silent ones."""
        return frozenset(self._demux.refusing)

    @property
    def ready(self) -> bool:
        """Whether a call would be taken now."""
        free = len(self._sessions) < self.config.max_sessions and not self._draining
        return self._shared is not None and bool(self._edges) and free

    @property
    def sessions(self) -> int:
        """Calls held now."""
        return len(self._sessions)

    def add_edge(self, edge: EdgeAddress) -> None:
        """Listen to one more edge and let calls enter by it. An edge of the same name is replaced."""
        self._edges[edge.name] = edge
        self._demux.allow(edge)

    async def start(self) -> None:
        """Bind the socket and start the clock.

        Raises:
            OSError: the address cannot be bound.
            OpusUnavailableError: there is no libopus.
            WeightsError: the speech detector or the predictor of ends is not installed.

        """
        opus.version()
        sys.setswitchinterval(min(SWITCH_INTERVAL_S, sys.getswitchinterval()))
        create(self.config.model, self.config.seed)  # loads what the model needs now, not at the first call
        self.config.make_vad()
        predictor = self.config.make_predictor()
        clock = PlayoutClock(self.counters)
        receiver = self._demux.receive
        wire = Wire(self.config.bind, receiver, self.counters, batch=self.config.batch, voice_due=clock.is_due)
        self._demux.reply = wire.send
        certificate = RTCCertificate.generateCertificate()
        worker = PredictorWorker(predictor) if predictor else None
        self._shared = Shared(self.config, wire, self._demux, clock, self._emitter, self.counters, certificate, worker)
        if worker:
            worker.start()
        clock.start()

    async def answer(
        self,
        offer_sdp: str,
        *,
        region: str | None = None,
        prefer: Sequence[str] = (),
        attributes: Mapping[str, str] | None = None,
        behaviour: str | None = None,
        application: Application | None = None,
    ) -> Answer:
        """Accept a call.

        Args:
            offer_sdp: the client's offer.
            region: by which it shall enter; None: that of the best edge which takes calls, of `prefer` or as declared.
            prefer: names of edges, the best first; the first of the region is taken, else its least busy one. An edge
                that is silent or takes no new calls is taken only if the region has no other.
            attributes: written on the session's `offered` fact. `consent` = `audio` consents to keeping the audio.
            application: what the application brings: a session, a key for the model.
            behaviour: how the caller asks its agent to behave (`relay.transceiver.behaviour`), if it does.

        Raises:
            BehaviourError: the behaviour is not taken.
            ModelError: the model needs a key, and the application brings none.
            OfferError: the offer cannot be answered.
            UnknownRegionError: no edge serves the region.
            BusyError: no more sessions are taken.

        """
        shared = self._running()
        try:
            edge = self._edge(region, prefer)
            offer = read_offer(offer_sdp)
            self._require_line()
            config = behaving(self.config, behaviour)
            model = create(config.model, config.seed + self._opened, application or Application())
        except (BehaviourError, ModelError, OfferError, UnknownRegionError, BusyError) as error:
            self.counters.refused[type(error).__name__] += 1
            raise
        session_id = uuid7(time.time_ns(), secrets.token_bytes(RANDOM_BYTES))
        seed, self._opened = self._opened, self._opened + 1
        ufrag = mint(
            self.config.code, self.config.ufrag_key, self.config.ufrag_key_id, secrets.token_bytes(UFRAG_RANDOM_BYTES)
        )
        wishes = application.session if application else {}
        session = Session(replace(shared, config=config), session_id, edge, offer, ufrag, model, wishes)
        self._sessions[session_id] = session
        asked = {} if behaviour is None else {"behaviour": behaviour}
        sdp = await session.open({**(attributes or {}), **self._attributes(edge, offer), **asked})
        session.facts.input("config", {"config": json.loads(config.as_json()), "session_seed": seed, **VERSIONS})
        self._watch(session)
        return Answer(session_id, sdp)

    async def hangup(self, session_id: uuid.UUID, who: str, reason: str) -> bool:
        """End a call; `who` hung up (`client`, `agent`, `operator`, `system`). False if there is no such call."""
        session = self._sessions.get(session_id)
        if session is None:
            return False
        session.end(who, reason)
        await session.wait()
        return True

    async def drain(self, limit_s: float) -> None:
        """Take no more calls, and wait until the living have ended or the limit is reached."""
        self._draining = True
        if self._ending and limit_s > 0:
            await asyncio.wait(self._ending, timeout=limit_s)

    async def aclose(self) -> None:
        """End all calls, stop the clock and close the socket."""
        shared = self._shared
        if shared is None:
            return
        for session in self._sessions.values():
            session.end("system", "shutdown")
        if self._ending:
            await asyncio.wait(self._ending)
        await shared.clock.stop()
        shared.wire.close()
        if shared.predictor:
            await asyncio.to_thread(shared.predictor.close)
        self._shared = None

    def _watch(self, session: Session) -> None:
        """Forget the session when it is over."""

        async def forget() -> None:
            await session.wait()
            self._sessions.pop(session.id, None)

        task = asyncio.get_running_loop().create_task(forget(), name=f"watch {session.id}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _require_line(self) -> None:
        if self._draining:
            raise BusyError("this transceiver is being stopped; try again in a few seconds")
        if len(self._sessions) >= self.config.max_sessions:
            raise BusyError(f"all {self.config.max_sessions} lines are taken; try again in a few seconds")

    def offer_check(self, edge: EdgeAddress) -> dict[str, str | int] | None:
        """Return a check by which a client learns how far it is through an edge (`relay.transceiver.checks`)."""
        return self._checks.offer(edge, self._running().wire.send)

    def _edge(self, region: str | None, prefer: Sequence[str]) -> EdgeAddress:
        order = {name: n for n, name in enumerate(prefer)}
        silent, refusing = self.silent_edges, self.refusing_edges

        def rank(edge: EdgeAddress) -> tuple[bool, bool, int]:
            return edge.name in silent, edge.name in refusing, order.get(edge.name, len(order))

        first = min(self._edges.values(), key=rank, default=None)
        wanted = region or (first.region if first else None)
        of_region = [edge for edge in self._edges.values() if edge.region == wanted]
        if of_region:
            busy = Counter(session.edge.name for session in self._sessions.values())
            return min(of_region, key=lambda edge: (*rank(edge), busy[edge.name]))
        known = ", ".join(sorted({edge.region for edge in self._edges.values()})) or "none"
        raise UnknownRegionError(f"no edge serves region {region!r}; there are: {known}")

    def _attributes(self, edge: EdgeAddress, offer: Offer) -> dict[str, str]:
        return {
            "edge": edge.name,
            "edge_region": edge.region,
            "transceiver": self.config.code,
            "transceiver_region": self.config.region,
            "codec": ";".join(filter(None, ("opus/48000/2", offer.opus_parameters))),
            "audio_level": str(offer.audio_level_id is not None).lower(),
            "model": self.config.model.name,
            "version": self.config.version,
            "config_hash": self.config.hash,
        }

    def _running(self) -> Shared:
        if self._shared is None:
            raise RuntimeError("the transceiver is not running; await start() first")
        return self._shared
