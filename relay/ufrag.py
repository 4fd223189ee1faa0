"""Signed ICE username fragments: the server's ufrag names the transceiver, so a STUN request needs no look-up.

    char 0       version (2 bits) and key id (4 bits)
    chars 1-4    transceiver code
    chars 5-10   random, 36 bits: tells sessions of one transceiver apart
    chars 11-18  HMAC-SHA-256 over all before it, truncated to 48 bits

All 19 are ice-chars (RFC 8445, section 5.3), six bits each. A ufrag travels in clear and so carries no authority: it
only chooses among allow-listed transceivers and keeps strangers from making an edge allocate anything. The
transceiver still checks MESSAGE-INTEGRITY with the session's password.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

UFRAG_CHARS: Final = 19
CODE_CHARS: Final = 4
KEY_BYTES_MIN: Final = 16
KEY_IDS: Final = 16
RANDOM_BYTES: Final = 5

_VERSION: Final = 0
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}
_RANDOM_CHARS: Final = 6
_MAC_CHARS: Final = 8
_SIGNED_CHARS: Final = UFRAG_CHARS - _MAC_CHARS
_CONTEXT: Final = b"sidetone ufrag\0"  # keeps this MAC apart from any other use of the key


class UfragError(ValueError):
    """The ufrag is not ours. `reason` is one of `malformed`, `version`, `unknown_key`, `bad_mac`."""

    def __init__(self, reason: str, detail: str) -> None:
        """`detail` says it to a person."""
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Ufrag:
    """A verified ufrag."""

    text: str
    transceiver: str
    key_id: int


def key_id_of(key: bytes) -> int:
    """Return the id that a key goes by unless told otherwise: from the key itself, so that all who share it agree."""
    return hmac.digest(key, b"sidetone ufrag key id\0", "sha256")[0] % KEY_IDS


def keyring(current: bytes, previous: bytes | None = None) -> dict[int, bytes]:
    """Return keys by id, the one to sign with first.

    Raises:
        ValueError: a key is too short, or two different ones have the same id (one pair in sixteen does).

    """
    keys = {key_id_of(current): current}
    if previous is not None and previous != current:
        if key_id_of(previous) in keys:
            raise ValueError("both ufrag keys have the same key id, as one pair in sixteen has; make another key")
        keys[key_id_of(previous)] = previous
    check_keys(keys)
    return keys


def mint(transceiver: str, key: bytes, key_id: int, random: bytes) -> str:
    """Return a ufrag that names `transceiver`.

    Args:
        transceiver: the transceiver's code, four ice-chars.
        key: shared by transceivers and edges, at least 16 bytes.
        key_id: 0 … 15, under which edges know the key.
        random: at least 5 unpredictable bytes (`secrets.token_bytes(5)`), of which 36 bits are used.

    Raises:
        ValueError: an argument is not as described.

    """
    check_code(transceiver)
    _check_key(key_id, key)
    if len(random) < RANDOM_BYTES:
        raise ValueError(f"a ufrag takes {RANDOM_BYTES} random bytes, not {len(random)}")
    nonce = _encode(int.from_bytes(random[:RANDOM_BYTES], "big") >> 4, _RANDOM_CHARS)
    signed = _ALPHABET[_VERSION << 4 | key_id] + transceiver + nonce
    return signed + _mac(signed, key)


def verify(ufrag: str, keys: Mapping[int, bytes]) -> Ufrag:
    """Return what a ufrag says, if it was minted with one of `keys` (key id → key).

    Raises:
        UfragError: it was not, or it is no ufrag of ours at all.

    """
    if len(ufrag) != UFRAG_CHARS or not all(char in _VALUES for char in ufrag):
        raise UfragError("malformed", f"a ufrag is {UFRAG_CHARS} ice-chars, which this is not: {ufrag[:32]!r}")
    version, key_id = divmod(_VALUES[ufrag[0]], KEY_IDS)
    if version != _VERSION:
        raise UfragError("version", f"ufrag version {version} is not known here, only {_VERSION}")
    key = keys.get(key_id)
    if key is None:
        raise UfragError("unknown_key", f"no key with id {key_id} is configured")
    signed = ufrag[:_SIGNED_CHARS]
    if not hmac.compare_digest(_mac(signed, key), ufrag[_SIGNED_CHARS:]):
        raise UfragError("bad_mac", f"the signature of ufrag {ufrag!r} is wrong")
    return Ufrag(ufrag, signed[1 : 1 + CODE_CHARS], key_id)


def check_code(code: str) -> None:
    """Raise ValueError unless `code` is four ice-chars."""
    if len(code) != CODE_CHARS or not all(char in _VALUES for char in code):
        raise ValueError(f"a transceiver code is {CODE_CHARS} of A-Z a-z 0-9 + /, which {code!r} is not")


def check_keys(keys: Mapping[int, bytes]) -> None:
    """Raise ValueError unless there is a key, every id is within 0 … 15 and every key has at least 16 bytes."""
    if not keys:
        raise ValueError("no ufrag key is configured; give at least one, shared with the transceivers")
    for key_id, key in keys.items():
        _check_key(key_id, key)


def _check_key(key_id: int, key: bytes) -> None:
    if not 0 <= key_id < KEY_IDS:
        raise ValueError(f"a ufrag key id is within 0 … {KEY_IDS - 1}, which {key_id} is not")
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"ufrag key {key_id} has {len(key)} bytes; give it at least {KEY_BYTES_MIN}")


def _mac(signed: str, key: bytes) -> str:
    digest = hmac.digest(key, _CONTEXT + signed.encode("ascii"), "sha256")
    return _encode(int.from_bytes(digest[:6], "big"), _MAC_CHARS)


def _encode(value: int, chars: int) -> str:
    return "".join(_ALPHABET[value >> shift & 0x3F] for shift in range(6 * (chars - 1), -1, -6))
