"""One call, from the offer to the last fact."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aioice import stun as aioice_stun
from aiortc import RTCCertificate, RTCDataChannel, RTCIceTransport, RTCSctpTransport

from relay import encap
from relay.keep import Keep, write_keep
from relay.models import Event, VoiceModel
from relay.transceiver.answer import Local, write_answer
from relay.transceiver.channel import ClientChannel
from relay.transceiver.clock import PlayoutClock
from relay.transceiver.config import EdgeAddress, TransceiverConfig
from relay.transceiver.conversation import Conversation
from relay.transceiver.counters import Counters
from relay.transceiver.demux import Client, Demux
from relay.transceiver.dtls import MediaDtlsTransport, Replayed
from relay.transceiver.events import EventsChannel
from relay.transceiver.facts import FactSink, SessionFacts
from relay.transceiver.floors import make_floor
from relay.transceiver.ice import SharedConnection, SharedGatherer
from relay.transceiver.offer import Offer
from relay.transceiver.predictions import EndPredictions, PredictorWorker
from relay.transceiver.realtime import RealtimeEvents
from relay.transceiver.receive import UserVoice
from relay.transceiver.rtcp import Rtcp
from relay.transceiver.send import AgentVoice, Packet
from relay.transceiver.trouble import AHEAD_MS, BACK_MS, Trouble
from relay.transceiver.wire import Wire
from voice.sender import Report, Sender, SenderConfig
from voice.sequence import StreamStats
from voice.turns import TurnEvent
from voice.vad import MIN_DBOV, level_dbov

TAP: Final = "transceiver_out"

LATE_TICK_US: Final = 20_000
"""A tick this late missed its place altogether."""

REPORT_TICKS: Final = 50
"""A report per second: RFC 3550 would allow more on such bandwidth, and it gives the client a round trip."""

FEEDBACK_TICKS: Final = 5
"""Transport-wide feedback every 100 ms: as often as browsers give it where there is bandwidth."""

_HEADERS_MAX: Final = 16

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all calls of a transceiver have in common."""

    config: TransceiverConfig
    wire: Wire
    demux: Demux
    clock: PlayoutClock
    emitter: FactSink
    counters: Counters
    certificate: RTCCertificate
    predictor: PredictorWorker | None = None


