"""Scripts at work: an agent that errs on purpose, and what the platform makes of it beside what the caller heard."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.caller import FleetConfig, find, run_fleet
from relay.models import ModelConfig
from sidetone.cli.measured import CHANNEL, STORE, measured
from sidetone.settings import load
from tests.integration.stack_tools import command, interrupt, running, settings_in, wait_for_line
from tests.integration.test_caller_relay import signalling
from tests.integration.transceiver_tools import world

FORSAKEN = """
title: Someone who is not answered
agent: {think_ms: 60000, think_spread: 0}
expect:
  - {turn: 1, error: abandoned}
  - {turn: 1, error: dead_air}
steps:
  - say: user_order
  - pause: 3800
  - hang_up
"""

ANSWERED = """
steps: [say: user_hours, wait_for_answer, hang_up]
"""

HURRY = """
steps:
  - network: {profile: lte-good, at_ms: 0}
  - hesitate: {ms: 40, say: filler_um}
  - say: [backchannel_yeah, {pause: 60}, backchannel_okay]
  - talk_over: {after_ms: 40, for_ms: 300, say: backchannel_yeah}
  - hang_up
"""


def one_call(tmp_path: Path, text: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return subprocess.run(
        command("call", str(path), *options),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_script_of_ones_own_beside_what_the_platform_measured(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data").model_copy(update={"behaviours": True})
    with running(["up", "--no-dashboard"], settings.as_environment()) as stack:
        wait_for_line(stack, "Ctrl-C ends everything")
        ran = one_call(
            tmp_path, FORSAKEN, "--region", "auto", "--network", "lte-good", "--json", **settings.as_environment()
        )
        heard = one_call(tmp_path, ANSWERED, "--network", "lte-good", "--json", **settings.as_environment())
        interrupt(stack)
    assert ran.returncode == 0, ran.stderr
    [turn] = json.loads(heard.stdout)["calls"][0]["platform"]["turns"]
    assert turn["method"] == "client"
    assert turn["uplink_ms"] + turn["response_ms"] + turn["downlink_ms"] == pytest.approx(turn["listener_ms"], abs=0.1)
    assert 0 < turn["clock_error_ms"] < 1_000
    [call] = json.loads(ran.stdout)["calls"]
    assert call["region"] in {edge.region for edge in settings.edges}
    assert ran.stderr.count("edge ") == len(settings.edges)
    assert call["platform"]["source"] == STORE
    assert [turn["response_ms"] for turn in call["platform"]["turns"]] == [None]
    found = sorted((error["turn"], error["kind"]) for error in call["platform"]["errors"])
    assert found == sorted((one["turn"], one["error"]) for one in call["expected"]) != []


async def test_a_server_that_allows_nothing_refuses_and_says_what_would(tmp_path: Path) -> None:
    async with world(tmp_path) as running_world, signalling(running_world) as url:
        [call] = (await run_fleet(FleetConfig(url, 1, [("north", "perfect")], scripts=["late-answer"]))).calls
        assert call.error is not None
        assert "403" in call.error
        assert "SIDETONE_BEHAVIOURS" in call.error


@pytest.mark.parametrize(
    "behaviour", ["", "[]", "{", '{"mood": 1}', '{"think_ms": -1}', '{"think_ms": true}', "[" * 400]
)
async def test_a_behaviour_that_is_none_is_refused(behaviour: str, tmp_path: Path) -> None:
    async with world(tmp_path, behaviours=True) as running_world, signalling(running_world) as url:
        async with httpx.AsyncClient() as http:
            headers = {"content-type": "application/sdp", "sidetone-behaviour": behaviour}
            offer = (Path(__file__).parents[1] / "unit/transceiver/chromium_offer.sdp").read_text()
            answer = await http.post(f"{url}/v1/realtime/calls", content=offer, headers=headers)
        assert answer.status_code == 403, answer.text


async def test_without_a_store_the_call_itself_says_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "hurry.yaml"
    path.write_text(HURRY)
    assert find(str(path)).name == "hurry"
    model = ModelConfig("scripted", think_median_ms=20.0, think_sigma=0.0)
    async with world(tmp_path, model=model) as running_world, signalling(running_world) as url:
        report = (await run_fleet(FleetConfig(url, 1, [("north", "perfect")], scripts=[str(path)]))).to_dict()
    [call] = report["calls"]
    assert call["error"] is None
    assert {said["kind"] for said in call["utterances"]} == {"hesitation", "normal", "talk-over"}
    assert sum(said["kind"] == "talk-over" for said in call["utterances"]) >= 2
    [found] = measured(unreachable(tmp_path), report["calls"])
    assert found["source"] == CHANNEL
    assert found["turns"][0]["response_ms"] > 0
    assert found["errors"] is None


def unreachable(tmp_path: Path) -> Any:
    """Settings whose store nobody runs."""
    return load(data_dir=tmp_path, store_port=1)
