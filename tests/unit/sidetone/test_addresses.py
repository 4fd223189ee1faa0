import socket
import threading

import pytest

from sidetone import addresses
from sidetone.settings import SettingsError


class Names:
    """A name service that the test decides over."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.asked = threading.Semaphore(0)

    def getaddrinfo(self, host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        self.asked.release()
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        v6 = (socket.AF_INET6, socket.SOCK_DGRAM, 0, "", ("2001:db8::1", 0, 0, 0))
        return [v6, (socket.AF_INET, socket.SOCK_DGRAM, 0, "", (self.known[host], 0))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


def test_real_name_of_this_machine_is_resolved() -> None:
    assert addresses.resolve("localhost", "SIDETONE_EDGES") == "127.0.0.1"


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
def test_address_stays_as_it_is(names: Names, address: str) -> None:
    assert addresses.resolve(address, "SIDETONE_EDGES") == address
    assert names.known == {}


@pytest.mark.parametrize(
    ("written", "shown"), [("2001:DB8:0::7", "2001:db8::7"), ("::FFFF:c000:0207", "::ffff:192.0.2.7")]
)
def test_address_is_as_sockets_show_it_however_it_is_written(written: str, shown: str) -> None:
    """Roles know each other's datagrams by their source."""
    assert addresses.resolve(written, "SIDETONE_TRANSCEIVERS") == shown
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.bind(("::0:1", 0))
        assert addresses.resolve("::0:1", "SIDETONE_TRANSCEIVERS") == one.getsockname()[0]


def test_unknown_name_is_named_with_its_setting() -> None:
    with pytest.raises(SettingsError, match=r"'no-such-host.invalid' .*SIDETONE_EDGES, edge a-1"):
        addresses.resolve("no-such-host.invalid", "SIDETONE_EDGES, edge a-1", wait_s=0)


def test_name_that_becomes_known_is_waited_for(names: Names) -> None:
    def start() -> None:
        names.asked.acquire()
        names.known["edge"] = "10.0.0.5"

    starting = threading.Thread(target=start)
    starting.start()
    assert addresses.resolve_all({"a-1": ("edge", 7)}, "SIDETONE_EDGES") == {"a-1": ("10.0.0.5", 7)}
    starting.join()


Places = dict[str, tuple[str, int]]


def first_move(places: Places, known: Places) -> list[Places]:
    """Follow until something is told, and return that."""
    told: list[Places] = []
    stop = threading.Event()

    def moved(now: Places) -> None:
        told.append(now)
        stop.set()

    addresses.follow(places, known, moved, stop, every_s=0.001)
    return told


def test_one_unknown_name_does_not_keep_the_others_from_work_and_is_told_when_it_comes(names: Names) -> None:
    places = {"a": ("edge-a", 1), "b": ("edge-b", 2)}
    names.known = {"edge-a": "10.0.0.1"}
    known = addresses.resolve_all(places, "SIDETONE_EDGES", wait_s=0)
    assert known == {"a": ("10.0.0.1", 1)}
    names.known["edge-b"] = "10.0.0.2"
    told = first_move(places, known)
    assert told == [{"a": ("10.0.0.1", 1), "b": ("10.0.0.2", 2)}]


def test_moved_host_is_told_and_a_forgotten_name_keeps_its_address(names: Names) -> None:
    places = {"a": ("edge-a", 1), "b": ("edge-b", 2), "c": ("192.0.2.9", 3)}
    names.known = {"edge-a": "10.0.0.1", "edge-b": "10.0.0.2"}
    known = addresses.resolve_all(places, "SIDETONE_EDGES")
    del names.known["edge-b"]
    names.known["edge-a"] = "10.0.0.9"
    told = first_move(places, known)
    assert told == [{"a": ("10.0.0.9", 1), "b": ("10.0.0.2", 2), "c": ("192.0.2.9", 3)}]


def test_addresses_need_no_following() -> None:
    before = threading.active_count()
    addresses.follow_in_background({"a": ("192.0.2.9", 3)}, {}, lambda _: None, threading.Event())
    assert threading.active_count() == before
