"""Calls as traces: a real call, a real receiver of OTLP, and the facts in the log to compare with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import structlog

from relay.app import create_app
from relay.models import ModelConfig
from relay.tracing import from_environment
from relay.tracing_export import Traces
from relay.transceiver import Transceiver
from tests.integration.otlp_tools import receiver, values
from tests.integration.role_tools import call, ready, role
from tests.integration.stack_tools import settings_in
from tests.integration.transceiver_tools import Client, World, question, until

SCRIPTED = ModelConfig("scripted", think_median_ms=20.0, think_sigma=0.0)
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class TracedWorld(World):
    """A transceiver that is traced as the environment says; at the end it waits until all spans are sent, or lost."""

    def __init__(self, path: Path, url: str, monkeypatch: pytest.MonkeyPatch, *, waits: bool = True) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        super().__init__(path, model=SCRIPTED)
        self._waits = waits
        traces = from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": url}, "1.2.3")
        assert traces is not None
        self.traces: Traces = traces
        self.transceiver = Transceiver(self.transceiver.config, traces.watching(self.emitter))

    async def __aenter__(self) -> Self:
        await self.start()
        self.traces.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        counts = self.traces.counts
        if self._waits:  # what is flushed at the end has two seconds, which a busy machine may not have
            await until(lambda: counts.sent + counts.failed == counts.queued)
        self.traces.close()

    async def signal(self, client: Client, **headers: str) -> Client:
        """Call over HTTP."""
        transport = httpx.ASGITransport(create_app(self.transceiver))
        async with httpx.AsyncClient(transport=transport, base_url="http://relay.test") as http:
            answer = await http.post(
                "/v1/realtime/calls",
                content=await client.offer(),
                headers={"content-type": "application/sdp", **headers},
            )
        assert answer.status_code == 201, answer.text
        client.session_id = next(iter(self.transceiver._sessions))
        await client.accept(answer.text)
        await client.connected()
        return client

    async def over(self, client: Client) -> None:
        assert client.session_id is not None
        await self.transceiver.hangup(client.session_id, "operator", "test")
        await client.close()


def of(rows: list[dict[str, Any]], turn_id: int) -> Callable[[str], int]:
    """The time of a kind of fact in a turn."""
    return lambda kind: next(int(row["at_ns"]) for row in rows if row["turn_id"] == turn_id and row["kind"] == kind)


def span_times(span: Any) -> tuple[int, int]:
    return span.start_time_unix_nano, span.end_time_unix_nano


async def test_call_is_a_trace_under_the_request_that_made_it_and_agrees_with_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-voice")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    client = Client()
    with receiver() as received:
        async with TracedWorld(tmp_path, received.url, monkeypatch) as made:
            await made.signal(client, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="shop=42")
            await client.microphone.say(question(), "normal")
            await until(lambda: "agent_audio_started" in client.turns())
            await client.microphone.say(question("user_weather"), "barge-in")
            await until(lambda: client.turns().count("agent_audio_started") == 2)
            await until(lambda: client.turns().count("agent_audio_stopped") == 2)
            await made.over(client)
    turns = await made.facts("turn", client.session_id)
    steps = {row["step"]: row for row in await made.facts("session", client.session_id)}
    (call,) = received.named("call")
    assert (call.trace_id.hex(), call.parent_span_id.hex(), call.trace_state) == (TRACE, PARENT, "shop=42")
    assert {span.trace_id for span in received.spans} == {call.trace_id}
    assert span_times(call) == (steps["offered"]["observed_ns"], steps["closed"]["observed_ns"])
    said = values(call.attributes)
    assert said["sidetone.session.id"] == str(client.session_id)
    assert (said["sidetone.region"], said["sidetone.edge"], said["sidetone.model"]) == ("north", "edge-1", "scripted")
    assert said["sidetone.closed.reason"] == "test"
    assert dict(steps["offered"]["attributes"])["traceparent"] == f"00-{TRACE}-{PARENT}-01"
    first, second = received.below(call, "turn")
    assert [values(turn.attributes)["sidetone.turn.id"] for turn in (first, second)] == [1, 2]
    for span, turn_id in ((first, 1), (second, 2)):
        at = of(turns, turn_id)
        assert span_times(span)[1] == at("agent_audio_stopped")
        parts = {part.name: span_times(part) for part in received.below(span)}
        assert parts["model"] == (at("response_requested"), at("model_first_audio"))
        assert parts["agent speech"] == (at("agent_audio_started"), at("agent_audio_stopped"))
        assert parts["endpoint wait"][1] == at("endpoint_decided")
        assert parts["pacing"] == (max(at("model_first_audio"), at("endpoint_decided")), at("agent_audio_started"))
        # What happens between the end of speech and the decision follows without gaps.
        assert parts["uplink jitter buffer"][1] == parts["vad hangover"][0]
        assert parts["vad hangover"][1] == parts["endpoint wait"][0]
        took_ms = (parts["pacing"][1] - parts["uplink jitter buffer"][0]) / 1e6
        assert values(span.attributes)["sidetone.response_ms"] == pytest.approx(took_ms)
        assert values(span.attributes)["sidetone.endpointing"] == "silence"
    assert span_times(first)[0] == of(turns, 1)("user_speech_started")
    happened = {event.name: event.time_unix_nano for event in first.events}
    assert happened["sidetone.user_barged_in"] == of(turns, 2)("user_barged_in")
    assert happened["sidetone.agent_yielded"] == of(turns, 1)("agent_yielded")
    resource = received.resources[0]
    assert resource["service.name"] == "shop-voice"
    assert resource["service.version"] == "1.2.3"
    assert resource["deployment.environment.name"] == "test"
    assert made.traces.counts.sent == len(received.spans) == made.traces.counts.queued


async def test_backchannel_is_an_event_of_the_answer_and_begins_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    with receiver() as received:
        async with TracedWorld(tmp_path, received.url, monkeypatch) as made:
            await made.signal(client)
            await client.microphone.say(question(), "normal")
            await until(client.hears_voice)
            await client.microphone.say(question("backchannel_okay"), "backchannel")
            await until(lambda: client.turns().count("agent_audio_stopped") == 2)
            await made.over(client)
    (call,) = received.named("call")
    assert call.parent_span_id == b""
    (turn,) = received.below(call, "turn")
    kinds = [event.name for event in turn.events]
    assert {"sidetone.agent_yielded", "sidetone.backchannel", "sidetone.agent_resumed"} <= set(kinds)
    speech = received.below(turn, "agent speech")
    assert [values(span.attributes)["sidetone.reason"] for span in speech] == ["yielded", "completed"]
    assert values(call.attributes)["sidetone.signalling"] == "/v1/realtime/calls"
    assert received.resources[0]["service.name"] == "sidetone"


async def test_trace_that_is_not_sampled_is_not_sent_and_a_malformed_one_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as received:
        async with TracedWorld(tmp_path, received.url, monkeypatch) as made:
            for parent in (f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-1", f"00-{'0' * 32}-{PARENT}-01"):
                client = Client()
                await made.signal(client, traceparent=parent, tracestate="shop=42")
                await made.over(client)
        assert len(received.named("call")) == 2
    for span in received.named("call"):
        assert span.trace_id.hex() != TRACE
        assert (span.parent_span_id, span.trace_state) == (b"", "")


async def test_calls_go_on_while_nobody_takes_their_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as received:
        gone = received.url
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")  # s
    client = Client()
    with structlog.testing.capture_logs() as logs:
        async with TracedWorld(tmp_path, f"{gone}/?key=secret", monkeypatch) as made:
            await made.signal(client)
            await client.microphone.say(question(), "normal")
            await until(lambda: "agent_audio_stopped" in client.turns())
            assert client.hears_voice()
            await made.over(client)
    counts = made.traces.counts
    assert (counts.sent, counts.failed) == (0, counts.queued)
    assert counts.queued > 1
    said = [line for line in logs if line["event"].startswith("traces are not taken")]
    assert said[0]["receiver"] == gone.removeprefix("http://")
    assert len(said) <= 2, "they are said once a minute"
    assert "secret" not in repr(logs)
    turns = [row["kind"] for row in await made.facts("turn", client.session_id)]
    assert "agent_audio_stopped" in turns


async def test_spans_beyond_the_queue_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")  # s
    with receiver() as received:
        received.hold.clear()
        async with TracedWorld(tmp_path, received.url, monkeypatch) as made:
            client = Client()
            await made.signal(client)
            await client.microphone.say(question(), "normal")
            await until(lambda: "agent_audio_stopped" in client.turns())
            await made.over(client)
            await until(lambda: made.traces.counts.dropped > 0)
            received.hold.set()
        counts = made.traces.counts
        assert counts.sent == len(received.spans) == counts.queued
        (dropped,) = [
            sample.value
            for family in made.traces.collect()
            for sample in family.samples
            if sample.labels == {"fate": "dropped"}
        ]
        assert dropped == counts.dropped


async def test_receiver_that_hangs_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as received:
        received.hold.clear()
        async with TracedWorld(tmp_path, received.url, monkeypatch, waits=False) as made:
            client = Client()
            await made.signal(client)
            await made.over(client)
        # It was left behind: the receiver answers only after the end.
        assert received.requests == 0
        assert made.traces.counts.sent == 0


async def test_role_sends_what_it_has_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    settings.ufrag_key_bytes()  # made now, so that the roles do not make one each
    edge = settings.edges[0]
    with receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")  # ms: nothing is sent but at the end
        with role(settings, "transceiver") as transceiver, role(settings, "edge", edge.name) as forwarder:
            await ready(settings, transceiver, forwarder)
            client, session = await call(settings, edge.region)
            async with httpx.AsyncClient() as http:
                url = f"http://{settings.signalling_host}:{settings.signalling_port}/metrics"
                assert 'sidetone_transceiver_spans_total{fate="sent"} 0.0' in (await http.get(url)).text
            assert received.spans == []
        await client.close()
    (span,) = received.named("call")
    assert values(span.attributes)["sidetone.session.id"] == str(session)
    assert values(span.attributes)["sidetone.closed.reason"] == "shutdown"


def test_untraced_relay_loads_nothing_and_starts_no_thread() -> None:
    program = """
import os, sys, threading
import relay.app, sidetone.roles
from relay import tracing
assert tracing.from_environment(os.environ, "1") is None
loaded = [name for name in sys.modules if name.startswith("opentelemetry.sdk") or name == "relay.tracing_export"]
assert not loaded, loaded
assert threading.active_count() == 1, threading.enumerate()
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={}, timeout=60)
