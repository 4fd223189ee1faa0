from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from relay.models import FRAME_SAMPLES, Audio, FirstToken, ModelConfig, ModelError, ModelOutput, Pcm, create
from relay.models.echo import LEAD_FRAMES, EchoModel
from relay.models.scripted import ScriptedModel
from relay.transceiver.reply import BUFFER_FRAMES, Reply
from voice.vad import level_dbov


def frame(value: int) -> Pcm:
    return np.full(FRAME_SAMPLES, value, np.int16)


def voiced(pcm: Pcm) -> bool:
    return level_dbov(pcm) > -50


async def said(outputs: AsyncGenerator[ModelOutput]) -> Pcm:
    parts = [output.pcm async for output in outputs if isinstance(output, Audio)]
    return np.concatenate(parts)


async def test_echo_says_the_last_utterance_with_its_onset_and_without_the_silence_after_it() -> None:
    model = EchoModel(np.random.default_rng(0))
    for value in range(1, 21):
        model.hear(frame(value), speech=False)
    for value in (100, 101):
        model.hear(frame(value), speech=True)
    for value in (0, 0):
        model.hear(frame(value), speech=False)
    model.hear(frame(102), speech=True)
    for _ in range(25):
        model.hear(frame(0), speech=False)
    heard = (await said(model.respond(1)))[::FRAME_SAMPLES].tolist()
    assert heard == [*range(21 - LEAD_FRAMES, 21), 100, 101, 0, 0, 102]
    with pytest.raises(ModelError, match="no speech"):
        await said(model.respond(2))


@pytest.mark.parametrize(("heard_ms", "kept"), [(0.0, [100, 101, 102]), (20.0, [102])])
async def test_echo_whose_answer_was_asked_for_too_early_says_the_whole(heard_ms: float, kept: list[int]) -> None:
    model = EchoModel(np.random.default_rng(0))
    for value in (100, 101):
        model.hear(frame(value), speech=True)
    await said(model.respond(1))
    for _ in range(10):
        model.hear(frame(0), speech=False)
    model.interrupted(1, heard_ms)  # the user goes on
    model.hear(frame(102), speech=True)
    heard = (await said(model.respond(1)))[::FRAME_SAMPLES]
    assert heard[heard > 0].tolist() == kept


async def test_same_seed_same_conversation() -> None:
    async def conversation(seed: int) -> list[int]:
        model = create(ModelConfig("scripted", seed=seed, think_median_ms=0.0), session_seed=3)
        return [len(await said(model.respond(turn))) for turn in (1, 2, 3, 4)]

    assert await conversation(1) == await conversation(1)
    assert await conversation(1) != await conversation(2)


def test_think_times_have_the_median_that_was_asked_for() -> None:
    rng = np.random.default_rng(5)
    times = 350 * np.exp(0.35 * rng.standard_normal(10_000))
    assert math.isclose(float(np.median(times)), 350, rel_tol=0.02)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of"):
        ModelConfig("parrot")
    with pytest.raises(ValueError, match="think time"):
        ModelConfig(think_sigma=-1.0)
    with pytest.raises(ValueError, match="at least one clip"):
        ScriptedModel(np.random.default_rng(0), clips=())


async def play(reply: Reply) -> list[Pcm]:
    frames = []
    while not reply.finished:
        pcm = reply.next_frame()
        if pcm is None:
            await asyncio.sleep(0)
        else:
            frames.append(pcm)
    return frames


async def test_reply_is_cut_into_frames_and_ends_with_its_last_voice() -> None:
    async def outputs() -> AsyncGenerator[ModelOutput]:
        yield FirstToken()
        yield Audio(np.full(1500, 5000, np.int16))
        yield Audio(np.full(500, 5000, np.int16))
        yield Audio(np.zeros(5000, np.int16))

    events: list[str] = []
    reply = Reply(1, outputs(), events.append, voiced)
    frames = await play(reply)
    assert [len(one) for one in frames] == [FRAME_SAMPLES] * 3  # 2000 samples of voice, the rest of a frame silent
    assert events == ["model_first_token", "model_first_audio"]
    assert reply.played_ms == 60.0


async def test_model_that_is_faster_than_speech_waits() -> None:
    made = 0

    async def outputs() -> AsyncGenerator[ModelOutput]:
        nonlocal made
        for _ in range(BUFFER_FRAMES * 2):
            made += 1
            yield Audio(frame(5000))

    reply = Reply(1, outputs(), lambda _kind: None, voiced)
    for _ in range(BUFFER_FRAMES * 3):
        await asyncio.sleep(0)
    assert made == BUFFER_FRAMES + 1
    assert len(await play(reply)) == BUFFER_FRAMES * 2


@pytest.mark.parametrize("stuck_in", ["waiting", "yielding"])
async def test_reply_that_is_stopped_closes_the_model_stream(stuck_in: str) -> None:
    closed = asyncio.Event()

    async def outputs() -> AsyncGenerator[ModelOutput]:
        try:
            if stuck_in == "waiting":
                await asyncio.Event().wait()
            while True:
                yield Audio(frame(5000))
        finally:
            closed.set()

    reply = Reply(1, outputs(), lambda _kind: None, voiced)
    for _ in range(BUFFER_FRAMES + 10):
        await asyncio.sleep(0)
    await reply.stop()
    assert closed.is_set()
    assert reply.finished


@pytest.mark.parametrize("error", [ModelError("no quota"), RuntimeError("a bug")])
async def test_model_that_fails_ends_the_reply_and_says_why(error: Exception) -> None:
    async def outputs() -> AsyncGenerator[ModelOutput]:
        yield Audio(frame(5000))
        raise error

    reply = Reply(1, outputs(), lambda _kind: None, voiced)
    assert len(await play(reply)) == 1
    assert reply.error is not None
    assert str(error) in reply.error
