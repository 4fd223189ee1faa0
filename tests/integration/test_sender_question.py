"""How the agent's voice was sent, asked back from a real store: every decision with what it rests on."""

from __future__ import annotations

import contextlib
from pathlib import Path

from analytics import connect, run
from tests.integration.stored_calls import MS, Call, Facts, running_store, sent, writer


def test_every_decision_comes_back_with_what_it_rests_on(tmp_path: Path) -> None:
    facts = Facts()
    call, other = Call(facts, 1), Call(facts, 2)
    wanted = sent(call, seconds=60)
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
            "fec_before": decision.before.fec,
            "fec": decision.after.fec,
            "expected_loss_before_percent": decision.before.expected_loss_percent,
            "expected_loss_percent": decision.after.expected_loss_percent,
            "ptime_before_ms": decision.before.ptime_ms,
            "ptime_ms": decision.after.ptime_ms,
        }
