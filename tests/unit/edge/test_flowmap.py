from __future__ import annotations

import os
import socket
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.edge.flowmap import FlowMap, FlowMapError, decode, encode, record
from relay.edge.flows import Flow
from tests.integration.edge_tools import wait_for

KEY, OTHER = bytes(32), bytes(range(32))
IDLE_NS = 30_000_000_000
MAPPED = st.binary(min_size=4, max_size=4).map(lambda v4: bytes(10) + b"\xff\xff" + v4)  # clients of a socket of both
V6 = (MAPPED | st.binary(min_size=16, max_size=16)).map(lambda packed: socket.inet_ntop(socket.AF_INET6, packed))
HOSTS = st.ip_addresses(v=4).map(str) | V6
ADDRESSES = st.tuples(HOSTS, st.integers(0, 65535))


@given(
    ADDRESSES,
    ADDRESSES,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 14),
    st.one_of(st.none(), st.just("A" * 19)),
)
def test_what_is_kept_comes_back(
    client: tuple[str, int], transceiver: tuple[str, int], session: bytes, level_id: int, ufrag: str | None
) -> None:
    flow = Flow(client, b"", transceiver, 0)
    flow.session, flow.audio_level_id, flow.ufrag, flow.answered = session, level_id, ufrag, True
    made = record(flow)
    assert made is not None
    assert decode(encode([made], 5, KEY), [OTHER, KEY]) == (5, [(client, transceiver, session, level_id, ufrag)])


def test_only_answered_flows_of_a_known_session_are_kept() -> None:
    flow = Flow(("192.0.2.1", 1), b"", ("10.0.0.1", 1), 0)
    assert record(flow) is None
    flow.answered = True
    assert record(flow) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FlowMapError):
        decode(data, [KEY])


@given(st.integers(0, 8 * (16 + 16) - 1))
def test_whatever_is_changed_is_noticed(bit: int) -> None:
    data = bytearray(encode([], 5, KEY))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FlowMapError):
        decode(bytes(data), [KEY])
    with pytest.raises(FlowMapError, match="MAC"):
        decode(encode([], 5, KEY), [OTHER])


def flows(number: int) -> list[Flow]:
    made = [Flow(("192.0.2.1", port), b"", ("10.0.0.1", 1), 0) for port in range(number)]
    for flow in made:
        flow.session, flow.answered = bytes(16), True
    return made


def save(kept: FlowMap, number: int, now_ns: int) -> None:
    for _ in kept.save(flows(number), now_ns):
        pass


def test_a_disk_that_hangs_fills_no_memory_and_gets_the_last_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "edge"
    os.mkfifo(path.with_suffix(".new"))  # whoever opens it to write waits for a reader
    kept = FlowMap(path, [KEY], IDLE_NS)
    save(kept, 1000, 1)
    tracemalloc.start()
    try:
        for now_ns in range(2, 60):
            save(kept, 1000, now_ns)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    with path.with_suffix(".new").open("rb") as reader:
        assert reader.read(8) == b"flowmap1"
        while reader.read(1 << 16):
            pass
    kept.close()
    assert grown < 5 * 1000 * 73
    saved_ns, entries = decode(path.read_bytes(), [KEY])
    assert (saved_ns, len(entries)) == (59, 1000)


def test_what_goes_wrong_with_the_disk_is_told_once(tmp_path: Path) -> None:
    blocked = tmp_path / "flows"
    blocked.write_text("no folder")
    with capture_logs() as logs:
        kept = FlowMap(blocked / "edge", [KEY], IDLE_NS)
        for now_ns in range(3):
            save(kept, 1, now_ns)
            wait_for(lambda: kept._to_write is None, "it is taken")
        kept.close()
    assert [entry["event"] for entry in logs] == ["flow map not written"]


def test_maps_of_workers_that_there_are_no_more_are_removed_once_they_are_outdated(tmp_path: Path) -> None:
    now_ns = time.time_ns()
    aged = dict.fromkeys(("edge+1", "edge+2", "edge+2.new", "edge+10", "edge-b+2", "edge+x2"), now_ns - 2 * IDLE_NS)
    aged["edge+3"] = now_ns - IDLE_NS // 2  # the next start, of any number of workers, may still want it
    for name, at_ns in aged.items():
        (tmp_path / name).write_bytes(encode([], at_ns, KEY))
        os.utime(tmp_path / name, ns=(at_ns, at_ns))
    for worker in (1, 0):
        kept = FlowMap(tmp_path / "edge", [KEY], IDLE_NS, worker, workers=2)
        save(kept, 1, now_ns)
        kept.close()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"edge", "edge+1", "edge+3", "edge-b+2", "edge+x2"}
