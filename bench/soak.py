"""Does it stay as it is? A day of calls in virtual time, and real calls for minutes, counted before and after.

The virtual day runs the call's own code without sockets: impaired packets through the uplink (`UserVoice`: statistics,
jitter buffer, decoder, detector), the floor machine with answers to it, the sender's policy and the downlink's encoder,
one call after another, each over a network of its own; facts are counted and forgotten. The clock is the tick's number.
The real part (`--real-minutes`) holds calls against a transceiver behind an edge, as `bench.sessions` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import resource
import secrets
import struct
import sys
import time
from collections import Counter
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Final

from bench.harness import arguments, report
from bench.session_peers import EdgeThread, Peers, encoded, serve, talk
from relay.transceiver.counters import Counters
from relay.transceiver.facts import SessionFacts
from relay.transceiver.receive import UserVoice
from relay.transceiver.send import AgentVoice
from voice.floor import Floor, FloorConfig
from voice.link import Link
from voice.netem import PROFILES
from voice.sender import Report, Sender
from voice.turns import RequestResponse
from voice.vad import WebRtcVad

TICK_NS: Final = 20_000_000
CALL_S: Final = 180
REPORT_TICKS: Final = 50
ANSWER_TICKS: Final = 120
TALK_TICKS: Final = 150
"""The user speaks for three seconds and is silent for as long."""

PAYLOAD_TYPE: Final = 111
UTC_NS: Final = 1_760_000_000_000_000_000
_HEADER: Final = struct.Struct("!BBHII")
_PAGE_KIB: Final = resource.getpagesize() // 1024


class CountingSink:
    """Counts facts by type and keeps none."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()

    def add(self, fact: Any, /, **columns: object) -> None:
        """Count one."""
        del columns
        self.rows[fact.name] += 1


def resident_mib() -> float:
    """Memory of this process that is in RAM now."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_KIB / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sockets(pid: int | str = "self") -> int:
    """Open file descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


class VirtualCall:
    """One call without sockets."""

    def __init__(self, number: int, sink: CountingSink, frames: list[bytes], answers: list[Any]) -> None:
        names = sorted(PROFILES)
        self._profile = PROFILES[names[number % len(names)]]
        self._frames, self._answers = frames, answers
        self.facts = SessionFacts(sink, number.to_bytes(16, "big"), "soak")
        vad = WebRtcVad(2)
        self.user = UserVoice(self.facts, Counters(), vad, PAYLOAD_TYPE, None)
        self.sender = Sender()
        self.agent = AgentVoice(PAYLOAD_TYPE, 1, settings=self.sender.settings, voiced_dbov=-55.0, dtx=number % 2 == 1)
        self.floor = Floor(FloorConfig(detector_hangover_ms=vad.hangover_ms), vad.name)
        self._link = Link(self._profile.up, number)
        self._down = Link(self._profile.down, number)
        self._ssrc = secrets.randbits(32)
        self._arriving: list[tuple[int, bytes]] = []
        self._number = self._answering = self._sent = self._lost = 0
        self.turns = 0

    def run(self, seconds: int, begin_ns: int) -> None:
        """Hold the call from `begin_ns` on the virtual clock."""
        for tick in range(seconds * 50):
            now_ns = begin_ns + tick * TICK_NS
            if tick // TALK_TICKS % 2 == 0:  # the user's own DTX: no packets while silent
                self._user_sends(tick, now_ns)
            while self._arriving and self._arriving[0][0] <= now_ns:
                at_ns, data = heappop(self._arriving)
                self.user.received(data, len(data), UTC_NS + at_ns, at_ns)
            self._hear(now_ns, tick)
            self._say(now_ns, tick)
            if tick % REPORT_TICKS == REPORT_TICKS - 1:
                self._adapt(now_ns)
        self.floor.hangup(UTC_NS + begin_ns + seconds * 1_000_000_000)

    def _user_sends(self, tick: int, now_ns: int) -> None:
        for at_ns in self._link.send(now_ns, 120):
            head = _HEADER.pack(0x80, PAYLOAD_TYPE, self._number & 0xFFFF, tick * 960 & 0xFFFFFFFF, self._ssrc)
            heappush(self._arriving, (at_ns, head + self._frames[tick % len(self._frames)]))
        self._number += 1

    def _hear(self, now_ns: int, tick: int) -> None:
        heard = self.user.tick(now_ns, now_ns, UTC_NS + now_ns)
        if heard is None:
            return
        outputs = self.floor.user_frame(UTC_NS + now_ns, heard.at_ns, heard.audio_ms, heard.speech)
        if any(isinstance(output, RequestResponse) for output in outputs):
            self.turns += 1
            self._answering = ANSWER_TICKS
            self.floor.agent_started(UTC_NS + now_ns, tick * 20.0)

    def _say(self, now_ns: int, tick: int) -> None:
        packet = self.agent.packet(self._answers[tick % len(self._answers)] if self._answering else None)
        if self._answering:
            self._answering -= 1
            if not self._answering:
                self.floor.agent_stopped(UTC_NS + now_ns, tick * 20.0, "completed")
        if packet is not None:
            self._sent += 1
            self._lost += not self._down.send(now_ns, len(packet.data))

    def _adapt(self, now_ns: int) -> None:
        down = self._profile.down
        report = Report(now_ns, self._lost / max(1, self._sent), down.delay_ms * 2, down.jitter_ms)
        self._sent = self._lost = 0
        decision = self.sender.report(report)
        if decision is not None:
            self.agent.configure(decision.after)
            self.facts.input("sender", decision.as_fact())


