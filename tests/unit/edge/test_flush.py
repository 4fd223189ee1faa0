from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import pytest

from eventlog.resolution import coarse_us
from eventlog.schema import NO_SESSION, FactType
from relay.edge import EdgeConfig, Limits, Sampling
from relay.edge.capture import EDGE_DOWN, EDGE_UP, Capture, LegRow
from relay.edge.flows import Flow
from relay.edge.flush import Flusher
from relay.edge.owners import Owners
from relay.edge.wire.build import build

MS = 1_000_000
WAYS: Final = [False] if build() is None else [True, False]  # compiled where there is a C compiler, and portable
Rtp = Callable[..., bytes]


class Sink:
    """Keeps facts as rows, unless it cannot take those of one type (`broken`)."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.given_up: Counter[tuple[str, str]] = Counter()
        self.broken: str | None = None

    def shed(self, fact: FactType, reason: str, rows: int) -> None:
        self.given_up[fact.name, reason] += rows

    def add_columns(self, fact: FactType, columns: Mapping[str, Any], rows: int) -> None:
        if fact.name == self.broken:
            raise MemoryError(fact.name)
        given = {
            name: [values] * rows if isinstance(values, str) else values.to_pylist() for name, values in columns.items()
        }
        assert set(given) | {"host_id", "remote_region"} | fact.defaults.keys() >= set(fact.schema.names)
        self.rows += [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]


@dataclasses.dataclass
class Path:
    """Capture to sink."""

    config: EdgeConfig

    def __post_init__(self) -> None:
        self.sink = Sink()
        self.owners = Owners()
        self.capture = Capture(self.config.limits.rows)
        self.flusher = Flusher(self.config, self.capture, self.owners, self.sink)

    def flow(self, session: bytes | None, level_id: int = 0) -> Flow:
        made = Flow(("192.0.2.1", 1), b"", ("10.0.0.1", 1), 0, self.owners.new(session, level_id))
        made.session = session
        return made

    def flush(self, now_ns: int = 0, *, last: bool = False) -> list[dict[str, Any]]:
        self.sink.rows.clear()
        for _ in self.flusher.flush(now_ns, last=last):
            pass
        return list(self.sink.rows)


@pytest.fixture
def path(config: EdgeConfig) -> Path:
    return Path(config)


def test_streams_are_told_apart_by_session_tap_and_ssrc(path: Path, rtp: Rtp) -> None:
    one, two = path.flow(b"1" * 16), path.flow(b"2" * 16)
    for n in range(0, 9, 2):
        for who, tap, ssrc in ((one, EDGE_UP, 7), (two, EDGE_UP, 7), (one, EDGE_DOWN, 7), (one, EDGE_UP, 8)):
            path.capture.packet(who, tap, rtp(n, ssrc=ssrc), n * 20 * MS, -1)
    rows = path.flush()
    assert len(rows) == 20
    for key in {(row["session_id"], row["tap"], row["stream"]) for row in rows}:
        mine = [row for row in rows if (row["session_id"], row["tap"], row["stream"]) == key]
        assert [row["ext_seq"] for row in mine] == [0, 2, 4, 6, 8]
        assert [row["newly_lost"] for row in mine] == [0, 1, 1, 1, 1]
        assert [row["transit_delta_us"] for row in mine] == [None, 0, 0, 0, 0]
        assert [row["dscp"] for row in mine] == [None] * 5


def test_state_goes_on_from_flush_to_flush(path: Path, rtp: Rtp) -> None:
    one = path.flow(b"1" * 16)
    path.capture.packet(one, EDGE_UP, rtp(1), 0, 0)
    path.flush()
    path.capture.packet(one, EDGE_UP, rtp(4), 61 * MS, 0)
    (row,) = path.flush()
    assert (row["newly_lost"], row["transit_delta_us"]) == (2, coarse_us(1000))


def test_a_packet_that_comes_after_all_takes_back_no_count(path: Path, rtp: Rtp) -> None:
    """Counters that fall are read as a restart by whoever reads them."""
    one = path.flow(b"1" * 16)
    counted = []
    for n, seq in enumerate((1, 4, 2, 3)):
        path.capture.packet(one, EDGE_UP, rtp(seq), n * MS, 0)
        path.flush()
        counted.append((path.flusher.lost, path.flusher.found))
    assert counted == [(0, 0), (2, 0), (2, 1), (2, 2)]


def test_rows_shed_by_the_edge_are_not_reported_as_lost_by_the_network(config: EdgeConfig, rtp: Rtp) -> None:
    path = Path(dataclasses.replace(config, limits=Limits(rows=3)))
    one = path.flow(b"1" * 16)
    for n in range(10):
        path.capture.packet(one, EDGE_UP, rtp(n), n * 20 * MS, 0)
    assert [row["ext_seq"] for row in path.flush()] == [0, 1, 2]
    for n in range(10, 12):
        path.capture.packet(one, EDGE_UP, rtp(n), n * 20 * MS, 0)
    assert [(row["ext_seq"], row["newly_lost"]) for row in path.flush()] == [(10, 0), (11, 0)]
    assert path.sink.given_up == {("packet", "full"): 7}


def test_rows_wait_for_their_session_but_not_for_ever(path: Path, rtp: Rtp) -> None:
    early, never = path.flow(None), path.flow(None)
    for n in range(3):
        path.capture.packet(early, EDGE_UP, rtp(n), n, 0)
        path.capture.packet(never, EDGE_UP, rtp(n), n, 0)
    assert path.flush(100 * MS) == []
    path.owners.tell(early.owner, b"1" * 16, 0)
    assert [row["ext_seq"] for row in path.flush(200 * MS)] == [0, 1, 2]
    assert path.flush(3_000 * MS) == []
    assert path.sink.given_up == {("packet", "no_session"): 3}


def test_the_last_flush_leaves_nothing_waiting(path: Path, rtp: Rtp) -> None:
    path.capture.packet(path.flow(None), EDGE_UP, rtp(1), 0, 0)
    path.capture.leg(LegRow(path.flow(None), "client_edge", 0, 5))
    assert path.flush(0, last=True) == []
    assert path.sink.given_up == {("packet", "no_session"): 1, ("leg", "no_session"): 1}


def test_an_idle_stream_is_forgotten(path: Path, rtp: Rtp) -> None:
    one = path.flow(b"1" * 16)
    path.capture.packet(one, EDGE_UP, rtp(1), 0, 0)
    path.flush(0)
    path.flush(61_000 * MS)
    path.capture.packet(one, EDGE_UP, rtp(9), 62_000 * MS, 0)
    assert [row["newly_lost"] for row in path.flush(62_000 * MS)] == [0]


def test_round_trips_become_legs(path: Path) -> None:
    path.capture.leg(LegRow(b"1" * 16, "client_edge", 5 * MS, 30_500_999))
    (row,) = path.flush()
    assert (row["leg"], row["method"], row["rtt_us"], row["session_id"]) == ("client_edge", "stun", 30_500, b"1" * 16)


def test_each_session_has_its_own_audio_level_extension(path: Path) -> None:
    head = bytes.fromhex("906f00010000000200000007")
    packet = head + b"\xbe\xde\0\1" + b"\x10\x30\x20\x85"
    for level_id, session in ((1, b"1" * 16), (2, b"2" * 16), (0, b"3" * 16)):
        one = path.flow(session, level_id)
        path.capture.packet(one, EDGE_UP, packet, 0, 0)
    rows = {row["session_id"][:1]: (row["audio_level_dbov"], row["voice_activity"]) for row in path.flush()}
    assert rows == {b"1": (-0x30, False), b"2": (-5, True), b"3": (None, None)}


def test_thinned_packets_are_counted_and_represented(config: EdgeConfig, rtp: Rtp) -> None:
    path = Path(dataclasses.replace(config, sampling=Sampling("sampled", 10, 1.0, 1.0, hold_s=1.0)))
    one = path.flow(b"1" * 16)
    for n in range(500):
        path.capture.packet(one, EDGE_UP, rtp(n if n < 250 else n + 2), n * 20 * MS, 0)
    rows = path.flush(10_000 * MS)
    assert path.flusher.waiting == 50  # of the last second
    rows += path.flush(10_000 * MS, last=True)
    assert sum(row["represents"] for row in rows) == 500
    assert [row["newly_lost"] for row in rows if row["newly_lost"]] == [2]
    assert len(rows) + path.flusher.thinned == 500
    # Whole: a second after the stream's first packet, and one before and after the loss.
    near = [row for row in rows if row["represents"] == 1]
    assert len(near) == 51 + 101
    assert path.sink.given_up == {}


def told(path: Path) -> int:
    """Packets of which the books say what became of them."""
    flusher = path.flusher
    shed = sum(path.capture.shed["packet"].values())
    return flusher.emitted["packet"] + flusher.thinned + shed + flusher.waiting + path.capture.waiting


@pytest.mark.parametrize("compiled", WAYS)
@pytest.mark.parametrize("policy", ["full", "sampled"])
def test_rows_that_a_failed_flush_had_in_hand_are_counted(
    config: EdgeConfig, rtp: Rtp, policy: Literal["full", "sampled"], *, compiled: bool
) -> None:
    thin = Sampling(policy, 10, 1.0, 1.0, hold_s=1.0)
    path = Path(dataclasses.replace(config, sampling=thin, compiled=compiled))
    one, nobody, many = path.flow(b"1" * 16), path.flow(None), path.flow(b"2" * 16)
    for n in range(20):
        path.capture.packet(many, EDGE_UP, rtp(1, ssrc=n), n, 0)  # more streams than a session may have at a tap
        path.capture.packet(nobody, EDGE_UP, rtp(n), 9_000 * MS, 0)
    for n in range(500):
        path.capture.packet(one, EDGE_UP, rtp(n), n * 20 * MS, 0)
    path.capture.leg(LegRow(b"1" * 16, "client_edge", 0, 5))
    path.sink.broken = "packet"
    with pytest.raises(MemoryError):
        path.flush(10_000 * MS)
    assert told(path) == path.capture.captured == 540
    assert path.capture.shed["packet"]["streams"] == 12
    assert path.capture.shed["leg"] == {"error": 1}
    assert path.sink.given_up["packet", "error"] == path.capture.shed["packet"]["error"] > 0
    assert path.flusher.waiting == 20 + (50 if policy == "sampled" else 0)  # are not lost
    path.sink.broken = None
    path.capture.packet(one, EDGE_UP, rtp(600), 12_000 * MS, 0)
    rows = path.flush(20_000 * MS)
    # What we lost ourselves is not reported as lost by the network.
    assert [row["newly_lost"] for row in rows if row["ext_seq"] == 600] == [0]
    assert told(path) == path.capture.captured == 541


@pytest.mark.parametrize("broken", ["packet", "leg"])
def test_a_last_flush_that_fails_leaves_nothing_uncounted(config: EdgeConfig, rtp: Rtp, broken: str) -> None:
    path = Path(dataclasses.replace(config, sampling=Sampling("sampled")))
    for n in range(100):
        path.capture.packet(path.flow(None if n % 2 else b"1" * 16), EDGE_UP, rtp(n), n * 20 * MS, 0)
    path.capture.leg(LegRow(b"1" * 16, "client_edge", 0, 5))
    path.flush(2_000 * MS)
    path.capture.leg(LegRow(b"1" * 16, "client_edge", 0, 5))
    path.sink.broken = broken
    with pytest.raises(MemoryError):
        path.flush(2_000 * MS, last=True)
    assert path.flusher.waiting == 0
    assert told(path) == path.capture.captured == 100
    assert path.sink.given_up["leg", "error"] == 1
    assert sum(rows for (fact, _), rows in path.sink.given_up.items() if fact == "packet") == (
        100 - path.flusher.emitted["packet"] - path.flusher.thinned
    )


@pytest.mark.parametrize("compiled", WAYS)
def test_owners_that_retired_before_a_failed_flush_are_let_go_of_by_the_next(
    config: EdgeConfig, rtp: Rtp, *, compiled: bool
) -> None:
    path = Path(dataclasses.replace(config, compiled=compiled))
    one = path.flow(b"1" * 16)
    path.capture.packet(one, EDGE_UP, rtp(1), 0, 0)
    path.owners.retire(one.owner)
    path.sink.broken = "packet"
    with pytest.raises(MemoryError):
        path.flush()
    assert path.owners.knows(b"1" * 16)
    path.sink.broken = None
    path.flush()
    assert not path.owners.knows(b"1" * 16)


def test_a_probe_is_a_leg_of_no_call(path: Path) -> None:
    path.capture.leg(LegRow(NO_SESSION, "edge_transceiver", 5, 2_000_000, "probe", "us-east"))
    (row,) = path.flush()
    assert (row["session_id"], row["method"], row["rtt_us"], row["remote_region"]) == (
        NO_SESSION,
        "probe",
        2_000,
        "us-east",
    )
