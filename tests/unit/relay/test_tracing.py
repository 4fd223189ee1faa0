"""What decides whether a call is traced, under which trace, and what becomes of turns that go no common way."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eventlog.schema import FACTS, FactType
from relay.tracing import wanted
from relay.tracing_calls import Calls
from relay.tracing_header import TRACESTATE_CHARS_MAX, parent_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"
MS = 1_000_000
SESSION = bytes(range(16))


@pytest.mark.parametrize(
    ("environment", "receiver"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "shop"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "collector:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://key@traces.example/v1/traces?key=1"}, "traces.example"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "localhost:4318"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, None),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, None),
    ],
)
def test_environment_says_where_traces_go(environment: dict[str, str], receiver: str | None) -> None:
    with structlog.testing.capture_logs() as logs:
        assert wanted(environment) == receiver
    assert logs == []


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ],
)
def test_what_cannot_be_followed_is_said_and_nothing_is_traced(environment: dict[str, str], says: str) -> None:
    with structlog.testing.capture_logs() as logs:
        assert wanted(environment) is None
    assert says in logs[0]["event"]


@pytest.mark.parametrize(
    ("parents", "taken"),
    [
        ([GOOD], True),
        ([f" {GOOD}\t"], True),
        ([f"cc-{TRACE}-{PARENT}-01-what-comes-later"], True),
        ([], False),
        ([GOOD, GOOD], False),
        ([f"{GOOD}-more"], False),
        ([f"ff-{TRACE}-{PARENT}-01"], False),
        ([GOOD.upper()], False),
        ([f"00-{'0' * 32}-{PARENT}-01"], False),
        ([f"00-{TRACE}-{'0' * 16}-01"], False),
        ([f"cc-{TRACE}-{PARENT}-01-{'x' * 300}"], False),
        ([f"{GOOD}\n"], False),
    ],
)
def test_headers_of_trace_context(parents: list[str], taken: bool) -> None:
    given = {"traceparent": parents, "tracestate": ["a=1", "b=2"]}
    expected = {"traceparent": parents[0].strip(" \t"), "tracestate": "a=1,b=2"} if taken else {}
    assert parent_of(given.__getitem__) == expected


@pytest.mark.parametrize("state", ["", "x" * (TRACESTATE_CHARS_MAX + 1), "a=\u00e9", "a=1\x07"])
def test_unusable_state_is_left_out(state: str) -> None:
    given = {"traceparent": [GOOD], "tracestate": [state]}
    assert parent_of(given.__getitem__) == {"traceparent": GOOD}


class Call:
    """Facts of one call, and the spans that they make."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.passed: list[FactType] = []
        self._calls = Calls(self, provider.get_tracer("test"))
        self.step("offered", 0)

    def add(self, fact: FactType, /, **_: Any) -> None:
        self.passed.append(fact)

    def step(self, step: str, at_ms: int, who: str = "client", reason: str | None = None) -> None:
        common = {"session_id": SESSION, "region": "north", "observed_ns": at_ms * MS}
        self._calls.add(FACTS["session"], **common, step=step, reason=reason, attributes={"who": who})

    def turn(self, turn_id: int, *facts: tuple[Any, ...]) -> None:
        for kind, at_ms, *more in facts:
            columns = more[0] if more else {}
            common = {"session_id": SESSION, "region": "north", "observed_ns": at_ms * MS}
            self._calls.add(FACTS["turn"], **common, turn_id=turn_id, kind=kind, at_ns=at_ms * MS, **columns)

    def close(self, at_ms: int, who: str = "client", reason: str = "hangup") -> None:
        self.step("closed", at_ms, who, reason)

    def spans(self, name: str) -> list[tuple[float, float]]:
        return [(span.start_time / MS, span.end_time / MS) for span in self.named(name)]  # type: ignore[operator]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.memory.get_finished_spans() if span.name == name]


SAID = [
    ("user_speech_started", 100),
    ("user_speech_stopped", 1_100),
    ("endpoint_decided", 1_600, {"silence_ms": 480.0}),
]


