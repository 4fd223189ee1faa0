"""The kernel's sharing of clients among an edge's workers, on real sockets."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from relay.edge.flowmap import FlowMap, encode, record
from relay.edge.flows import Flow
from relay.edge.workers import Sockets, open_sockets, worker_of
from relay.encap import down_header
from relay.keep import Keep, write_keep
from relay.probe import PONG
from tests.integration.edge_tools import PATIENCE_S, Address

KEY = bytes(32)
SESSION = bytes(16)
V4, V6 = "127.0.0.1", "::1"
CLIENTS = 60


@contextmanager
def workers(count: int, public: str = V4, internal: str = V4) -> Iterator[list[Sockets]]:
    with ExitStack() as opened:
        made = open_sockets((public, 0), (internal, 0), count)
        for pair in made:
            for one in pair:
                opened.enter_context(one)
                one.settimeout(PATIENCE_S)
        yield made


def send(data: bytes, to: Address) -> Address:
    """Send from a fresh socket; return its address."""
    with socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((V6 if ":" in to[0] else V4, 0))
        sender.sendto(data, to)
        address: Address = sender.getsockname()[:2]
        return address


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize(("public", "target"), [(V4, V4), (V6, V6), ("::", V4)])
def test_clients_are_spread_and_stay_where_they_are_counted(count: int, public: str, target: str) -> None:
    with workers(count, public) as sockets:
        port = sockets[0].public.getsockname()[1]
        used: Counter[int] = Counter()
        while len(used) < count or used.total() < CLIENTS:
            client = send(f"{used}".encode(), (target, port))
            worker = worker_of(*client, count)
            assert sockets[worker].public.recv(1000) == f"{used}".encode()
            used[worker] += 1


@pytest.mark.parametrize("count", [2, 5])
def test_both_directions_of_a_client_meet(count: int) -> None:
    """Headers of either kind and requests to keep packets go where the client's own datagrams go."""
    clients = [(f"192.0.2.{n}", 40_000 + 7 * n) for n in range(20)] + [(f"2001:db8::{n:x}", 5_000) for n in range(20)]
    with workers(count) as sockets:
        to = sockets[0].internal.getsockname()
        for client in clients:
            worker = sockets[worker_of(*client, count)].internal
            said = down_header(*client, SESSION, KEY, 3) + b"voice"
            send(said, to)
            assert worker.recv(100) == said
            keep = write_keep(Keep(SESSION, 1, 2, 3), KEY, client)
            send(keep, to)
            assert worker.recv(100) == keep


@pytest.mark.parametrize("data", [b"", b"\0", b"\x5f", b"\x5f\0\1", bytes((PONG,)) * 19, b"\x5e" * 40])
def test_what_names_no_client_goes_to_the_first(data: bytes) -> None:
    with workers(4) as sockets:
        send(data, sockets[0].internal.getsockname())
        assert sockets[0].internal.recv(100) == data


def test_a_mapped_client_is_the_same_client() -> None:
    assert worker_of("::ffff:192.0.2.7", 4711, 8) == worker_of("192.0.2.7", 4711, 8)


@pytest.mark.parametrize("shares", [True, False])
def test_ports_in_use_are_not_joined(*, shares: bool) -> None:
    """Two edges of one name must not silently take each other's calls."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        other.bind((V4, 0))
        with pytest.raises(OSError, match=rf"port {other.getsockname()[1]}"):
            open_sockets(other.getsockname(), (V4, 0), 2)
        with pytest.raises(OSError, match=rf"port {other.getsockname()[1]}"):
            open_sockets((V4, 0), other.getsockname(), 2)


def test_a_program_outlives_its_workers() -> None:
    """Whoever holds the sockets keeps the places; a worker's copy that goes changes nothing."""
    with workers(2) as sockets:
        to = sockets[0].public.getsockname()
        for _ in range(20):
            sockets[0].public.dup().close()
            client = send(b"x", to)
            assert sockets[worker_of(*client, 2)].public.recv(10) == b"x"


def test_workers_read_the_maps_of_as_many_as_there_were(tmp_path: Path) -> None:
    def kept(port: int, transceiver_port: int) -> bytes:
        flow = Flow(("192.0.2.1", port), b"", ("10.0.0.1", transceiver_port), 0)
        flow.session, flow.answered = SESSION, True
        made = record(flow)
        assert made is not None
        return made

    path = tmp_path / "north-1"
    path.write_bytes(encode([kept(1, 10)], 100, KEY))
    (tmp_path / "north-1+1").write_bytes(encode([kept(1, 11), kept(2, 11)], 200, KEY))
    (tmp_path / "north-1+2").write_bytes(encode([kept(3, 12)], 50, KEY))
    (tmp_path / "north-1+3.new").write_bytes(b"half of")
    (tmp_path / "north-10").write_bytes(encode([kept(4, 13)], 200, KEY))
    for worker in range(2):
        flow_map = FlowMap(path, [KEY], 40, worker, workers=2)
        found = {entry.client[1]: entry.transceiver[1] for entry in flow_map.load(100)}
        flow_map.close()
        assert found == {1: 11, 2: 11}
