"""As much of STUN (RFC 8489) as routing needs: what kind of message it is, its transaction, and its USERNAME.

Every length is checked before it is used, and nothing but `StunError` is ever raised, whatever the bytes. No
authentication happens here: an edge has no session password; the transceiver checks MESSAGE-INTEGRITY.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

HEADER_BYTES: Final = 20
MAGIC_COOKIE: Final = b"\x21\x12\xa4\x42"
BINDING: Final = 0x001

_CLASS_BITS: Final = 0x0110  # RFC 8489, section 5, figure 3: class bits C1 and C0 among the method's bits
_ATTRIBUTE_HEADER_BYTES: Final = 4
_USERNAME: Final = 0x0006
_MESSAGE_INTEGRITY: Final = (0x0008, 0x001C)  # SHA-1 and SHA-256
_USERNAME_BYTES_MAX: Final = 513  # RFC 8489, section 14.3: fewer than 509; RFC 5389 allowed 513


class StunError(ValueError):
    """The bytes are no well-formed STUN message. The message says why."""


class StunClass(Enum):
    """A message's class, as its bits stand in the type field."""

    REQUEST = 0x0000
    INDICATION = 0x0010
    SUCCESS = 0x0100
    ERROR = 0x0110


class Stun(NamedTuple):
    """A message, read as far as needed. `username` is None unless it comes before MESSAGE-INTEGRITY."""

    kind: StunClass
    method: int
    transaction_id: bytes
    username: str | None

    @property
    def is_binding_request(self) -> bool:
        """Whether this is an ICE connectivity or consent check."""
        return self.kind is StunClass.REQUEST and self.method == BINDING


def read(data: bytes) -> Stun:
    """Read a message that fills `data` from end to end.

    Raises:
        StunError: it is not well-formed.

    """
    size = len(data)
    if size < HEADER_BYTES:
        raise StunError(f"{size} bytes are too few for a STUN header")
    kind = data[0] << 8 | data[1]
    if kind & 0xC000 or data[4:8] != MAGIC_COOKIE:
        raise StunError("no STUN message: first bits or magic cookie differ")
    length = data[2] << 8 | data[3]
    if length % 4 or HEADER_BYTES + length != size:
        raise StunError(f"the header speaks of {length} bytes of attributes, {size - HEADER_BYTES} are there")
    # RFC 8489, section 5: the method's 12 bits stand around the two class bits.
    method = kind & 0x000F | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2
    return Stun(StunClass(kind & _CLASS_BITS), method, data[8:20], _username(data, size))


def _username(data: bytes, size: int) -> str | None:
    username: str | None = None
    at = HEADER_BYTES
    while at < size:
        if size - at < _ATTRIBUTE_HEADER_BYTES:
            raise StunError(f"an attribute is cut off at byte {at}")
        attribute = data[at] << 8 | data[at + 1]
        length = data[at + 2] << 8 | data[at + 3]
        start = at + _ATTRIBUTE_HEADER_BYTES
        at = start + (length + 3 & ~3)  # values are padded to four bytes
        if at > size:
            raise StunError(f"attribute {attribute:#06x} of {length} bytes runs past the end")
        if attribute in _MESSAGE_INTEGRITY:
            break  # RFC 8489, section 14.5: what follows it is not covered and must be ignored
        if attribute == _USERNAME and username is None:
            if length > _USERNAME_BYTES_MAX:
                raise StunError(f"a USERNAME of {length} bytes is longer than {_USERNAME_BYTES_MAX}")
            try:
                username = data[start : start + length].decode("utf-8")
            except UnicodeDecodeError as error:
                raise StunError("USERNAME is not UTF-8") from error
    return username
