"""A headless Chromium with a WAV as its microphone talks to the agent through the whole stack."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

import analytics
from relay.speech import load as load_clip
from relay.speech import names
from tests.integration.browser_tools import ARGUMENTS, executable
from tests.integration.stack_tools import interrupt, running, settings_in, wait_for_line

RATE = 48_000

HEARD = """async () => {
    const stats = [...(await window.sidetone.connection.getStats()).values()];
    const inbound = stats.find((one) => one.type === 'inbound-rtp' && one.kind === 'audio');
    return inbound.totalAudioEnergy > 0.005 ? {received: inbound.packetsReceived} : null;
}"""
"""Truthy once the browser's own receiver has played a voice, which silence never amounts to."""

REPORTED = """async () => {
    const stats = [...(await window.sidetone.connection.getStats()).values()];
    const pair = stats.find((one) => one.type === 'candidate-pair' && one.nominated);
    const remote = stats.find((one) => one.type === 'remote-inbound-rtp' && one.kind === 'audio');
    const known = remote && remote.roundTripTimeMeasurements > 0;
    return known && pair.availableOutgoingBitrate < 250000 ? remote : null;
}"""
"""What the agent's side reports of the browser's voice, once its transport-wide feedback is believed: without it, and
without loss, the browser's estimate of its bandwidth begins at 300 kbit/s and only ever rises."""

POLLED = """async (condition) => {
    for (let left = 200; left > 0; left -= 1) {
        const found = await condition();
        if (found) return found;
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error('20 seconds were not enough');
}"""


def polled(page: Page, condition: str) -> Any:
    """Wait until an asynchronous function of the page's returns something."""
    return page.evaluate(f"() => ({POLLED})({condition})")


def write_question(path: Path) -> None:
    """Write a question and then silence, which Chromium plays in a loop."""
    clip = load_clip(names("user_")[0])
    pcm = np.concatenate([np.zeros(RATE, np.int16), clip.pcm, np.zeros(7 * RATE, np.int16)])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())


def test_browser_asks_hears_an_answer_and_is_recorded(tmp_path: Path) -> None:
    write_question(tmp_path / "question.wav")
    settings = settings_in(tmp_path / "data")
    microphone = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'question.wav'}",
        "--autoplay-policy=no-user-gesture-required",
    ]
    with running(["up", "--no-dashboard"], settings.as_environment()) as stack:
        wait_for_line(stack, "Ctrl-C ends everything")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable(), args=[*ARGUMENTS, *microphone])
            page = browser.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"http://127.0.0.1:{settings.signalling_port}/")
            page.get_by_test_id("start").click()
            page.get_by_test_id("turn").first.wait_for(timeout=30_000)
            heard = polled(page, HEARD)
            reported = polled(page, REPORTED)
            session_id = page.get_by_test_id("session").inner_text()
            page.get_by_test_id("hang-up").click()
            page.get_by_test_id("start").wait_for()
            browser.close()
        assert errors == []
        assert heard["received"] > 50
        assert 0 <= reported["roundTripTime"] < 5
        assert 0 <= reported["jitter"] < 5
        assert 0 <= reported["packetsLost"] < 50
        assert 0 <= reported["fractionLost"] < 1
        client = analytics.connect(settings.store_host, settings.store_port)
        wanted = {"session": session_id}
        kinds: set[str] = set()
        while "agent_audio_started" not in kinds:
            kinds = set(analytics.run(client, "session_turns", wanted).column("kind"))
        assert {"user_speech_started", "user_speech_stopped", "endpoint_decided", "agent_audio_started"} <= kinds
        taps = {row["tap"]: row for row in analytics.run(client, "loss_by_stream", wanted).records()}
        assert set(taps) == {"edge_up", "edge_down", "transceiver_in", "transceiver_out"}
        assert all(row["packets"] > 50 for row in taps.values())
        client.close()
        interrupt(stack)
        assert stack.wait(timeout=20) == 0
