from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ufrag import UfragError, check_keys, mint, verify

ICE_CHARS = string.ascii_letters + string.digits + "+/"
KEY = bytes(range(32))
OLD_KEY = bytes(range(32, 64))
UFRAG = mint("eu+1", KEY, 3, b"12345")


@given(
    st.text(ICE_CHARS, min_size=4, max_size=4),
    st.binary(min_size=16, max_size=64),
    st.integers(0, 15),
    st.binary(min_size=5),
)
def test_a_minted_ufrag_verifies(code: str, key: bytes, key_id: int, random: bytes) -> None:
    ufrag = mint(code, key, key_id, random)
    assert len(ufrag) == 19
    assert set(ufrag) <= set(ICE_CHARS)
    verified = verify(ufrag, {key_id: key})
    assert (verified.transceiver, verified.key_id, verified.text) == (code, key_id, ufrag)


@given(st.text(max_size=40))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(UfragError):
        verify(text, {3: KEY})


@pytest.mark.parametrize("at", range(19))
def test_every_character_is_covered_by_the_signature(at: int) -> None:
    other = "A" if UFRAG[at] != "A" else "B"
    with pytest.raises(UfragError):
        verify(UFRAG[:at] + other + UFRAG[at + 1 :], dict.fromkeys(range(16), KEY))


def test_two_keys_live_side_by_side_while_one_is_rotated_out() -> None:
    keys = {3: KEY, 4: OLD_KEY}
    assert verify(UFRAG, keys).key_id == 3
    assert verify(mint("eu+1", OLD_KEY, 4, b"12345"), keys).key_id == 4


@pytest.mark.parametrize(
    ("ufrag", "keys", "reason"),
    [
        (UFRAG[:-1], {3: KEY}, "malformed"),
        (UFRAG[:-1] + ":", {3: KEY}, "malformed"),
        ("/" + UFRAG[1:], {3: KEY}, "version"),
        (UFRAG, {4: KEY}, "unknown_key"),
        (UFRAG, {3: OLD_KEY}, "bad_mac"),
    ],
)
def test_the_reason_is_machine_readable(ufrag: str, keys: dict[int, bytes], reason: str) -> None:
    with pytest.raises(UfragError) as caught:
        verify(ufrag, keys)
    assert caught.value.reason == reason


def test_random_bits_tell_sessions_apart() -> None:
    assert len({mint("eu+1", KEY, 3, bytes((n, 0, 0, 0, n))) for n in range(256)}) == 256


@pytest.mark.parametrize(
    ("code", "key", "key_id", "random"),
    [
        ("eu1", KEY, 3, b"12345"),
        ("eu_1", KEY, 3, b"12345"),
        ("eu01", b"short", 3, b"12345"),
        ("eu01", KEY, 16, b"12345"),
        ("eu01", KEY, 3, b"1234"),
    ],
)
def test_bad_arguments_are_refused(code: str, key: bytes, key_id: int, random: bytes) -> None:
    with pytest.raises(ValueError, match=r"ufrag|transceiver code"):
        mint(code, key, key_id, random)


def test_an_edge_needs_a_key() -> None:
    with pytest.raises(ValueError, match="no ufrag key"):
        check_keys({})