def virtual(hours: float, *, call_s: int = CALL_S) -> dict[str, float | int]:
    """Run so many hours of calls; return what there was of memory and objects, early and late, and what was done."""
    sink, frames, answers = CountingSink(), encoded(), talk(500)
    calls = max(4, round(hours * 3600 / call_s))
    warm = max(2, calls // 20)
    turns = 0
    begun = time.process_time()
    early = (0.0, 0)
    for number in range(calls):
        call = VirtualCall(number, sink, frames, answers)
        call.run(call_s, number * call_s * 1_000_000_000)
        turns += call.turns
        del call
        if number + 1 == warm:
            gc.collect()
            early = (resident_mib(), len(gc.get_objects()))
        if (number + 1) % warm == 0:
            done_h = (number + 1) * call_s / 3600
            print(f"{done_h:.1f} h, {turns} turns, {resident_mib():.1f} MiB", file=sys.stderr, flush=True)
    gc.collect()
    return {
        "virtual_hours": calls * call_s / 3600,
        "calls": calls,
        "turns": turns,
        "facts": sink.rows.total(),
        "cpu_s": time.process_time() - begun,
        "resident_mib_early": early[0],
        "resident_mib_late": resident_mib(),
        "objects_early": early[1],
        "objects_late": len(gc.get_objects()),
    }


async def real(minutes: float, calls: int) -> dict[str, float | int]:
    """Hold real calls, each of a minute at most and then followed by another; count descriptors and memory."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    key = secrets.token_bytes(32)
    process = context.Process(target=serve, args=("ours", key, theirs), daemon=True)
    process.start()

    async def ask(*what: object) -> Any:
        ours.send(what)
        return await asyncio.to_thread(ours.recv)

    def state() -> tuple[float, int]:
        pages = Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * _PAGE_KIB / 1024, sockets(process.pid or "self")

    edge = EdgeThread(await asyncio.to_thread(ours.recv), key)
    await ask("edge", edge.edge.address, edge.edge.internal_address)
    held = 0
    early: tuple[float, int] | None = None
    tasks_early = 0
    heard = 0
    deadline = time.monotonic() + minutes * 60
    first = await ask("sample")
    while True:
        peers = Peers(encoded())
        talking = asyncio.create_task(peers.talk())
        for _ in range(calls):
            await peers.call(ours)
        await asyncio.sleep(max(0.0, min(60.0, deadline - time.monotonic())))
        held += calls
        heard += peers.heard
        talking.cancel()
        await peers.close()
        await asyncio.sleep(3)  # the server notices that they hung up
        sample = await ask("sample")
        if early is None:
            early, tasks_early = state(), sample[2]["tasks"]
        print(f"{held} calls held, {state()[0]:.1f} MiB", file=sys.stderr, flush=True)
        if time.monotonic() >= deadline:
            break
    late = state()
    await ask("stop")
    edge.stop()
    await asyncio.to_thread(process.join, 10)
    return {
        "real_minutes": minutes,
        "calls_at_once": calls,
        "calls_held": held,
        "packets_heard": heard,
        "cpu_share": (sample[1] - first[1]) / (sample[0] - first[0]),
        "resident_mib_early": early[0],
        "resident_mib_late": late[0],
        "descriptors_early": early[1],
        "descriptors_late": late[1],
        "tasks_early": tasks_early,
        "tasks_late": sample[2]["tasks"],
        "sessions_left": sample[2]["sessions"],
        "underruns": sample[2]["underruns"],
        "skipped_ticks": sample[2]["skipped"],
    }


def main() -> None:
    """Print both parts' figures."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--hours", type=float, default=24.0, help="virtual hours of calls (default 24; 0: none)")
    parser.add_argument("--real-minutes", type=float, default=0.0, help="real minutes of calls (default 0: none)")
    parser.add_argument("--calls", type=int, default=12, help="real calls at once (default 12)")
    options = parser.parse_args()
    result: dict[str, object] = {}
    if options.hours:
        result["virtual"] = virtual(options.hours)
    if options.real_minutes:
        with contextlib.suppress(KeyboardInterrupt):
            result["real"] = asyncio.run(real(options.real_minutes, options.calls))
    report(result, options.json)


if __name__ == "__main__":
    main()
