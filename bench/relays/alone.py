"""The edge by itself: the delay that it adds, its memory over many packets and flows, and what gives way first."""

from __future__ import annotations

import secrets
import tempfile
import time
from contextlib import ExitStack, suppress
from typing import Any, Final

import numpy as np
from aioice import stun

from bench.relays import contenders, serve
from bench.relays.contenders import Contender, Unavailable
from bench.relays.load import BURST, CLIENTS, LOOPBACK, Load, udp
from relay.edge import Limits
from relay.ufrag import mint

_CALIBRATION: Final = 60 * BURST
_DELAY_S: Final = 5.0
_STEP_S: Final = 2.0
_STEPS: Final = (0.5, 0.9, 1.2, 1.6, 2.0, 3.0)
_FLOWS: Final = 50_000
_WAVE: Final = 1_000
_EDGE_HOSTS: Final = 64


def _capacity(edge: Contender) -> float:
    """Return the packets a second that the edge forwards when it is saturated."""
    edge.load.saturate(_CALIBRATION)
    started = time.perf_counter()
    return edge.load.saturate(_CALIBRATION) / (time.perf_counter() - started)


def delay() -> dict[str, object]:
    """Measure the time from sending to arrival at half load, and the same without an edge between.

    Of the edge as it is deployed, in real time, and at an ordinary process's priority. What the C loop, an ordinary
    process, adds at the same load is what the machine and its scheduler add, whoever forwards.
    """
    added = {}
    with ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="sidetone-bench-"))
        edge = contenders.python(ending, folder, serve.edge, real_time=True)
        capacity = _capacity(edge)
        rate = capacity / 2
        through, sent = edge.load.delays_ns(edge.rtp_at, rate, _DELAY_S)
        added["added_ms"] = through
        ordinary = contenders.python(ending, folder, serve.edge)
        added["added_at_ordinary_priority_ms"], _ = ordinary.load.delays_ns(ordinary.rtp_at, rate, _DELAY_S)
        silent = contenders.python(ending, folder, serve.edge, packet_facts=False)
        added["added_without_facts_ms"], _ = silent.load.delays_ns(silent.rtp_at, rate, _DELAY_S)
        with suppress(Unavailable):
            loop = contenders.c_loop(ending, folder)
            added["added_by_c_ms"], _ = loop.load.delays_ns(loop.rtp_at, rate, _DELAY_S)
        transceiver, clients = ending.enter_context(udp()), [ending.enter_context(udp()) for _ in range(CLIENTS)]
        back = [client.getsockname() for client in clients]
        direct = Load(clients, transceiver, transceiver.getsockname(), [b""] * CLIENTS, [b""] * CLIENTS, back)
        straight, _ = direct.delays_ns(0, rate, _DELAY_S)
    base = float(np.median(straight))
    return {
        "capacity_packets_per_s": capacity,
        "offered_packets_per_s": sent / _DELAY_S,
        "direct_ms": {"p50": base / 1e6, "p99": float(np.percentile(straight, 99)) / 1e6},
        **{
            name: {f"p{p}": (float(np.percentile(delays, p)) - base) / 1e6 for p in (50, 99, 99.9)}
            for name, delays in added.items()
        },
        "packets": len(through),
    }


def soak(packets: int) -> dict[str, object]:
    """Send many packets, let 50,000 flows come and go, and compare the memory before and after."""
    with ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="sidetone-bench-"))
        limits = Limits(unanswered_s=0.5, idle_s=5.0, flows_per_source=_WAVE)
        edge = contenders.python(ending, folder, serve.edge, limits=limits)
        edge.load.saturate(packets // 20)
        _flows_come_and_go(edge, _FLOWS // 20)
        before = edge.rss_bytes()
        opened = edge.counters().flows_opened
        half = edge.load.saturate(packets // 2)
        _flows_come_and_go(edge, _FLOWS)
        middle = edge.rss_bytes()
        arrived = half + edge.load.saturate(packets - packets // 2)
        time.sleep(1.0)
        counters = edge.counters()
        after = edge.rss_bytes()
    return {
        "packets": arrived,
        "flows_opened": counters.flows_opened - opened,
        "flows_left": counters.flows,
        "rss_mb": {"before": before / 2**20, "after_half": middle / 2**20, "after": after / 2**20},
        "captured": counters.captured,
        "emitted": counters.emitted,
        "shed": counters.shed,
    }


def _check(user: str | None = None) -> bytes:
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = (user or mint(serve.CODE, serve.KEY, 0, secrets.token_bytes(5))) + ":bench"
    return bytes(request)


def _flows_come_and_go(edge: Contender, flows: int) -> None:
    """Open flows that nobody answers, a wave at a time, and wait until they have gone."""
    for wave in range(flows // _WAVE):
        with ExitStack() as closing:
            for n in range(_WAVE):
                client = closing.enter_context(udp((f"127.0.{wave % _EDGE_HOSTS}.{1 + n % 200}", 0)))
                client.sendto(_check(), edge.public)
        while edge.counters().flows > CLIENTS:
            edge.load.burst(1)  # the load's own flows stay alive
            edge.load.drain()
            time.sleep(0.02)


def overload() -> dict[str, object]:
    """Offer more and more, with new calls among it, and count at each step what gave way.

    By the portable way: the rules are the same, and one processor cannot send more than the compiled one forwards.
    """
    with ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="sidetone-bench-"))
        limits = Limits(flows_per_source=10_000)
        edge = contenders.python(ending, folder, serve.edge, limits=limits, compiled=False)
        capacity = _capacity(edge)
        steps: list[dict[str, Any]] = []
        for step in _STEPS:
            steps.append({"offered": step, **_offer(edge, capacity * step)})
            time.sleep(1.0)
    return {"capacity_packets_per_s": capacity, "steps": {f"{step.pop('offered')}x": step for step in steps}}


def _offer(edge: Contender, rate: float) -> dict[str, Any]:
    before, started, sent, calls = edge.counters(), time.monotonic(), 0, 0
    while (elapsed := time.monotonic() - started) < _STEP_S:
        if elapsed * 50 > calls:
            with udp((LOOPBACK, 0)) as stranger:  # a new call comes from a new address
                stranger.sendto(_check(), edge.public)
            calls += 1
        if sent < elapsed * rate:
            sent += edge.load.burst(4)
        else:
            time.sleep(0.0002)
        if sent % (16 * BURST) == 0:
            edge.load.drain()
    edge.load.settle()
    after = edge.counters()
    refused = after.dropped.get("overload", 0) - before.dropped.get("overload", 0)
    forwarded = after.forwarded_up + after.forwarded_down - before.forwarded_up - before.forwarded_down
    captured = after.captured - before.captured
    shed = sum(after.shed.get("packet", {}).values()) - sum(before.shed.get("packet", {}).values())
    return {
        "offered_packets_per_s": sent / _STEP_S,
        "calls_refused": refused / max(1, calls),
        "telemetry_shed": shed / max(1, captured),
        "voice_lost": max(0.0, 1 - forwarded / max(1, sent)),
        "dropped_by_kernel": after.overflowed - before.overflowed,
    }
