"""Questions asked of a real store, on facts made by hand whose answers were worked out by hand."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from analytics import BadParameterError, StoreUnavailableError, UnknownQuestionError, connect, questions, run
from analytics.api import create_app
from eventlog.schema import FACTS
from sidetone.cli import app
from tests.integration.hand_made_calls import ERRORS, Calls, all_calls
from tests.integration.stored_calls import MS, SECOND, T0_NS, Call, Facts, running_store, writer

SPAN = {"from": T0_NS, "to": T0_NS + 3_600 * SECOND}


@pytest.fixture(scope="module")
def calls() -> Calls:
    return all_calls()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, calls: Calls) -> Iterator[tuple[str, int]]:
    with running_store(tmp_path_factory.mktemp("store")) as address:
        with contextlib.closing(writer(*address)) as client:
            calls.facts.store(client)
        yield address


@pytest.fixture(scope="module")
def client(store: tuple[str, int]) -> Iterator[Client]:
    with contextlib.closing(connect(*store)) as made:
        yield made


@pytest.fixture(scope="module")
def errors(client: Client) -> list[dict[str, Any]]:
    return run(client, "turn_errors", SPAN).records()


@pytest.mark.parametrize("name", ERRORS)
def test_errors_of_one_conversation(name: str, errors: list[dict[str, Any]], calls: Calls) -> None:
    call = calls.by_name[name]
    found = sorted(
        (row["kind"], row["turn_id"], (row["at_ns"] - call.start_ns) / MS, row["value_ms"])
        for row in errors
        if row["session_id"] == call.id
    )
    assert found == sorted(ERRORS[name])


def test_a_cut_in_tells_the_pause_and_the_silence_that_was_taken_for_the_end(
    errors: list[dict[str, Any]], calls: Calls
) -> None:
    said = {row["session_id"]: row["evidence"] for row in errors if row["kind"] == "agent_cut_user"}
    assert said[calls.by_name["agent_cut_user in a pause"].id] == (
        "the agent began in a pause of 1200 ms; the user went on 400 ms later; the turn's end was decided after 500 ms "
        "of silence"
    )
    assert said[calls.by_name["agent_cut_user after a breath"].id] == (
        "the agent began while the user was speaking, who had paused for 600 ms; the turn's end was decided after "
        "500 ms of silence"
    )
    assert said[calls.by_name["agent_cut_user while speaking"].id] == "the agent began while the user was speaking"


def test_the_command_tells_what_went_wrong_in_a_call(store: tuple[str, int], calls: Calls) -> None:
    call = calls.by_name["agent_cut_user in a pause"]
    arguments = ["session", call.id, "--store-port", str(store[1])]
    assert "in a pause of 1200 ms" in " ".join(CliRunner().invoke(app, arguments).stdout.split())
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert list(told) == ["session", "turn_errors", "session_turns", "session_waterfall"]
    listed = CliRunner().invoke(app, ["query", "turn_errors", "-p", "from=2026-03-02", *arguments[2:]]).stdout
    assert call.id in listed


def test_dead_air_is_charged_to_the_side_that_owed_the_turn(errors: list[dict[str, Any]], calls: Calls) -> None:
    sides = {row["session_id"]: row["side"] for row in errors if row["kind"] == "dead_air"}
    assert sides[calls.by_name["dead_air of the user"].id] == "user"
    assert sides[calls.by_name["missed_response by silence"].id] == "agent"


def test_overview_by_region(client: Client) -> None:
    total, eu, us = run(client, "overview", SPAN | {"total": True}).records()
    assert (total["scope"], eu["region"], us["region"]) == ("all", "eu-west", "us-east")
    assert [row["calls"] for row in (total, eu, us)] == [25, 24, 1]
    # Two turns where both were answered; a backchannel is none.
    assert us["turns"] == us["latency_n"] == 2
    assert us["latency_coverage"] == 1
    assert (us["latency_p50_ms"], us["latency_p99_ms"]) == (900, 900)
    assert us["latency_p99_low_n"]
    assert (us["uplink_packets"], us["uplink_lost"], us["uplink_duplicates"], us["uplink_reordered"]) == (5, 1, 1, 1)
    assert us["packet_loss"] == 1 / 5
    assert us["jitter_mean_ms"] == 2
    assert us["jitter_p95_ms"] == pytest.approx(2, rel=0.01)  # of 1, 2, 3 the sketch takes rank 0.95 · 2, rounded down
    assert (us["downlink_lost"], us["downlink_loss"], us["downlink_reports"]) == (4, 4 / 304, 2)
    assert us["errors"] == 0
    expected = dict.fromkeys(("agent_cut_user", "false_barge_in", "missed_barge_in", "talk_over", "abandoned"), 0)
    for found in ERRORS.values():
        for kind, *_ in found:
            expected[kind] = expected.get(kind, 0) + 1
    expected["dead_air"] -= 2  # the user's
    assert {kind: eu[kind] for kind in expected} == expected
    assert eu["errors"] == sum(expected.values())
    assert eu["errors_per_turn"] == eu["errors"] / eu["turns"]
    assert eu["downlink_loss"] is None
    assert eu["jitter_mean_ms"] == 0


def test_latency_of_each_turn(client: Client, calls: Calls) -> None:
    rows = run(client, "turns_latency", SPAN).records()

    def of(name: str) -> list[float | None]:
        return [row["response_ms"] for row in rows if row["session_id"] == calls.by_name[name].id]

    assert of("good") == [800, 900]
    assert of("agent_cut_user in a pause") == [800, 1000]
    assert of("agent_cut_user while speaking") == [-400]
    assert of("missed_response by silence") == [None]
    assert of("missed_response by words") == [800]
    assert of("backchannel") == [600]


def test_listener_latency_adds_what_was_measured_and_is_null_otherwise(client: Client, calls: Calls) -> None:
    rows = run(client, "turns_latency", SPAN).records()
    network = [row for row in rows if row["session_id"] == calls.by_name["network"].id]
    assert [row["one_way_ms"] for row in network] == [30, 30]  # (50 + 10) / 2
    assert [row["playout_ms"] for row in network] == [50, 50]
    # up half of the least round trip, (40 + 10) / 2; down half of the median one and the codec's look-ahead
    assert [row["listener_ms"] for row in network] == [900 + 25 + 36.5 + 50, 400 + 25 + 36.5 + 50]
    good = [row for row in rows if row["session_id"] == calls.by_name["good"].id]
    assert [(row["one_way_ms"], row["listener_ms"]) for row in good] == [(None, None), (None, None)]


def test_what_the_client_heard_goes_before_the_estimate(client: Client, calls: Calls) -> None:
    rows = run(client, "listener_latency", SPAN).records()
    told, cut = [row for row in rows if row["session_id"] == calls.by_name["client truth"].id]
    # Its clock is 5 s behind: spoken until 1960 of ours, heard from 2890.
    assert (told["listener_ms"], told["method"], told["heard_ms"], told["estimate_ms"]) == (930, "client", 930, None)
    assert (told["uplink_ms"], told["response_ms"], told["downlink_ms"]) == (40, 800, 90)
    assert told["uplink_ms"] + told["response_ms"] + told["downlink_ms"] == told["heard_ms"]
    assert told["clock_error_ms"] == 30
    assert (cut["listener_ms"], cut["method"], cut["uplink_ms"], cut["downlink_ms"]) == (None, None, None, 70)
    estimated = [row for row in rows if row["session_id"] == calls.by_name["network"].id]
    assert [(row["listener_ms"], row["method"]) for row in estimated] == [(1011.5, "estimate"), (511.5, "estimate")]
    parts, cut_parts = run(client, "session_waterfall", {"session": calls.by_name["client truth"].id}).records()
    assert (parts["uplink_network_ms"], parts["downlink_network_ms"], parts["playout_ms"]) == (40, 50, 40)
    assert (parts["listener_ms"], parts["clock_error_ms"]) == (930, 30)
    assert (cut_parts["uplink_network_ms"], cut_parts["clock_error_ms"]) == (None, None)  # nothing was measured by it


def test_waterfall_parts_sum_to_the_whole_and_gaps_stay_gaps(client: Client, calls: Calls) -> None:
    whole, gaps = run(client, "session_waterfall", {"session": calls.by_name["network"].id}).records()
    inner = [
        whole[f"{part}_ms"]
        for part in ("uplink_jitter_buffer", "vad_hangover", "endpoint_wait", "request", "model_first_audio", "pacing")
    ]
    assert inner == [60, 40, 460, 10, 300, 30]
    assert sum(inner) == whole["response_ms"]
    assert whole["unmeasured_ms"] == 0
    outer = whole["uplink_network_ms"] + whole["downlink_network_ms"] + whole["playout_ms"]
    assert outer + whole["response_ms"] == whole["listener_ms"]
    assert gaps["response_ms"] == gaps["unmeasured_ms"] == 400
    assert gaps["vad_hangover_ms"] == 0  # the end of speech was known at once
    unknown = ("uplink_jitter_buffer_ms", "endpoint_wait_ms", "request_ms", "model_first_audio_ms", "pacing_ms")
    assert [gaps[name] for name in unknown] == [None] * 5


@pytest.mark.parametrize("edges_s", [(0, 1200, 3600), (0, 61, 62.5, 1019, 1020, 3600)])
def test_windows_add_up(client: Client, edges_s: tuple[float, ...]) -> None:
    additive = ("calls", "turns", "latency_n", "uplink_packets", "uplink_lost", "uplink_duplicates", "errors")

    def ask(start: float, end: float) -> list[int]:
        window = {"from": T0_NS + round(start * SECOND), "to": T0_NS + round(end * SECOND), "total": True}
        rows = run(client, "overview", window).records()
        return [rows[0][name] if rows else 0 for name in additive]

    parts = [ask(start, end) for start, end in itertools.pairwise(edges_s)]
    assert [sum(column) for column in zip(*parts, strict=True)] == ask(edges_s[0], edges_s[-1])


@pytest.mark.parametrize("slice_s", [0, 7, 60])
def test_series_sums_to_the_overview(client: Client, slice_s: int) -> None:
    rows = run(client, "overview_series", SPAN | {"slice_s": slice_s}).records()
    overview = {row["region"]: row for row in run(client, "overview", SPAN).records()}
    for region, whole in overview.items():
        slices = [row for row in rows if row["region"] == region]
        for name in ("turns", "latency_n", "uplink_packets", "uplink_lost", "errors"):
            assert sum(row[name] for row in slices) == whole[name]
        kinds = {kind: sum(row["error_kinds"].get(kind, 0) for row in slices) for kind in ("talk_over", "dead_air")}
        assert kinds == {kind: whole[kind] for kind in kinds}
        assert all(row["latency_p50_ms"] is None for row in slices if not row["latency_n"])
        assert all(row["packet_loss"] is None for row in slices if not row["uplink_packets"])


def test_loss_by_stream_is_exact(client: Client, calls: Calls) -> None:
    rows = run(client, "loss_by_stream", SPAN | {"session": calls.by_name["network"].id}).records()
    assert [(r["tap"], r["stream"], r["packets"], r["lost"], r["duplicates"], r["reordered"]) for r in rows] == [
        ("edge_down", 2, 1, 0, 0, 0),
        ("edge_up", 1, 5, 1, 1, 1),
    ]


def test_packets_one_by_one_and_put_together(client: Client, calls: Calls) -> None:
    session = calls.by_name["network"].id
    single = run(client, "session_packets", {"session": session}).records()
    assert [row["ext_seq"] for row in single if row["tap"] == "edge_up"] == [1, 2, 5, 3, 5]
    assert {row["slice_ms"] for row in single} == {0}
    assert [row["late"] for row in single if row["tap"] == "playout"] == [1]
    sliced = run(client, "session_packets", {"session": session, "points": 3, "slices": 2}).records()
    assert {row["slice_ms"] for row in sliced} == {700}
    for name in ("packets", "lost", "late", "reordered", "duplicates"):
        assert sum(row[name] for row in sliced) == sum(row[name] for row in single)


def test_ticks(client: Client) -> None:
    (row,) = run(client, "ticks").records()
    counted = (row["ticks"], row["underruns"], row["concealed"], row["discarded_late"], row["lateness_ms_max"])
    assert counted == (2, 1, 1, 1, 0.2)


def test_facts_counts_rows_that_are_stored_twice(tmp_path: Any) -> None:
    facts = Facts()
    call = Call(facts, 1)
    call.exchange(1, 1000, 2000, 2500, 3000)
    for kind in ("turn", "packet"):  # the accounts of one moment differ by type only
        account = {
            "producer": "p",
            "role": "edge",
            "captured": 7,
            "emitted": 7,
            "spooled": 0,
            "shed": [],
            "final": True,
        }
        call.add("emitter", 9000, fact_type=kind, **account)
    with running_store(tmp_path) as address, contextlib.closing(writer(*address)) as client:
        facts.store(client)
        del facts.rows["emitter"]
        call.exchange(2, 4000, 5000, 5500, 6000)  # another block, or the store would know the first one again
        facts.store(client)
        counted = {row["fact_type"]: row for row in run(client, "facts").records()}
    assert set(counted) == set(FACTS)
    assert (counted["turn"]["rows"], counted["turn"]["distinct_rows"]) == (21, 14)
    assert (counted["emitter"]["rows"], counted["emitter"]["distinct_rows"]) == (2, 2)


def test_sessions_filters(client: Client, calls: Calls) -> None:
    everyone = run(client, "sessions", SPAN).records()
    assert len(everyone) == 25
    assert everyone[0]["session_id"] == calls.by_name["network"].id
    assert [row["session_id"] for row in run(client, "sessions", SPAN | {"region": "us-east"}).records()] == [
        calls.by_name["network"].id
    ]
    troubled = {row["session_id"] for row in run(client, "sessions", SPAN | {"errors": True}).records()}
    assert troubled == {calls.by_name[name].id for name, found in ERRORS.items() if found} - {
        calls.by_name["dead_air of the user"].id
    }
    good = next(row for row in everyone if row["session_id"] == calls.by_name["good"].id)
    assert (good["duration_ms"], good["turns"], good["latency_max_ms"], good["client"]) == (9500, 2, 900, "by-hand")


def test_one_session(client: Client, calls: Calls) -> None:
    call = calls.by_name["agent_cut_user in a pause"]
    (row,) = run(client, "session", {"session": call.id}).records()
    assert (row["region"], row["turns"], row["closed_by"], row["close_reason"]) == ("eu-west", 2, "client", "hangup")
    assert row["ended_ns"] - row["began_ns"] == 8100 * MS
    assert row["attributes"] == {"client": "by-hand"}
    assert row["ice_ms"] is None
    assert run(client, "session", {"session": "019cae00-0000-7000-8000-0000000fffff"}).rows == []


def test_a_call_has_the_same_turns_by_itself_as_in_the_list(client: Client) -> None:
    listed = run(client, "sessions", SPAN).records()
    assert len(listed) > 10
    for row in listed:
        (alone,) = run(client, "session", {"session": row["session_id"]}).records()
        assert alone["turns"] == row["turns"], row["session_id"]


def test_lanes(client: Client, calls: Calls) -> None:
    call = calls.by_name["backchannel"]
    rows = run(client, "session_lanes", {"session": call.id}).records()
    lanes = [(r["who"], (r["start_ns"] - call.start_ns) / MS, (r["end_ns"] - call.start_ns) / MS) for r in rows]
    assert lanes == [("user", 1000, 2000), ("agent", 2600, 6000), ("user", 4000, 4700)]
    assert [bool(row["backchannel"]) for row in rows] == [False, False, True]


def test_every_question_answers_and_becomes_json(client: Client, calls: Calls) -> None:
    for question in questions():
        needs = {p.name: calls.by_name["network"].id for p in question.parameters if p.default is None}
        answer = run(client, question.name, needs)
        assert json.loads(json.dumps(answer.to_json(), allow_nan=False))["name"] == question.name


def test_an_empty_window_is_empty_not_zero(client: Client) -> None:
    nothing = {"from": "2020-01-01", "to": "2020-01-02"}
    assert run(client, "overview", nothing).rows == []
    assert run(client, "overview_series", nothing).rows == []
    assert run(client, "turn_errors", nothing).rows == []


def test_the_client_cannot_write(client: Client) -> None:
    with pytest.raises(DatabaseError):
        client.command("DROP TABLE sidetone.turns")


def test_errors_say_what_to_do(client: Client) -> None:
    with pytest.raises(UnknownQuestionError, match=r"ask one of: .*facts"):
        run(client, "nonsense")
    with pytest.raises(BadParameterError, match="needs session"):
        run(client, "session")
    with pytest.raises(BadParameterError, match="must lie before"):
        run(client, "overview", {"from": "now", "to": "now-1h"})
    with pytest.raises(StoreUnavailableError, match="sidetone up"):
        connect("127.0.0.1", 1)


def test_api(store: tuple[str, int]) -> None:
    with TestClient(create_app(*store)) as api:
        assert api.get("/healthz").status_code == 200
        assert api.get("/readyz").status_code == 200
        assert {q["name"] for q in api.get("/v1/questions").json()["questions"]} == {q.name for q in questions()}
        answer = api.get("/v1/questions/overview", params={"from": SPAN["from"], "to": SPAN["to"], "region": "us-east"})
        names = [column["name"] for column in answer.json()["columns"]]
        assert dict(zip(names, answer.json()["rows"][0], strict=True))["turns"] == 2
        assert api.get("/v1/questions/nonsense").status_code == 404
        refused = api.get("/v1/questions/session", params={"session": "no uuid"})
        assert refused.status_code == 400
        assert "UUID" in refused.json()["error"]
        assert 'sidetone_api_questions_total{question="overview",status="ok"} 1.0' in api.get("/metrics").text
    with TestClient(create_app("127.0.0.1", 1)) as away:
        assert away.get("/readyz").status_code == 503
        assert "no store answers at 127.0.0.1:1" in away.get("/v1/questions/overview").json()["error"]
