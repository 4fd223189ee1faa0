"""Ephemeral keys for browsers: sealed tokens that say until when a call may be made, and with which session.

A token carries everything, so any transceiver that has the same key opens it and none has to remember it. What is in
it (instructions, tools, a model's own key) is encrypted, because the token is given to a browser.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX: Final = "ek_sidetone_"
NONCE_BYTES: Final = 12
TOKEN_CHARS_MAX: Final = 32_768
"""It travels in a header; servers take 64 kB of those."""

TTL_S: Final = range(10, 7_201)
TTL_DEFAULT_S: Final = 600


class EphemeralKeyError(ValueError):
    """A token is not ours, or has expired; the words say which."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in a token.

    Attributes:
        session: fields of the session that it was made for.
        upstream: the model's own ephemeral key, if there is one.

    """

    session: Mapping[str, Any]
    upstream: str | None = field(default=None, repr=False)


class EphemeralKeys:
    """Makes and opens tokens.

    Args:
        key: secret that all transceivers of an installation share.

    """

    def __init__(self, key: bytes) -> None:
        self._seal = AESGCM(hmac.digest(key, b"sidetone ephemeral keys", "sha256"))

    def mint(self, session: Mapping[str, Any], upstream: str | None, expires_at: int) -> str:
        """Return a token that is good until `expires_at` (seconds since the epoch).

        Raises:
            EphemeralKeyError: the session is too large for a token.

        """
        plain = json.dumps({"exp": expires_at, "session": session, "upstream": upstream}).encode()
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._seal.encrypt(nonce, plain, PREFIX.encode())
        token = PREFIX + base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        if len(token) > TOKEN_CHARS_MAX:
            raise EphemeralKeyError("the session is too large for an ephemeral key; send the rest as session.update")
        return token

    def open(self, token: str) -> Opened:
        """Return what a token says.

        Raises:
            EphemeralKeyError: it is not ours, was changed, or has expired.

        """
        if not token.startswith(PREFIX) or len(token) > TOKEN_CHARS_MAX:
            raise EphemeralKeyError("that is no ephemeral key of this installation")
        text = token[len(PREFIX) :]
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            plain = self._seal.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], PREFIX.encode())
        except (binascii.Error, ValueError, InvalidTag):
            raise EphemeralKeyError("that is no ephemeral key of this installation") from None
        said = json.loads(plain)
        if said["exp"] <= time.time():
            raise EphemeralKeyError("the ephemeral key has expired; ask for a new one at /v1/realtime/client_secrets")
        return Opened(said["session"], said["upstream"])
