"""DTLS by aiortc; SRTP at once, in the turn of the loop in which the datagram was read.

aiortc queues every datagram for a task and stamps it after the queue. Here only DTLS records take that way; SRTP and
SRTCP are unprotected where they arrive, so that kernel times stay with their packets and no task runs per packet.
"""

from __future__ import annotations

from array import array
from typing import Final

import pylibsrtp
from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceTransport
from aiortc.rtp import is_rtcp

_REPLAYED: Final = "replay check failed (bad index)"
"""libsrtp's words for a sequence number that it has already seen, which it looks at before the signature."""
_NUMBERS: Final = 1024
"""As many as aiortc has libsrtp remember."""


class Replayed(Exception):  # noqa: N818 - nothing is wrong: the network delivered a packet twice
    """The very same bytes were received before."""


class MediaDtlsTransport(RTCDtlsTransport):
    """A DTLS transport whose media bypasses its queue."""

    def __init__(self, transport: RTCIceTransport, certificate: RTCCertificate) -> None:
        super().__init__(transport, [certificate])
        self._received = array("q", bytes(8 * _NUMBERS))
        """By sequence number, a digest of the packet that came last, as it was protected."""

    @property
    def ready(self) -> bool:
        """Whether media can be protected and unprotected."""
        return self.state == "connected"

    def set_role(self, role: str) -> None:
        """Be `client` or `server` of the handshake, as the answer said."""
        self._set_role(role)

    def is_rtcp(self, plain: bytes) -> bool:
        """Whether an unprotected packet is RTCP (RFC 5761, section 4)."""
        return is_rtcp(plain)

    def unprotect(self, data: bytes) -> bytes | None:
        """Return the RTP or RTCP in a datagram; None if it is not authentic or keys are not there yet.

        Raises:
            Replayed: an RTP packet came twice. One that only has the number of another is not authentic.

        """
        if self._rx_srtp is None or len(data) < 12:  # noqa: PLR2004 - an RTP header (RFC 3550, section 5.1)
            return None
        number = (data[2] << 8 | data[3]) % _NUMBERS
        try:
            if is_rtcp(data):
                return bytes(self._rx_srtp.unprotect_rtcp(data))
            plain = bytes(self._rx_srtp.unprotect(data))
        except pylibsrtp.Error as error:
            if str(error) == _REPLAYED and not is_rtcp(data) and self._received[number] == hash(data):
                raise Replayed from error
            return None
        except ValueError:  # longer than libsrtp's buffer, which no voice packet is
            return None
        self._received[number] = hash(data)
        return plain

    def protect(self, data: bytes) -> bytes:
        """Return the SRTP or SRTCP of a packet of ours. Only when `ready`."""
        if is_rtcp(data):
            return bytes(self._tx_srtp.protect_rtcp(data))
        return bytes(self._tx_srtp.protect(data))
