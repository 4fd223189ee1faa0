"""The edge's facts beside tshark's own reading of the same packets on loopback, during calls on bad networks."""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relay.caller import EVERYDAY, FleetConfig, run_fleet
from relay.encap import DOWN_BYTES
from sidetone.settings import Settings
from tests.integration.role_tools import packets, ready, role
from tests.integration.stack_tools import settings_in
from voice.netem import PROFILES

CLOCK_RATE = 48_000
RTCP_TYPES = range(64, 96)  # RFC 5761, section 4: RTCP read as RTP
RTP_BYTES, RTP_VERSION = 12, 2
CALLS, SECONDS = 3, 8
STEPS_MS = 0.005
"""Six times what rounding transit times to steps of 16 us (decision 17) scatters jitter by: all there is on a quiet
loopback, where 1 % of next to nothing is less."""
LAST = b"\x7fthe last datagram of this capture"


class Packet(NamedTuple):
    """One RTP packet as tshark reads it."""

    time_s: float
    ssrc: int
    seq: int
    timestamp: int


@contextmanager
def capturing(port: int, inside: int, file: Path) -> Iterator[None]:
    """Let tshark capture what goes from and to an edge's UDP port on loopback, and to the one inside.

    Raises:
        AssertionError: it cannot; the message says what to do.

    """
    tshark = shutil.which("tshark")
    assert tshark, "tshark is not installed: make setup-test, or apt-get install tshark"
    capture = subprocess.Popen(
        [tshark, "-i", "lo", "-q", "-B", "16", "-f", f"udp port {port} or udp dst port {inside}", "-w", str(file)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert capture.stderr is not None
    said = ""
    for line in capture.stderr:
        said += line
        if line.startswith("Capturing on") or "Capture started" in line:
            break
    else:
        pytest.fail(
            f"tshark may not capture on lo: {said.strip()}\nRun the tests as root, or give it the right: "
            f"sudo setcap cap_net_raw,cap_net_admin+eip {shutil.which('dumpcap')}"
        )
    # It says so when the capture begins, which its file shows.
    while not file.exists() or not file.stat().st_size:
        assert capture.poll() is None
    try:
        yield
        # What the kernel still holds for tshark is lost when it stops: wait until it has written the last datagram.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(LAST, ("127.0.0.1", port))
        while LAST not in file.read_bytes():
            assert capture.poll() is None
            time.sleep(0.05)
    finally:
        capture.send_signal(signal.SIGINT)
        _, end = capture.communicate(timeout=60)
        assert " dropped" not in end or " 0 packets dropped" in end, end


def read(file: Path, port: int, direction: str) -> dict[int, list[Packet]]:
    """Packets by SSRC, in the order of their arrival, of one direction (`dst`: to the edge)."""
    fields = ["frame.time_epoch", "rtp.ssrc", "rtp.seq", "rtp.timestamp", "rtp.p_type"]
    done = subprocess.run(
        [
            *("tshark", "-r", str(file), "-d", f"udp.port=={port},rtp", "-Y", f"rtp && udp.{direction}port == {port}"),
            *("-T", "fields", "-E", "occurrence=f", *(word for field in fields for word in ("-e", field))),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    streams = defaultdict(list)
    for line in done.stdout.splitlines():
        time_s, ssrc, seq, timestamp, kind = line.split("\t")
        if kind and int(kind) not in RTCP_TYPES:
            streams[int(ssrc, 0)].append(Packet(float(time_s), int(ssrc, 0), int(seq), int(timestamp)))
    return dict(streams)


def read_inside(file: Path, port: int) -> dict[int, list[Packet]]:
    """The same of what transceivers sent to the edge, whose headers in front tshark does not know."""
    done = subprocess.run(
        [
            *("tshark", "-r", str(file), "-Y", f"udp.dstport == {port}"),
            *("-T", "fields", "-e", "frame.time_epoch", "-e", "udp.payload"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    streams = defaultdict(list)
    for line in done.stdout.splitlines():
        time_s, payload = line.split("\t")
        inner = bytes.fromhex(payload)[DOWN_BYTES[0] :]
        if len(inner) >= RTP_BYTES and inner[0] >> 6 == RTP_VERSION and inner[1] & 0x7F not in RTCP_TYPES:
            seq, timestamp, ssrc = struct.unpack_from("!HII", inner, 2)
            streams[ssrc].append(Packet(float(time_s), ssrc, seq, timestamp))
    return dict(streams)


def judged(stream: list[Packet]) -> dict[str, float]:
    """RFC 3550's numbers, by the book and by nothing of ours."""
    highest = first = stream[0].seq
    seen: set[int] = set()
    late = duplicates = 0
    jitter, last = 0.0, None
    for packet in stream:
        ext = highest + (packet.seq - highest + 32_768) % 65_536 - 32_768
        if ext in seen:
            duplicates += 1
            continue
        seen.add(ext)
        late += ext < highest
        highest, first = max(highest, ext), min(first, ext)
        if last is not None:
            spaced = (packet.timestamp - last.timestamp + 2**31) % 2**32 - 2**31
            jitter += (abs((packet.time_s - last.time_s) * CLOCK_RATE - spaced) - jitter) / 16
        last = packet
    return {
        "packets": len(stream),
        "lost": highest - first + 1 - len(seen),
        "duplicates": duplicates,
        "reordered": late,
        "jitter_ms": jitter / CLOCK_RATE * 1e3,
    }


def stated(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The same numbers from packet facts, as the questions add them up."""
    jitter_us = 0.0
    for row in rows:
        if row["transit_delta_us"] is not None:
            jitter_us += (abs(row["transit_delta_us"]) - jitter_us) / 16
    return {
        "packets": len(rows),
        "lost": sum(row["newly_lost"] for row in rows),
        "duplicates": sum(row["duplicate"] for row in rows),
        "reordered": sum(row["reordered"] for row in rows),
        "jitter_ms": jitter_us / 1e3,
    }


async def called(settings: Settings, region: str, network: str) -> None:
    url = f"http://{settings.signalling_host}:{settings.signalling_port}"
    config = FleetConfig(url, CALLS, [(region, network)], seconds=SECONDS, scripts=EVERYDAY)
    report = await run_fleet(config)
    assert not any(one.error for one in report.calls), report


@pytest.mark.parametrize("network", ["hotel-wifi", "lte-edge"])
async def test_facts_equal_what_tshark_sees(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = PROFILES[network]
    worse = replace(plain.up, reorder=0.02, reorder_ms=45.0, duplicate=0.02)  # so that every call shows some of each
    monkeypatch.setitem(PROFILES, network, replace(plain, up=worse))
    settings = settings_in(tmp_path)
    edge = settings.edges[0]
    settings.ufrag_key_bytes()
    file = tmp_path / "capture.pcapng"
    with ExitStack() as roles:
        transceiver = roles.enter_context(role(settings, "transceiver"))
        process = roles.enter_context(role(settings, "edge", edge.name))
        await ready(settings, transceiver, process)
        with capturing(edge.port, edge.internal_port, file):
            await called(settings, edge.region, network)
            roles.close()  # for a moment the transceiver still speaks to callers that are gone; that is captured too
    facts = await packets(settings.log_file)
    seen = {"edge_up": read(file, edge.port, "dst"), "edge_down": read_inside(file, edge.internal_port)}
    # Downwards the facts are of what came to the edge. It left in the same order.
    left = read(file, edge.port, "src")
    assert {ssrc: [packet.seq for packet in stream] for ssrc, stream in left.items()} == {
        ssrc: [packet.seq for packet in stream] for ssrc, stream in seen["edge_down"].items()
    }
    for tap, streams in seen.items():
        rows = defaultdict(list)
        for row in facts[tap]:
            rows[row["stream"]].append(row)
        assert set(rows) == set(streams)
        assert len(streams) == CALLS
        for ssrc, stream in streams.items():
            theirs, ours = judged(stream), stated(rows[ssrc])
            print(f"\n{network} {tap} {ssrc:08x}: tshark {theirs}; facts {ours}")  # noqa: T201 - shown by -s
            theirs_ms, ours_ms = theirs.pop("jitter_ms"), ours.pop("jitter_ms")
            assert ours == theirs
            assert ours_ms == pytest.approx(theirs_ms, rel=0.01, abs=STEPS_MS)
    for what in ("newly_lost", "duplicate", "reordered"):
        assert sum(row[what] for row in facts["edge_up"]) > 0, f"nothing was {what}: this showed nothing"
