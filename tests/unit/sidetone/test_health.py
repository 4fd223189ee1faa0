import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import httpx
import pytest

from relay.edge import Counters
from sidetone import edge_endpoint
from sidetone.healthcheck import check
from sidetone.serving import bind, local_url
from sidetone.spool_metrics import SpoolMetrics


@dataclass
class Edge:
    silent_s: float = 0.0

    def counters(self) -> Counters:
        return Counters(
            flows=2,
            flows_opened=3,
            flows_closed={"idle": 1},
            forwarded_up=10,
            forwarded_down=20,
            dropped={"unknown_source": 4},
            overflowed=0,
            captured=30,
            emitted={"packet": 30},
            shed={"packet": {"full": 1, "no_session": 2}},
            messages_up=4,
            waiting=5,
            calls=1,
            lost=7,
            found=6,
        )


@contextmanager
def serving(edge: Edge, token: str | None = None, *, host: str = "127.0.0.1") -> Iterator[str]:
    sock = bind(host, 0, "edge_port")
    with edge_endpoint.serving(edge, sock, token, [SpoolMetrics(Emitter())]):
        yield local_url(sock)


class Emitter:
    spools_set_aside = 3
    spools_deleted = 1


def test_edge_that_turns_is_healthy_and_one_that_does_not_is_not() -> None:
    edge = Edge()
    with serving(edge) as url:
        assert check(f"{url}/readyz") == ""
        assert check(f"{url}/healthz") == ""
        edge.silent_s = 60.0
        assert "503: the forwarding loop has not turned for 60 s" in check(f"{url}/healthz")
    assert "does not answer" in check(f"{url}/healthz")


def test_edge_asks_for_the_token_where_it_has_one_and_tells_of_damaged_spools() -> None:
    with serving(Edge(), "secret") as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
        for given in (b"", b"Bearer other", b"Bearer secret\xff"):
            refused = httpx.get(f"{url}/metrics", headers={b"Authorization": given})
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert "sidetone_edge" not in refused.text
        shown = httpx.get(f"{url}/metrics", headers={"Authorization": "Bearer secret"}).text
    assert "\nsidetone_emitter_spools_set_aside_total 3.0\n" in shown
    assert "\nsidetone_emitter_spools_deleted_total 1.0\n" in shown


def test_edge_shows_its_counters() -> None:
    with serving(Edge()) as url:
        shown = httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/").status_code == 404
    for line in (
        "sidetone_edge_flows 2.0",
        "sidetone_edge_calls 1.0",
        'sidetone_edge_forwarded_datagrams_total{direction="down"} 20.0',
        'sidetone_edge_dropped_datagrams_total{reason="unknown_source"} 4.0',
        'sidetone_edge_shed_rows_total{fact="packet",reason="no_session"} 2.0',
        "sidetone_edge_messages_up_total 4.0",
        "sidetone_edge_waiting_packets 5.0",
        "sidetone_edge_lost_packets_total 7.0",
        "sidetone_edge_found_packets_total 6.0",
    ):
        assert f"\n{line}\n" in shown


def test_clients_that_go_away_or_say_nothing_hold_no_thread_and_fill_no_log(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_endpoint, "PATIENCE_S", 0.05)
    before = set(threading.enumerate())
    with serving(Edge()) as url:
        address = (httpx.URL(url).host, httpx.URL(url).port or 0)
        for said in (b"", b"GET /metr"):
            gone = socket.create_connection(address)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
            gone.sendall(said)
            gone.close()
        with socket.create_connection(address, timeout=20) as silent:
            silent.sendall(b"GET /metr")
            assert silent.recv(100) == b"", "it is not waited for any longer"
        assert check(f"{url}/healthz") == ""
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()
    assert capfd.readouterr().err == ""


def test_who_holds_connections_open_gets_few_threads_and_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge_endpoint, "PATIENCE_S", 120.0)  # nobody is cut off for being slow
    before = set(threading.enumerate())
    most = edge_endpoint.CONNECTIONS_MAX
    with serving(Edge()) as url, ExitStack() as ending:
        address = (httpx.URL(url).host, httpx.URL(url).port or 0)
        held = [ending.enter_context(socket.create_connection(address, timeout=20)) for _ in range(3 * most)]
        for one in held:
            with suppress(ConnectionError):  # cut off meanwhile
                one.sendall(b"GET /metr")
        assert check(f"{url}/healthz") == ""
        ends = time.monotonic() + 20

        def serving_now() -> list[threading.Thread]:
            return [one for one in set(threading.enumerate()) - before if one.name != "edge-endpoint"]

        while len(serving_now()) > most:  # one that is through may not have ended yet
            assert time.monotonic() < ends
            time.sleep(0.01)
        cut_off = held[: 2 * most + 1]
        for one in cut_off:
            with suppress(ConnectionError):
                assert one.recv(100) == b""


def test_edge_refuses_more_than_it_can_serve() -> None:
    asked, answer = threading.Semaphore(0), threading.Event()

    class Slow(Edge):
        def counters(self) -> Counters:
            asked.release()
            assert answer.wait(60)
            return super().counters()

    with serving(Slow()) as url, ThreadPoolExecutor(edge_endpoint.CONNECTIONS_MAX) as scrapers:
        scrapes = []
        for _ in range(edge_endpoint.CONNECTIONS_MAX):
            scrapes.append(scrapers.submit(httpx.get, f"{url}/metrics", timeout=60))
            assert asked.acquire(timeout=20)
        refused = httpx.get(f"{url}/healthz", timeout=60)
        answer.set()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        served = [scrape for scrape in scrapes if scrape.exception() is None]
        # The oldest was cut off to make room, but was at work.
        assert [scrape.result().status_code for scrape in served] == [200] * (edge_endpoint.CONNECTIONS_MAX - 1)
        assert check(f"{url}/healthz") == ""


def test_edge_listens_on_ipv6_too() -> None:
    with serving(Edge(), host="::1") as url:
        assert url.startswith("http://[::1]:")
        assert check(f"{url}/healthz") == ""


@pytest.mark.parametrize(("path", "status"), [("/readyz", 0), ("/other", 1)])
def test_check_tells_by_its_exit_status(path: str, status: int) -> None:
    with serving(Edge()) as url:
        command = [sys.executable, "-m", "sidetone.healthcheck", f"{url}{path}"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == status
    assert ("404" in ran.stdout) is (status == 1)
    assert ran.stderr == ""
