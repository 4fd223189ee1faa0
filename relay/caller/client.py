"""One call: signalling, WebRTC through an impaired network, the script, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

from relay.behaviours import HEADER
from relay.caller import stats
from relay.caller.conversation import Conversation
from relay.caller.ear import Ear
from relay.caller.microphone import Microphone
from relay.caller.network import ImpairedNetwork
from relay.caller.offset import ClockOffset
from relay.caller.phrasebook import Phrasebook
from relay.caller.records import Answer
from relay.caller.script import Script
from relay.caller.sdp import edge_address, through, unreachable
from relay.caller.wiring import (
    MicrophoneTrack,
    all_acknowledged,
    gather_on_loopback,
    time_consent_checks,
    use_ear,
    use_microphone,
)
from voice.netem import PROFILES, NetworkProfile

CONNECT_S: Final = 20.0
"""Signalling, ICE and DTLS together; a lost DTLS flight costs seconds on a bad network."""

STATS_S: Final = 5.0

FIRST_PINGS_S: Final = (0.2,) * 8
PING_S: Final = 2.0
"""Between two questions what time it is; at first more often, so that the first answers have a clock to go by."""

TURNS_MAX: Final = 5_000
TURN_FIELDS: Final = ("kind", "turn_id", "actor", "at_ns", "reason")

DRAIN_S: Final = 0.4
"""At the end, how long what is on the uplink may take to arrive."""

SETTLE_S: Final = 1.0
"""At the end, how long the receiver may take to read what its socket holds; on a busy machine it comes to it late."""

FLUSH_S: Final = 0.15
"""At the end, how long the last statistics may take to be acknowledged before they are said again."""

FINAL_REPORTS: Final = 5
"""How often they are said at most."""

HANG_UP_S: Final = 0.5
"""How long the server may take to answer the hang-up."""

CREATED: Final = 201
_POLL_S: Final = 0.005


class CallError(Exception):
    """A call that failed; the message says at which step and why."""


@dataclass(frozen=True, slots=True)
class CallConfig:
    """One call.

    Attributes:
        url: base URL of the signalling server.
        region: region asked for.
        profile: the caller's network.
        script: what the caller does.
        seconds: length of the call, from its connection.
        seed: fixes the network's losses and delays, and the script's choices.

    """

    url: str
    region: str
    profile: NetworkProfile
    script: Script
    seconds: float
    seed: int


class Call:
    """One synthetic call. Use once: `await run(stop)`, then read the results.

    Args:
        config: whom to call and what to do.
        http: client for the signalling requests.
        phrasebook: what may be said.
        on_progress: called with `connected`, `said` or `heard`; must not block.

    """

    def __init__(
        self,
        config: CallConfig,
        http: httpx.AsyncClient,
        phrasebook: Phrasebook,
        on_progress: Callable[[str], None],
    ) -> None:
        self._config = config
        self._http = http
        self._on_progress = on_progress
        self.ear = Ear()
        """What arrived and was played."""
        self.microphone = Microphone(self._tick)
        """What was said."""
        self.conversation = Conversation(
            self.microphone,
            phrasebook,
            np.random.default_rng([config.seed, 1]),
            on_said=lambda _: on_progress("said"),
            on_heard=self._heard,
            on_network=self._move,
        )
        """What was heard."""
        self.network: ImpairedNetwork | None = None
        """The caller's network, once the answer has named the edge."""
        self.session_id: str | None = None
        """The platform's id of the session, once it is known."""
        self.turns: list[dict[str, Any]] = []
        """What the platform said of the turns while they happened."""
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._transceiver = self._peer.addTransceiver(MicrophoneTrack(), direction="sendrecv")
        self._channel: RTCDataChannel = self._peer.createDataChannel(stats.LABEL, ordered=False)
        self._channel.on("message", self._message)
        self._channel.on("open", self._opened)
        self._peer.on("connectionstatechange", self._state_changed)
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._location: httpx.URL | None = None
        self._rtt_s: float | None = None
        self._clock = ClockOffset()
        gather_on_loopback(self._transceiver)
        use_microphone(self._transceiver.sender, self.microphone.next_frame)
        use_ear(self._transceiver.receiver, self.ear)

    async def run(self, stop: asyncio.Event) -> None:
        """Make the call to its end, or until `stop` is set; leaves nothing running.

        Raises:
            CallError: it could not be connected, or the connection was lost.

        """
        stopping = asyncio.ensure_future(stop.wait())
        try:
            if not await self._unless(stopping, self._connect()):
                return
            self._on_progress("connected")
            await self._unless(stopping, self._converse())
            await self._finish()
        finally:
            stopping.cancel()
            await self._close()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._signal()
                await self._connected
        except TimeoutError:
            raise CallError(
                f"no connection within {CONNECT_S:g} s (ICE is {self._peer.iceConnectionState}, "
                f"the whole {self._peer.connectionState}): is the edge running, and does its answer name it?"
            ) from None
        time_consent_checks(self._transceiver.sender.transport, self._measured_rtt)

    async def _signal(self) -> None:
        await self._peer.setLocalDescription()
        url = f"{self._config.url.rstrip('/')}/v1/realtime/calls"
        try:
            response = await self._http.post(
                url,
                params={"region": self._config.region},
                content=unreachable(self._peer.localDescription.sdp),
                headers={"content-type": "application/sdp", **self._behaviour()},
            )
        except httpx.HTTPError as error:
            raise CallError(
                f"{url} does not answer ({error or type(error).__name__}); `sidetone up` starts "
                "a transceiver on this machine"
            ) from error
        if response.status_code != CREATED:
            raise CallError(f"{url} answered {response.status_code}: {response.text[:300]}")
        if location := response.headers.get("location"):
            self._location = response.url.join(location)
            self.session_id = self._location.path.rstrip("/").rpartition("/")[2]
        self.network = ImpairedNetwork(edge_address(response.text), self._config.profile, self._config.seed)
        answer = through(response.text, self.network.near)
        await self._peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    def _behaviour(self) -> dict[str, str]:
        agent = self._config.script.agent
        return {HEADER: json.dumps(agent)} if agent else {}

    async def _converse(self) -> None:
        """Do the script while the statistics go out; ends early, with an error, if the connection is lost."""
        reporting = asyncio.ensure_future(self._report_regularly())
        asking = asyncio.ensure_future(self._ask_the_time())
        talking = asyncio.ensure_future(self.conversation.run(self._config.script, self._config.seconds))
        tasks = (reporting, asking, talking)
        try:
            await asyncio.wait((*tasks, self._lost), return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            if self._lost.done():
                raise CallError(f"the connection was lost (ICE is {self._peer.iceConnectionState})")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self) -> None:
        """Hang up so that every packet is accounted for: what was sent has arrived or is lost, and was counted."""
        self.microphone.end()
        network = self.network
        if network is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(network.up.drained(), DRAIN_S)
            network.down.stop_media()
            await _poll(lambda: self.ear.arrived >= network.down.arrivals(), SETTLE_S)
        self.conversation.finish()
        # SCTP's own repetition takes a second or more; the sums are cumulative, so saying them again does no harm.
        for _ in range(FINAL_REPORTS):
            await self._report()
            if await _poll(lambda: all_acknowledged(self._peer), FLUSH_S):
                break

    async def _close(self) -> None:
        self.microphone.end()
        if self._location is not None:
            with contextlib.suppress(httpx.HTTPError):  # hung up or not, the call ends here
                await self._http.delete(self._location, timeout=HANG_UP_S)
        for future in (self._connected, self._lost):
            future.cancel()
        try:
            await self._peer.close()
        finally:
            if self.network is not None:
                self.network.close()

    async def _unless(self, stopping: asyncio.Future[Any], work: Any) -> bool:
        """Do some work unless `stopping` is done first; true if the work was done."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            return False
        task.result()
        return True

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(STATS_S)
            await self._report()

    async def _ask_the_time(self) -> None:
        for wait_s in itertools.chain(FIRST_PINGS_S, itertools.repeat(PING_S)):
            self._send(stats.ping())
            await asyncio.sleep(wait_s)

    async def _report(self) -> None:
        if (clock := self._clock.best) is not None:
            self._send(stats.message("clock", stats.offset(clock)))
        for text in stats.inbound(self.ear):
            self._send(text)
        if self._rtt_s is not None:
            self._send(stats.message("candidate-pair", {"currentRoundTripTime": self._rtt_s}))
        report = await self._transceiver.sender.getStats()
        for text in stats.outbound(report):
            self._send(text)

    def _send(self, text: str) -> None:
        if self._channel.readyState == "open":
            self._channel.send(text)

    def _tick(self, due_ns: int, now_ns: int, wall_ns: int) -> None:
        loud = self.ear.play(due_ns, now_ns, in_speech=self.conversation.agent_audible)
        self.conversation.played(wall_ns, loud)

    def _heard(self, answer: Answer) -> None:
        if answer.heard_end_ns is None:
            self._send(
                stats.playout(
                    answer.heard_start_ns,
                    len(self.conversation.answers),
                    spoke_ns=self.microphone.voiced_ns,
                    playout_delay_ms=self.ear.playout_delay_ms,
                    clock=self._clock.best,
                )
            )
            self._on_progress("heard")

    def _move(self, profile: str) -> None:
        if self.network is not None:
            self.network.move(PROFILES[profile])

    def _message(self, text: object) -> None:
        if not isinstance(text, str):
            return
        try:
            message = json.loads(text)
        except ValueError:
            return  # not one of ours; the channel may carry other applications' messages
        match message:
            case {"type": "sidetone.session", "session_id": str(session_id)}:
                self.session_id = session_id
            case {"type": "sidetone.pong", "client_ns": int(sent_ns), "server_ns": int(server_ns)}:
                self._clock.answered(sent_ns, server_ns, time.time_ns())
            case {"type": "sidetone.turn", "kind": str(), "turn_id": int(), "at_ns": int()}:
                if len(self.turns) < TURNS_MAX:
                    self.turns.append({name: message.get(name) for name in TURN_FIELDS})

    def _opened(self) -> None:
        if not self._connected.done():
            self._connected.set_result(None)

    def _state_changed(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            if not self._connected.done():
                self._connected.set_exception(CallError(f"connecting failed (ICE is {self._peer.iceConnectionState})"))
            if not self._lost.done():
                self._lost.set_result(None)

    def _measured_rtt(self, rtt_s: float) -> None:
        self._rtt_s = rtt_s


async def _poll(done: Callable[[], bool], seconds: float) -> bool:
    """Wait for something that nobody signals, for a short while at most; whether it came about."""
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(_POLL_S)
    return done()