def test_turn_that_is_never_answered_is_a_span_all_the_same() -> None:
    call = Call()
    call.turn(1, *SAID, ("response_requested", 1_600))
    call.close(9_000)
    assert call.spans("turn") == [(100, 1_600)]
    assert call.spans("model") == [(1_600, 1_600)]
    assert call.spans("call") == [(0, 9_000)]
    assert [attributes["sidetone.reason"] for attributes in [call.named("model")[0].attributes or {}]] == ["no_audio"]


def test_revoked_end_begins_the_wait_anew() -> None:
    call = Call()
    call.turn(1, *SAID, ("response_requested", 1_600), ("endpoint_revoked", 1_700), ("user_speech_started", 1_650))
    call.turn(1, ("user_speech_stopped", 2_000), ("endpoint_decided", 2_500, {"silence_ms": 500.0}))
    call.turn(1, ("response_requested", 2_500), ("model_first_audio", 2_600), ("agent_audio_started", 2_650))
    call.turn(1, ("agent_audio_stopped", 4_000, {"reason": "completed"}))
    assert call.spans("model") == [(1_600, 1_700), (2_500, 2_600)]
    assert call.spans("user speech") == [(100, 1_100), (1_650, 2_000)]
    assert call.spans("pacing") == [(2_600, 2_650)]
    (turn,) = call.named("turn")
    assert (turn.attributes or {})["sidetone.response_ms"] == 650
    assert [event.name for event in turn.events].count("sidetone.endpoint_decided") == 2


def test_answer_asked_for_in_advance_waits_for_the_decision() -> None:
    call = Call()
    call.turn(1, *SAID[:2], ("response_requested", 1_300), ("model_first_audio", 1_400), SAID[2])
    call.turn(1, ("agent_audio_started", 1_620), ("agent_audio_stopped", 3_000, {"reason": "completed"}))
    assert call.spans("model") == [(1_300, 1_400)]
    assert call.spans("pacing") == [(1_600, 1_620)]


def test_greeting_is_a_turn_without_a_user() -> None:
    call = Call()
    call.turn(0, ("response_requested", 50), ("model_first_audio", 80), ("agent_audio_started", 100))
    call.turn(0, ("agent_audio_stopped", 900, {"reason": "completed"}))
    assert call.spans("turn") == [(50, 900)]
    assert "sidetone.response_ms" not in (call.named("turn")[0].attributes or {})


def test_hesitation_without_end_does_not_fill_the_memory() -> None:
    call = Call()
    for number in range(1_000):
        call.turn(1, ("user_speech_started", number * 10), ("user_speech_stopped", number * 10 + 5))
        call.turn(1, ("endpoint_candidate", number * 10 + 7))
    call.close(20_000)
    (turn,) = call.named("turn")
    assert len(turn.events) == 64
    assert len(call.named("user speech")) == 64
    assert (turn.attributes or {})["sidetone.left_out"] == 2 * (1_000 - 64)


@pytest.mark.parametrize(
    ("who", "reason", "error"),
    [
        ("client", "hangup", False),
        ("system", "shutdown", False),
        ("operator", "test", False),
        ("network", "consent_expired", True),
        ("system", "connect_timeout", True),
        ("client", "dtls_failed", True),
    ],
)
def test_call_that_a_fault_ended_is_an_error(who: str, reason: str, error: bool) -> None:
    call = Call()
    call.close(10, who, reason)
    (span,) = call.named("call")
    assert span.status.is_ok is not error


def test_facts_go_on_though_their_trace_cannot_be_made() -> None:
    call = Call()
    with structlog.testing.capture_logs() as logs:
        call.turn(1, *SAID, ("agent_audio_started", 1_700, {"inputs": "{"}), ("agent_audio_stopped", 1_900))
    assert len(call.passed) == 6
    assert [line["event"] for line in logs] == ["the trace of a call is broken off"]
