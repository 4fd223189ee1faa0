from __future__ import annotations

import numpy as np

from relay.caller.listener import HANG_NS, Heard, Listener

FRAME_NS = 20_000_000
WINDOW_NS = 2_500_000


def play(listener: Listener, loud: list[int], *, at: int = 0) -> list[Heard]:
    """Play windows one after the other from a time on; each is loud or not."""
    heard = []
    windows = np.array(loud + [0] * (-len(loud) % 8), bool).reshape(-1, 8)
    for number, frame in enumerate(windows):
        heard += listener.frame(at + number * FRAME_NS, frame)
    return heard


def test_onset_and_end_are_known_to_the_window() -> None:
    listener = Listener()
    quiet = [0] * (HANG_NS // WINDOW_NS + 16)
    heard = play(listener, [0] * 11 + [1] * 50 + quiet)
    assert heard == [Heard(started=True, at_ns=11 * WINDOW_NS), Heard(started=False, at_ns=61 * WINDOW_NS)]


def test_a_click_is_no_answer() -> None:
    assert play(Listener(), [0] * 8 + [1] * 3 + [0] * 800) == []


def test_clicks_far_apart_do_not_add_up() -> None:
    assert play(Listener(), ([1] * 2 + [0] * 78) * 5) == []


def test_a_pause_between_two_sentences_does_not_end_an_answer() -> None:
    listener = Listener()
    heard = play(listener, [1] * 80 + [0] * 160 + [1] * 80)
    assert [one.started for one in heard] == [True]
    assert listener.audible


def test_after_the_caller_spoke_the_same_pause_parts_two_answers() -> None:
    listener = Listener()
    play(listener, [1] * 80)
    listener.expect_new()
    heard = play(listener, [1] * 80, at=80 * WINDOW_NS + 400_000_000)
    assert heard == [
        Heard(started=False, at_ns=80 * WINDOW_NS),
        Heard(started=True, at_ns=80 * WINDOW_NS + 400_000_000),
    ]
