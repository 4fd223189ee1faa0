"""Questions answered from thinned facts beside the same calls in full; and what is asked of levels and legs."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from analytics import connect, run
from eventlog.schema import NO_SESSION
from relay.edge.sampling import Columns, Sampler, Sampling
from tests.integration.stored_calls import MS, SECOND, T0_NS, Call, Facts, running_store, writer

SPAN = {"from": T0_NS, "to": T0_NS + 300 * SECOND}
SECONDS = 60
KINDS = {
    "stream": np.uint32,
    "observed_ns": np.int64,
    "transit_delta_us": np.int32,
    "newly_lost": np.int32,
    "reordered": np.bool_,
    "duplicate": np.bool_,
}


def _call(facts: Facts, number: int, region: str) -> Call:
    """One call, the same for every region: two losses and a duplicate in a minute of both taps."""
    rng = random.Random(5)
    call = Call(facts, number, region)
    for tap, stream in (("edge_up", 1), ("edge_down", 2)):
        for seq in range(SECONDS * 50):
            lost = 3 if seq in {700, 2000} and tap == "edge_up" else 0
            call.packet(
                tap,
                seq,
                20 * seq + rng.random(),
                stream=stream,
                lost=lost,
                transit_delta_us=round(rng.gauss(0, 2_000)) if seq else None,
                size_bytes=rng.randrange(60, 140),
                # The user is heard in the first ten seconds only, the agent all the time.
                audio_level_dbov=-30 if tap == "edge_down" or seq < 500 else -127,
            )
        call.packet(tap, 900, 18_010, stream=stream, duplicate=True, transit_delta_us=None, audio_level_dbov=-30)
    return call


def _columns(rows: list[dict[str, Any]]) -> Columns:
    columns: Columns = {name: np.array([row[name] or 0 for row in rows], kind) for name, kind in KINDS.items()}
    return columns | {
        "session": np.frombuffer(b"".join(row["session_id"] for row in rows), np.uint8).reshape(-1, 16),
        "tap": np.array([row["tap"] == "edge_down" for row in rows], np.int32),
        "transit_known": np.array([row["transit_delta_us"] is not None for row in rows]),
        "row": np.arange(len(rows)),
    }


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sampler = Sampler(Sampling("sampled"), 3)
    sampler.add(_columns(rows))
    return [
        rows[at] | {"represents": int(weight)}
        for kept in sampler.due(0, last=True)
        if kept is not None
        for at, weight in zip(kept["row"], kept["represents"], strict=True)
    ]


@pytest.fixture(scope="module")
def calls() -> dict[str, Call]:
    return {region: _call(Facts(), number, region) for number, region in enumerate(("full", "thin"), 1)}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, calls: dict[str, Call]) -> Iterator[Client]:
    facts = Facts()
    thin = _thinned(calls["thin"].facts.rows["packet"])
    assert len(thin) < 0.5 * len(calls["full"].facts.rows["packet"])
    facts.rows["packet"] = calls["full"].facts.rows["packet"] + thin
    call = replace(calls["full"], facts=facts)
    call.add("leg", 0, leg="client_edge", method="stun", rtt_us=30_000)
    call.add("leg", 1000, leg="client_edge", method="stun", rtt_us=50_000)
    call.add("leg", 2000, leg="edge_transceiver", method="stun", rtt_us=4_000)
    probe = facts.rows["leg"][-1] | {"session_id": NO_SESSION, "method": "probe", "rtt_us": 3_000}
    facts.rows["leg"].append(probe | {"remote_region": "us-east"})
    with running_store(tmp_path_factory.mktemp("store")) as address:
        with contextlib.closing(writer(*address)) as client:
            facts.store(client)
        with contextlib.closing(connect(*address)) as client:
            yield client


def test_counts_are_the_same_and_the_thinning_is_told(client: Client) -> None:
    full, thin = run(client, "overview", SPAN).records()
    for name in ("uplink_packets", "uplink_lost", "uplink_duplicates", "uplink_reordered", "packet_loss"):
        assert full[name] == thin[name], name
    assert full["uplink_packets"] == full["uplink_kept"] == SECONDS * 50 + 1
    assert thin["uplink_kept"] < 0.5 * thin["uplink_packets"]


def test_estimates_are_near(client: Client) -> None:
    full, thin = run(client, "overview", SPAN).records()
    # Half of the packets or more away from bad moments, 1 in 10 of them known: some 200 independent choices.
    assert thin["jitter_mean_ms"] == pytest.approx(full["jitter_mean_ms"], rel=0.2)
    assert thin["jitter_p95_ms"] == pytest.approx(full["jitter_p95_ms"], rel=0.3)


def test_every_second_of_every_stream_has_its_packets(client: Client) -> None:
    for start in range(0, SECONDS, 7):
        window = {"from": T0_NS + start * SECOND, "to": T0_NS + (start + 1) * SECOND}
        rows = run(client, "loss_by_stream", window).records()
        by_region = {
            region: [(r["tap"], r["packets"], r["lost"], r["duplicates"]) for r in rows if r["region"] == region]
            for region in ("full", "thin")
        }
        assert by_region["full"] == by_region["thin"]


def test_series_and_session_count_what_rows_stand_for(client: Client, calls: dict[str, Call]) -> None:
    slices = run(client, "overview_series", SPAN | {"slice_s": 20}).records()
    for full, thin in itertools.pairwise(slices):
        if full["region"] == "full":
            assert (full["uplink_packets"], full["uplink_lost"]) == (thin["uplink_packets"], thin["uplink_lost"])
    session = calls["thin"].id
    for asked in ({"session": session}, {"session": session, "points": 3}):
        rows = run(client, "session_packets", asked).records()
        assert sum(row["packets"] for row in rows) == 2 * (SECONDS * 50 + 1)
        assert sum(row["lost"] for row in rows) == 6
    (row,) = run(client, "session", {"session": session}).records()
    assert row["packets"] == 2 * (SECONDS * 50 + 1) > row["packets_kept"]


@pytest.mark.parametrize("region", ["full", "thin"])
def test_a_microphone_that_falls_silent_is_seen(client: Client, region: str) -> None:
    agent, user = run(client, "silence", SPAN | {"region": region}).records()
    assert (agent["side"], agent["one_way"], agent["longest_s"], agent["longest_from_ns"]) == ("agent", False, 0, None)
    assert agent["silent_share"] == 0
    assert (user["side"], user["one_way"]) == ("user", True)
    # To the second 18, in which the duplicate of a voiced packet comes: 10 … 17, then 19 … 59.
    assert (user["longest_s"], (user["longest_from_ns"] - T0_NS) // SECOND) == (41, 19)
    assert (user["longest_loudest_dbov"], user["loudest_dbov"]) == (-127, -30)
    assert user["levels"] == SECONDS * 50 + 1
    assert user["silent_share"] == pytest.approx(2500 / 3001)
    assert run(client, "silence", SPAN | {"one_way": True, "silent_s": 42}).rows == []


def test_legs_by_how_they_were_measured(client: Client, calls: dict[str, Call]) -> None:
    rows = run(client, "legs", SPAN).records()
    assert [(r["leg"], r["method"], r["samples"], r["calls"], r["rtt_p50_ms"], r["remote_region"]) for r in rows] == [
        ("edge_transceiver", "probe", 1, 0, 3, "us-east"),
        ("edge_transceiver", "stun", 1, 1, 4, None),
        ("client_edge", "stun", 2, 1, 50, None),
    ]
    assert rows[2]["newest_ns"] == T0_NS + 1000 * MS
    assert len(run(client, "legs", SPAN | {"session": calls["full"].id}).rows) == 2
