"""Hand-made calls, and calls that look real, as facts in a store: for tests of questions and pages."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from collector.migrate import migrate
from eventlog.schema import FACTS
from voice.sender import Decision, Report, Sender

T0_NS = int(datetime(2026, 3, 2, 10, 0, tzinfo=UTC).timestamp()) * 1_000_000_000
"""Ten o'clock on a Monday, when the hand-made calls begin."""

MS = 1_000_000
SECOND = 1_000_000_000


def call_id(number: int, at_ns: int = T0_NS) -> bytes:
    """Return a UUIDv7 (RFC 9562) that the number makes unique."""
    value = ((at_ns // MS) << 80) | (7 << 76) | (2 << 62) | number
    return value.to_bytes(16, "big")


@contextlib.contextmanager
def running_store(data_dir: Path) -> Iterator[tuple[str, int]]:
    """Run a store with empty tables; its host and port."""
    command = [sys.executable, "-m", "sidetone.store", "--port", "0", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            host, port = process.stdout.readline().split()
            with contextlib.closing(writer(host, int(port))) as client:
                migrate(client)
            yield host, int(port)
        finally:
            process.terminate()


def writer(host: str, port: int) -> Client:
    """Return a client that may write."""
    return clickhouse_connect.get_client(host=host, port=port)


@dataclass
class Facts:
    """Facts of any types, gathered and then stored."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def store(self, client: Client) -> None:
        for name, rows in self.rows.items():
            fact = FACTS[name]
            columns = {
                f.name: pa.array([row.get(f.name, fact.defaults.get(f.name)) for row in rows], f.type)
                for f in fact.schema
            }
            client.insert_arrow(fact.table, pa.Table.from_pydict(columns, fact.schema), database="sidetone")


@dataclass
class Call:
    """One call; every time is in milliseconds since `start_ns`."""

    facts: Facts
    number: int
    region: str = "eu-west"
    start_ns: int = T0_NS

    @property
    def raw_id(self) -> bytes:
        return call_id(self.number, self.start_ns)

    @property
    def id(self) -> str:
        return str(uuid.UUID(bytes=self.raw_id))

    def at(self, ms: float) -> int:
        return self.start_ns + round(ms * MS)

    def add(self, fact: str, observed_ms: float, /, **columns: Any) -> None:
        row = {
            "session_id": self.raw_id,
            "region": self.region,
            "host_id": "host-1",
            "observed_ns": self.at(observed_ms),
        }
        self.facts.rows[fact].append(row | columns)

    def step(self, step: str, ms: float, reason: str | None = None, **attributes: str) -> None:
        self.add("session", ms, step=step, reason=reason, attributes=list(attributes.items()))

    def turn(self, turn_id: int, kind: str, ms: float, *, seen_ms: float | None = None, **columns: Any) -> None:
        actor = "user" if kind.startswith("user") or kind == "backchannel" else "agent"
        self.add(
            "turn",
            ms if seen_ms is None else seen_ms,
            mono_ns=round(ms * MS),
            turn_id=turn_id,
            kind=kind,
            actor=columns.pop("actor", actor),
            at_ns=self.at(ms),
            **columns,
        )

    def user(self, turn_id: int, start: float, stop: float | None) -> None:
        self.turn(turn_id, "user_speech_started", start)
        if stop is not None:
            self.turn(turn_id, "user_speech_stopped", stop, seen_ms=stop + 100, detector="webrtcvad:2")

    def agent(self, turn_id: int, start: float, stop: float | None, reason: str = "completed") -> None:
        self.turn(turn_id, "agent_audio_started", start)
        if stop is not None:
            self.turn(turn_id, "agent_audio_stopped", stop, reason=reason)

    def exchange(self, turn_id: int, start: float, stop: float, onset: float, end: float) -> None:
        """Let the user speak from start to stop and the agent answer from onset to end, with every step between."""
        self.user(turn_id, start, stop)
        decided = stop + min(500.0, (onset - stop) / 2)
        self.turn(turn_id, "endpoint_decided", decided, actor="system", silence_ms=decided - stop, threshold=500.0)
        self.turn(turn_id, "response_requested", decided + 1)
        self.turn(turn_id, "model_first_audio", onset - 20)
        self.agent(turn_id, onset, end)

    def packet(self, tap: str, seq: int, ms: float, *, stream: int = 1, lost: int = 0, **columns: Any) -> None:
        self.add(
            "packet",
            ms,
            **{
                "tap": tap,
                "stream": stream,
                "ext_seq": seq,
                "rtp_ts": seq * 960 % 2**32,
                "payload_type": 111,
                "marker": False,
                "size_bytes": 100,
                "transit_delta_us": 0,
                "newly_lost": lost,
                "reordered": False,
                "duplicate": False,
            }
            | columns,
        )


@dataclass(frozen=True)
class Region:
    name: str
    loss: float
    rtt_ms: float
    jitter_ms: float
    think_ms: float


REGIONS = (
    Region("eu-west", 0.002, 18, 1.2, 380),
    Region("us-east", 0.011, 74, 4.5, 520),
    Region("ap-south", 0.034, 168, 12, 760),
)


def realistic(facts: Facts, *, start_ns: int, minutes: int = 12, every_s: float = 40.0, seed: int = 7) -> list[Call]:
    """Add calls of one to three minutes in three regions; seeded, so that they are the same every time."""
    rng = random.Random(seed)
    calls = []
    number = 1000
    for region in REGIONS:
        at_ms = rng.uniform(0, 5_000)
        while at_ms < minutes * 60_000:
            number += 1
            call = Call(facts, number, region.name, start_ns + round(at_ms * MS))
            _one_call(call, region, rng)
            calls.append(call)
            at_ms += every_s * 1000 * rng.uniform(0.6, 1.4)
    return calls


def _one_call(call: Call, region: Region, rng: random.Random) -> None:
    attributes = {
        "client": "sidetone-caller",
        "model": "scripted",
        "transceiver_region": "eu-west",
        "codec": "opus/48000",
    }
    for index, step in enumerate(("offered", "ice_connected", "dtls_connected", "first_packet", "first_frame")):
        call.step(step, index * (20 + region.rtt_ms / 2), **(attributes if step == "offered" else {}))
    now = 600.0
    for turn in range(1, rng.randint(4, 9)):
        now = _one_turn(call, region, turn, now, rng)
    call.step("closed", now, "hangup", who="client")
    _network(call, region, now, rng)


def _one_turn(call: Call, region: Region, turn: int, now: float, rng: random.Random) -> float:
    stop = now + rng.uniform(900, 2800)
    latency = 500 + rng.lognormvariate(0, 0.45) * region.think_ms + region.jitter_ms * 10
    fate = rng.random()
    if fate < 0.02:
        call.user(turn, now, stop)
        return stop + rng.uniform(5200, 7000)
    latency = latency + 2600 if fate < 0.06 else latency
    onset = stop + latency
    end = onset + rng.uniform(1500, 4500)
    call.exchange(turn, now, stop, onset, end if fate < 0.9 else end + 1)
    if fate > 0.96:  # the agent came in on a pause
        call.user(turn, onset + 350, onset + 1200)
    elif fate > 0.9:  # the user speaks over the agent, which does not hear
        call.user(turn + 100, onset + 1300, onset + 2200)
    return end + rng.uniform(400, 1600)


def sent(call: Call, seconds: int) -> list[Decision]:
    """Add what the sender decides on a report a second, of which ten are poor; give its decisions."""
    sender = Sender()
    decisions: list[Decision] = []
    for second in range(1, seconds):
        poor = 10 <= second < 20
        report = Report(call.at(second * 1_000), 0.2 if poor else 0.0, None if second < 5 else 40.0 + 200.0 * poor, 1.0)
        decision = sender.report(report)
        if decision is not None:
            payload = json.dumps(decision.as_fact()).encode()
            call.add("input", second * 1_000, mono_ns=0, sequence=len(decisions) + 1, kind="sender", payload=payload)
            decisions.append(decision)
    return decisions


def _network(call: Call, region: Region, until: float, rng: random.Random) -> None:
    ms = 100.0
    while ms < until:
        call.add("leg", ms, leg="client_edge", method="stun", rtt_us=round(rng.gauss(region.rtt_ms, 2) * 1000))
        call.add("leg", ms, leg="edge_transceiver", method="probe", rtt_us=round(rng.gauss(9, 0.3) * 1000))
        ms += 2000
    for tap, loss, stream in (("edge_up", region.loss, 11), ("edge_down", 0.0, 22)):
        lost = 0
        for seq in range(int(until / 20)):
            if rng.random() < loss:
                lost += 1
                continue
            at = 100 + seq * 20 + abs(rng.gauss(0, region.jitter_ms))
            call.packet(
                tap,
                seq,
                at,
                stream=stream,
                lost=lost,
                transit_delta_us=round(rng.gauss(0, region.jitter_ms) * 1000),
                reordered=rng.random() < region.loss / 5,
                audio_level_dbov=-25 - seq % 7 if seq % 400 < 160 else -127,
            )
            if rng.random() < region.loss / 8:
                call.packet(tap, seq, at + 0.5, stream=stream, duplicate=True, transit_delta_us=None)
            lost = 0
    received = 0
    for index in range(1, int(until / 5000) + 1):
        received += 250
        values = {
            "packetsReceived": float(received),
            "packetsLost": float(round(received * region.loss)),
            "jitterBufferDelay": received * 960 * (0.04 + region.jitter_ms / 1000),
            "jitterBufferEmittedCount": received * 960.0,
        }
        call.add("client", index * 5000, kind="inbound-rtp", stream=22, values=list(values.items()))
    for tick in range(0, int(until / 20), 5):
        kind = "discarded_late" if rng.random() < region.loss / 3 else "played"
        call.add(
            "frame",
            100 + tick * 20,
            mono_ns=tick * 20 * MS,
            direction="in",
            stream=11,
            tick=tick,
            kind=kind,
            lateness_us=100,
            underrun=False,
            buffer_ms=40 + region.jitter_ms,
        )
