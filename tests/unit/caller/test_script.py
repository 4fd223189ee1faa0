from __future__ import annotations

import numpy as np
import pytest

from relay.caller.phrasebook import Phrasebook
from relay.caller.script import (
    BUILT_IN,
    Backchannel,
    BargeIn,
    HangUp,
    Pause,
    Say,
    Script,
    ScriptError,
    WaitForAnswer,
    built_in,
    parse,
    script_names,
)


def test_a_script_is_read_from_toml() -> None:
    script = parse(
        """
        name = "impatient"
        steps = [
            { do = "say", clip = "user_bill" },
            { do = "barge_in", after_ms = 400 },
            { do = "backchannel" },
            { do = "pause", ms = 100, to_ms = 200.5 },
            { do = "wait_for_answer", timeout_ms = 1 },
            { do = "hang_up" },
        ]
        """
    )
    assert script == Script(
        "impatient",
        (Say("user_bill"), BargeIn(400), Backchannel(), Pause(100, 200.5), WaitForAnswer(1), HangUp()),
        loop=False,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("steps = [", "not TOML"),
        ("", "no `steps`"),
        ("steps = []", "no `steps`"),
        ('steps = [{ do = "sing" }]', "step 1 needs `do`"),
        ('steps = [{ do = "say" }, "say"]', "step 2 needs `do`"),
        ('steps = [{ do = "say", loud = true }]', "step 1 .say. has no `loud`"),
        ('steps = [{ do = "say", clip = 3 }]', "`clip` cannot be 3"),
        ('steps = [{ do = "pause", ms = "long" }]', "`ms` cannot be 'long'"),
        ('steps = [{ do = "pause", ms = true }]', "`ms` cannot be True"),
        ('steps = [{ do = "pause" }]', r"step 1 \(pause\)"),
    ],
)
def test_a_wrong_script_is_refused_with_the_step_and_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ScriptError, match=complaint):
        parse(text)


def test_built_in_scripts_say_only_what_exists() -> None:
    phrasebook, rng = Phrasebook(), np.random.default_rng(1)
    assert set(script_names()) == set(BUILT_IN) >= {"simple", "pauses", "barge-in", "backchannel"}
    for name in script_names():
        for step in built_in(name).steps:
            if isinstance(step, Say | BargeIn | Backchannel):
                assert phrasebook.choose(step.clip, rng).frames
    with pytest.raises(ScriptError, match="simple"):
        built_in("nobody")


def test_hesitant_questions_come_only_when_asked_for() -> None:
    phrasebook, rng = Phrasebook(), np.random.default_rng(1)
    plain = {phrasebook.choose("user_*", rng).clip for _ in range(200)}
    assert len(plain) >= 8
    assert not any(name.startswith("user_pause_") for name in plain)
    assert all(phrasebook.choose("user_pause_*", rng).clip.startswith("user_pause_") for _ in range(20))


def test_a_script_that_names_no_clip_is_refused_before_the_call() -> None:
    with pytest.raises(ScriptError, match="user_nobody"):
        Phrasebook().prepare(Script("wrong", (Say("user_nobody"),)))


def test_the_same_seed_says_the_same() -> None:
    def said(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [Phrasebook().choose("user_*", rng).clip for _ in range(20)]

    assert said(3) == said(3) != said(4)
