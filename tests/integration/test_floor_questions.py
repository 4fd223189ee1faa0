"""What the floor machine writes down, asked back from a real store: answers in advance, and an agent that goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from analytics import connect, run
from tests.integration.stored_calls import SECOND, T0_NS, Call, Facts, running_store, writer
from tests.unit.voice.floor_scene import FRAME_MS, MS, Scene
from voice.floor import FloorConfig, ModelKind
from voice.turns import FloorOutput, RequestResponse, TurnEvent

SPAN = {"from": T0_NS, "to": T0_NS + 3_600 * SECOND}
THINK_MS = 350


class Stage:
    """A floor, a model that thinks for `THINK_MS`, and the facts of what they do; the clock begins with the call."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.scene = Scene(FloorConfig(speculate_ms=200.0))
        self._due_ms: int | None = None

    def user(self, ms: int, *, speech: bool) -> None:
        for _ in range(ms // FRAME_MS):
            self.does(lambda: self.scene.user(FRAME_MS, speech=speech))
            if self._due_ms is not None and self.scene.now_ms >= self._due_ms:
                self._due_ms = None
                self.model("model_first_audio")

    def model(self, kind: ModelKind) -> None:
        self.does(lambda: self.scene.floor.model_event(self.scene.now_ms * MS, kind))

    def does(self, what: Callable[[], list[FloorOutput]]) -> None:
        for output in what():
            if isinstance(output, TurnEvent):
                self._write(output)
            elif isinstance(output, RequestResponse):
                self._due_ms = self.scene.now_ms + THINK_MS
                self.model("response_requested")

    def _write(self, event: TurnEvent) -> None:
        self.call.turn(
            event.turn_id,
            event.kind,
            event.at_ns / MS,
            seen_ms=self.scene.now_ms,
            actor=event.actor,
            reason=event.reason,
            detector=event.detector,
            silence_ms=event.silence_ms,
        )


def _conversation(call: Call) -> None:
    stage = Stage(call)
    stage.user(1_000, speech=False)
    stage.user(1_000, speech=True)
    stage.user(400, speech=False)  # an answer is asked for in advance and called off
    stage.user(600, speech=True)
    stage.user(600, speech=False)  # another one, decided after 500 ms; its first audio comes after 550
    stage.does(stage.scene.agent_starts)
    stage.user(1_500, speech=False)
    stage.user(400, speech=True)
    stage.does(lambda: stage.scene.agent_stops("yielded"))
    stage.user(600, speech=False)
    stage.does(stage.scene.agent_starts)
    stage.user(2_000, speech=False)
    stage.does(stage.scene.agent_stops)
    call.step("closed", stage.scene.now_ms + 500, "hangup", who="client")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    call = Call(Facts(), 1)
    call.step("offered", 0, client="floor")
    _conversation(call)
    with running_store(tmp_path_factory.mktemp("store")) as address:
        with contextlib.closing(writer(*address)) as made:
            call.facts.store(made)
        with contextlib.closing(connect(*address)) as made:
            yield made


def test_a_latency_is_that_of_the_answer_that_was_heard(client: Client) -> None:
    (turn,) = run(client, "turns_latency", SPAN).records()
    assert turn["response_ms"] == 600.0


def test_what_was_asked_in_advance_is_waited_for_from_the_decision_on(client: Client) -> None:
    (parts,) = run(client, "session_waterfall", {"session": Call(Facts(), 1).id}).records()
    shown: dict[str, Any] = {
        name: parts[name]
        for name in ("endpoint_wait_ms", "request_ms", "model_first_audio_ms", "pacing_ms", "unmeasured_ms")
    }
    assert shown == {
        "endpoint_wait_ms": 300.0,
        "request_ms": 0.0,
        "model_first_audio_ms": 60.0,
        "pacing_ms": 40.0,
        "unmeasured_ms": 0.0,
    }
    assert parts["vad_hangover_ms"] == 200.0


def test_giving_way_to_an_okay_is_a_false_barge_in_and_nothing_else(client: Client) -> None:
    errors = run(client, "turn_errors", SPAN).records()
    assert [(error["kind"], error["turn_id"]) for error in errors] == [("false_barge_in", 1)]
