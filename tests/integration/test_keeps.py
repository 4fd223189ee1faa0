"""A turn that goes wrong has its packets in full at an edge that thins, also of the time before it went wrong."""

from __future__ import annotations

from pathlib import Path

from relay.edge import Sampling
from relay.models import ModelConfig
from tests.integration.transceiver_tools import Client, question, until, world

SECOND = 1_000_000_000
QUIET = Sampling("sampled", before_s=0.0, after_s=0.5, transit_us=10_000_000, hold_s=3.0)
"""Network trouble hardly counts, so that what is in full is so because it was asked for."""


async def test_a_late_answer_has_its_packets_in_full_and_another_call_is_thinned(tmp_path: Path) -> None:
    late, other = Client(), Client()
    model = ModelConfig("echo", think_median_ms=60_000.0, think_sigma=0.0)  # no answer at all, in time
    async with world(tmp_path, sampling=QUIET, model=model, late_answer_ms=1_000.0) as made:
        await made.call(late)
        await made.call(other)
        await until(lambda: len(late.packets) >= 250)  # some seconds in which nothing happens
        await late.microphone.say(question(), "normal")
        await until(lambda: made.edge.counters().keeps >= 1)
        asked, heard = dict(made.transceiver.counters.keeps), len(late.packets)
        await until(lambda: len(late.packets) >= heard + 150)
        for client in (late, other):
            assert client.session_id is not None
            await made.transceiver.hangup(client.session_id, "operator", "test")
            await client.close()
    assert asked == {"late": 1}
    counters = made.edge.counters()
    assert counters.captured == counters.emitted["packet"] + counters.thinned + sum(
        counters.shed.get("packet", {}).values()
    )
    turns = await made.facts("turn", late.session_id)
    ended_ns = next(row["at_ns"] for row in turns if row["kind"] == "user_speech_stopped")
    wanted = (ended_ns, ended_ns + SECOND)  # the silence in which the answer did not come
    weights = {}
    for client in (late, other):
        rows = [row for row in await made.facts("packet", client.session_id) if row["tap"].startswith("edge_")]
        near = [row["represents"] for row in rows if wanted[0] <= row["observed_ns"] <= wanted[1]]
        begin_ns = min(row["observed_ns"] for row in rows)
        far = [
            row["represents"] for row in rows if begin_ns + 2 * SECOND <= row["observed_ns"] <= begin_ns + 3 * SECOND
        ]
        weights[client] = near, far
    in_full, before = weights[late]
    assert set(in_full) == {1}
    assert len(in_full) > 80  # a second of both taps
    assert max(before) > 5
    thinned, _ = weights[other]
    assert len(thinned) < 0.5 * sum(thinned)
