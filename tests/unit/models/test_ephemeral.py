from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ephemeral import PREFIX, EphemeralKeyError, EphemeralKeys

KEYS = EphemeralKeys(b"k" * 32)
LATER = 1 << 33  # some two centuries: a suite may take long


def test_token_says_what_was_put_in_and_shows_none_of_it() -> None:
    token = KEYS.mint({"instructions": "Sell flowers."}, "ek_upstream", LATER)
    opened = KEYS.open(token)
    assert (opened.session, opened.upstream) == ({"instructions": "Sell flowers."}, "ek_upstream")
    assert "ek_upstream" not in token + repr(opened)
    assert KEYS.mint({}, None, LATER) != KEYS.mint({}, None, LATER)


def test_other_keys_and_old_tokens_are_refused() -> None:
    with pytest.raises(EphemeralKeyError, match="no ephemeral key"):
        EphemeralKeys(b"o" * 32).open(KEYS.mint({}, None, LATER))
    with pytest.raises(EphemeralKeyError, match="expired"):
        KEYS.open(KEYS.mint({}, None, int(time.time())))
    with pytest.raises(EphemeralKeyError, match="too large"):
        KEYS.mint({"instructions": "x" * 40_000}, None, LATER)


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_nothing_else_opens(text: str) -> None:
    for token in (text, PREFIX + text):
        with pytest.raises(EphemeralKeyError):
            KEYS.open(token)


@given(st.integers(0, 60), st.characters(codec="ascii"))
def test_changed_token_does_not_open(at: int, to: str) -> None:
    token = KEYS.mint({}, None, LATER)
    at += len(PREFIX)
    if at < len(token) - 1 and to not in (token[at], "\n") and (to.isalnum() or to in "-_"):
        with pytest.raises(EphemeralKeyError):
            KEYS.open(token[:at] + to + token[at + 1 :])
