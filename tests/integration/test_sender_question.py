"""How the agent's voice was sent, asked back from a real store: every decision with what it rests on."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from analytics import connect, run
from tests.integration.stored_calls import MS, Call, Facts, running_store, writer
from voice.sender import Decision, Report, Sender


def test_every_decision_comes_back_with_what_it_rests_on(tmp_path: Path) -> None:
    facts = Facts()
    call, other = Call(facts, 1), Call(facts, 2)
    sender = Sender()
    wanted: list[Decision] = []
    for second in range(1, 60):
        poor = 10 <= second < 20
        report = Report(call.at(second * 1_000), 0.2 if poor else 0.0, None if second < 5 else 40.0 + 200.0 * poor, 1.0)
        decision = sender.report(report)
        if decision is not None:
            payload = json.dumps(decision.as_fact()).encode()
            call.add("input", second * 1_000, mono_ns=0, sequence=len(wanted) + 1, kind="sender", payload=payload)
            wanted.append(decision)
    call.add("input", 0, mono_ns=0, sequence=0, kind="config", payload=b"{}")
    other.add("input", 0, mono_ns=0, sequence=0, kind="sender", payload=b"{}")
    with running_store(tmp_path) as (host, port):
        with contextlib.closing(writer(host, port)) as client:
            facts.store(client)
        with contextlib.closing(connect(host, port)) as client:
            rows = run(client, "session_sender", {"session": call.id}).records()
    assert len(wanted) > 5
    assert {decision.report.rtt_ms for decision in wanted} > {240.0}
    for row, decision in zip(rows, wanted, strict=True):
        assert row == {
            "observed_ns": decision.report.at_ns // MS * MS,
            "lost": decision.report.fraction_lost,
            "smoothed_loss": round(decision.smoothed_loss, 5),
            "rtt_ms": decision.report.rtt_ms,
            "best_rtt_ms": decision.best_rtt_ms,
            "queued": decision.queued,
            "bitrate_before_bps": decision.before.bitrate_bps,
            "bitrate_bps": decision.after.bitrate_bps,
            "fec": decision.after.fec,
            "expected_loss_percent": decision.after.expected_loss_percent,
            "ptime_ms": decision.after.ptime_ms,
        }