class Session:
    """A call. It ends by itself (`ended`), or by `end`; either way `wait` returns when all is released and written.

    Args:
        shared: what it has in common with other calls.
        session_id: its id.
        edge: by which it enters.
        offer: the client's.
        ufrag: names it on the wire.
        model: who answers.
        wishes: the Realtime session that the application asked for, as far as it did.

    """

    def __init__(
        self,
        shared: Shared,
        session_id: uuid.UUID,
        edge: EdgeAddress,
        offer: Offer,
        ufrag: str,
        model: VoiceModel,
        wishes: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = session_id
        self._shared = shared
        self._edge = edge
        self._offer = offer
        self._ufrag = ufrag
        self.facts = SessionFacts(shared.emitter, session_id.bytes, edge.region)
        self._headers: dict[Client, bytes] = {}
        self._connection = SharedConnection(ufrag, edge.advertised, self._send, self._stun_round_trip)
        self._ice = RTCIceTransport(SharedGatherer(self._connection))
        self._dtls = MediaDtlsTransport(self._ice, shared.certificate)
        self._dtls.set_role(offer.dtls_role)
        self._sctp = RTCSctpTransport(self._dtls) if offer.sctp else None
        config = shared.config
        self._sender = Sender(
            SenderConfig(
                min(config.bitrate_bps, offer.max_bitrate_bps), max_ptime_ms=offer.max_ptime_ms, adapt=config.adapt
            )
        )
        self._agent = AgentVoice(
            offer.payload_type,
            offer.audio_level_id,
            settings=self._sender.settings,
            voiced_dbov=config.voiced_dbov,
            dtx=config.dtx,
        )
        self._sent = StreamStats()
        self._trouble = Trouble(config.late_answer_ms)
        vad = config.make_vad()
        self._user = UserVoice(
            self.facts, shared.counters, vad, offer.payload_type, offer.audio_level_id, config.jitter
        )
        self._rtcp = Rtcp(
            self._agent.ssrc,
            session_id.hex,
            transport_number_id=offer.transport_number_id,
            reduced_size=offer.reduced_size,
        )
        self._channel = ClientChannel(self.facts, shared.counters)
        self._realtime = RealtimeEvents(str(session_id), model, self._tell_event, wishes or {})
        self._events = EventsChannel(shared.counters, self._realtime.received, self._realtime.refuse)
        worker = shared.predictor
        self._conversation = Conversation(
            make_floor(config, vad, worker.predictor if worker else None),
            model,
            self.facts,
            shared.counters,
            self._tell_turn,
            self._agent.is_voiced,
            self._realtime,
            predictions=EndPredictions(worker) if worker else None,
        )
        self._realtime.control(self._conversation)
        self._steps: set[str] = set()
        self._ticks = 0
        self._ended = asyncio.Event()
        self._end: tuple[str, str] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def edge(self) -> EdgeAddress:
        """The edge by which the call enters."""
        return self._edge

    @property
    def remote(self) -> Client | None:
        """The client's address that voice goes to, once it is connected."""
        return self._connection.remote

    async def open(self, attributes: Mapping[str, str]) -> str:
        """Make the call reachable, start connecting it and return the SDP answer."""
        await self._ice.iceGatherer.gather()
        answer = write_answer(
            self._offer,
            Local(
                session=self.id.int >> 65,
                ufrag=self._ufrag,
                password=self._connection.local_password,
                candidate=self._connection.candidate,
                dtls=self._dtls.getLocalParameters(),
                ssrc=self._agent.ssrc,
                cname=self.id.hex,
            ),
        )
        self._dtls.on("statechange", self._dtls_changed)
        if self._sctp is not None:
            self._sctp.on("datachannel", self._channel_opened)
        self._channel.tell("sidetone.session", session_id=str(self.id), region=self._edge.region)
        self.facts.step("offered", attributes)
        if attributes.get("consent") == "audio":
            self.facts.consented = True
            self.facts.step("consent", reason="audio")
        self._shared.demux.add(self._ufrag, self)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"session {self.id}")
        return answer

    def end(self, who: str, reason: str) -> None:
        """End the call; the first to say so is written down."""
        if self._end is None:
            self._end = (who, reason)
        self._ended.set()

    async def wait(self) -> None:
        """Wait until the call is over and everything is released."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # Called by the demultiplexer.

    def authentic(self, message: aioice_stun.Message) -> bool:
        """Whether a request is signed with this call's password."""
        return self._connection.authentic(message)

    def asked(self, message: aioice_stun.Message, client: Client) -> bool:
        """Whether a response answers a check that this call sent to that address."""
        return self._connection.asked(message, client)

    def stun_received(self, message: aioice_stun.Message, client: Client, arrival_ns: int) -> None:
        """Take a check, or the answer to one of ours."""
        self._connection.stun_received(message, client, arrival_ns)

    def dtls_received(self, data: bytes) -> None:
        """Take a DTLS record."""
        self._connection.datagram_received(data)

    def srtp_received(self, data: bytes, arrival_ns: int) -> None:
        """Take SRTP or SRTCP."""
        try:
            plain = self._dtls.unprotect(data)
        except Replayed:
            return self._user.replayed(data, len(data), arrival_ns)
        if plain is None:
            return self._shared.counters.drop("srtp_refused")
        if self._dtls.is_rtcp(plain):
            return self._rtcp_received(plain, arrival_ns)
        self._rtcp.arrived(plain, arrival_ns)
        self._step("first_packet")
        # Frames are played by the monotonic clock, the kernel stamps by the wall clock: only the age is carried over.
        age_ns = max(0, time.time_ns() - arrival_ns)
        return self._user.received(plain, len(data), arrival_ns, time.monotonic_ns() - age_ns)

    # Called by the clock.

    def tick(self, due_ns: int, now_ns: int) -> None:
        """Hear 20 ms, let the conversation go on, say 20 ms."""
        heard = self._user.tick(due_ns, now_ns, time.time_ns())
        if heard is not None:
            if heard.kind == "played":
                self._step("first_frame")
            self._conversation.heard(heard)
        if self._dtls.ready:
            if self._offer.client_receives:
                self._say(due_ns, now_ns)
            if self._ticks % REPORT_TICKS == 0:
                self._report()
            if self._ticks % FEEDBACK_TICKS == 0:
                for feedback in self._rtcp.feedback():
                    self._transmit(self._dtls.protect(feedback))
        self._ask_for_packets()
        self._ticks += 1

    def skip(self, ticks: int) -> None:
        """Let time pass."""
        self._ticks += ticks
        self._user.skip(ticks)
        self._agent.skip(ticks)
        self._conversation.skip(ticks)

    def failed(self, error: Exception) -> None:
        """End the call because of an error of ours."""
        self.end("system", f"error: {type(error).__name__}")

    def _say(self, due_ns: int, now_ns: int) -> None:
        pcm, starved = self._conversation.next_frame()
        begins = self._agent.timestamp
        packet = self._agent.packet(pcm)
        if packet is not None:
            data = self._dtls.protect(packet.data)
            self._transmit(data)
            sent_ns = time.time_ns()
            self._sent_packet(packet, len(data), sent_ns)
            level, voiced = packet.level_dbov, packet.voiced
        else:
            sent_ns = time.time_ns()
            level = MIN_DBOV if pcm is None else level_dbov(pcm)
            voiced = False  # whatever it is, it has not left yet
        self._conversation.sent(sent_ns, voiced=voiced)
        lateness_us = (now_ns - due_ns) // 1000
        # Voice that leaves after its own 20 ms are over was missing from them, whoever was late.
        underrun = starved or (voiced and lateness_us >= LATE_TICK_US)
        self._shared.counters.underruns += underrun
        if underrun:
            self._trouble.starved()
        self.facts.frame(
            sent_ns,
            mono_ns=now_ns,
            direction="out",
            stream=self._agent.ssrc,
            tick=self._ticks,
            kind="silence" if pcm is None else "played",
            rtp_ts=begins if packet is not None or self._agent.gathered else None,  # None: nothing was sent (DTX)
            lateness_us=lateness_us,
            underrun=underrun,
            level_dbov=level,
            vad=voiced or (pcm is not None and packet is None and self._agent.is_voiced(pcm)),
        )

    def _sent_packet(self, packet: Packet, size_bytes: int, sent_ns: int) -> None:
        arrival = self._sent.receive(packet.header.sequence_number, packet.header.timestamp, sent_ns)
        self._shared.counters.packets[TAP] += 1
        self.facts.packet(TAP, packet.header, arrival, size_bytes, sent_ns)
        self.facts.audio(TAP, packet.header, arrival, packet.payload, sent_ns)

    # The call's own task.

    async def _run(self) -> None:
        self._shared.counters.sessions += 1
        try:
            if await self._connect():
                self._shared.clock.attach(self)
                await self._ended.wait()
        finally:
            await self._release()

    async def _connect(self) -> bool:
        connecting = asyncio.get_running_loop().create_task(self._handshakes(), name=f"connect {self.id}")
        ended = asyncio.get_running_loop().create_task(self._ended.wait())
        done, _ = await asyncio.wait(
            [connecting, ended],
            timeout=self._shared.config.connect_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in (connecting, ended):
            task.cancel()
        await asyncio.wait([connecting, ended])
        if not done:
            self.end("system", "connect_timeout")
        elif connecting in done and (error := connecting.exception()) is not None:
            self.end("system", f"error: {type(error).__name__}")
        return self._end is None

    async def _handshakes(self) -> None:
        await self._ice.start(self._offer.ice)
        if self._ice.state != "completed":
            return self.end("network", "ice_failed")
        self._step("ice_connected")
        await self._dtls.start(self._offer.dtls)
        if not self._dtls.ready:
            return self.end("client", "dtls_failed")
        self._step("dtls_connected")
        if self._sctp is not None and self._offer.sctp is not None:
            port, capabilities = self._offer.sctp
            await self._sctp.start(capabilities, port)
        return None

    async def _release(self) -> None:
        shared = self._shared
        shared.clock.detach(self)
        self.end("system", "shutdown")
        try:
            await self._part()
        except Exception:  # noqa: BLE001 - whatever fails to close must not keep the call from being over
            _log.exception("a call did not close cleanly", session_id=str(self.id))
        shared.demux.remove(self._ufrag, self)
        shared.counters.drop("dtls_overflow", self._connection.overflow)
        who, reason = self._end or ("system", "shutdown")
        self.facts.step("closed", {"who": who}, reason=reason)
        shared.counters.closed[who, reason] += 1
        shared.counters.sessions -= 1

    async def _part(self) -> None:
        """Say goodbye at every layer, from the top."""
        try:
            await self._conversation.aclose()
        finally:
            if self._dtls.ready and self._connection.remote is not None:
                self._transmit(self._dtls.protect(self._rtcp.goodbye()))
            if self._sctp is not None:
                await self._sctp.stop()
            await self._dtls.stop()
            await self._ice.stop()

    # Events from below.

    def _dtls_changed(self) -> None:
        if self._dtls.state == "closed":
            if self._connection.closing:
                # RFC 7675: six checks in a row without an answer. Whose fault it is, the edge's probes tell.
                lost = self._edge.name in self._shared.demux.silent_edges(time.time_ns())
                self.end("network", "edge_lost" if lost else "consent_expired")
            else:
                self.end("client", "dtls_closed")

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        self._channel.attach(channel)
        self._events.attach(channel)

    def _stun_round_trip(self, trip_ns: int) -> None:
        self.facts.leg(time.time_ns(), "client_transceiver", "stun", trip_ns // 1000, self._shared.config.region)

    def _rtcp_received(self, data: bytes, arrival_ns: int) -> None:
        reports = self._rtcp.received(data, arrival_ns)
        if reports is None:
            return self._shared.counters.drop("rtcp_malformed")
        for report in reports:
            if report.rtt_ms is not None:
                trip_us = round(report.rtt_ms * 1000)
                self.facts.leg(arrival_ns, "client_transceiver", "rtcp", trip_us, self._shared.config.region)
            self._adapt(report)
        # A client that goes on with a new stream says goodbye for the old one.
        if self._rtcp.gone and self._user.ssrc in (None, *self._rtcp.gone):
            self.end("client", "bye")
        return None

    def _adapt(self, report: Report) -> None:
        decision = self._sender.report(report)
        if decision is not None:
            self._agent.configure(decision.after)
            self.facts.input("sender", decision.as_fact())

    def _report(self) -> None:
        heard = None if self._user.ssrc is None else (self._user.ssrc, self._user.stats)
        report = self._rtcp.report(
            time.time_ns(), self._agent.timestamp, self._agent.packets, self._agent.octets, heard
        )
        self._transmit(self._dtls.protect(report))

    def _tell_event(self, event: Event) -> None:
        self._events.tell(event)

    def _tell_turn(self, event: TurnEvent) -> None:
        self._trouble.turn(event)
        self._realtime.turn(event)
        self._channel.tell(
            "sidetone.turn",
            kind=event.kind,
            turn_id=event.turn_id,
            actor=event.actor,
            at_ns=event.at_ns,
            audio_ms=event.audio_ms,
            reason=event.reason,
        )

    def _ask_for_packets(self) -> None:
        """Have the edge keep what it saw and sees of this call, if a turn may be going wrong."""
        now_ns = time.time_ns()
        noticed = self._trouble.due(now_ns)
        if noticed is not None:
            keep = Keep(self.id.bytes, now_ns, BACK_MS, AHEAD_MS)
            data = write_keep(keep, self._shared.config.header_keys[0], self._connection.remote)
            self._shared.wire.send(data, self._edge.internal)
            self._shared.counters.keeps[noticed] += 1

    def _step(self, step: str) -> None:
        if step not in self._steps:
            self._steps.add(step)
            self.facts.step(step)

    # Ways out.

    def _transmit(self, data: bytes) -> None:
        client = self._connection.remote
        if client is not None:
            self._send(data, client)

    def _send(self, data: bytes, client: Client) -> None:
        header = self._headers.get(client)
        if header is None:
            if len(self._headers) >= _HEADERS_MAX:
                self._headers.clear()
            header = self._headers[client] = encap.down_header(
                client[0],
                client[1],
                self.id.bytes,
                self._shared.config.header_keys[0],
                self._offer.audio_level_id,
            )
        self._shared.wire.send(header + data, self._edge.internal)
