"""Offer and answer, as far as a caller behind an impaired network must change them."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from relay.caller.network import Address, NetworkError

_CANDIDATE: Final = re.compile(
    r"^a=candidate:(\S+ 1 udp \d+) (\S+) (\d+) typ (host)\b.*$", re.IGNORECASE | re.MULTILINE
)
"""RFC 8839 §5.1, RTP component, UDP, host: foundation to priority, address, port."""


def unreachable(sdp: str) -> str:
    """The offer without the caller's addresses: nobody shall find a way to it that goes past its network."""
    hidden = ("a=candidate:", "a=end-of-candidates")
    return "".join(f"{line}\r\n" for line in sdp.splitlines() if not line.startswith(hidden))


def edge_address(sdp: str) -> Address:
    """The edge that the answer advertises: its first host candidate on loopback.

    Raises:
        NetworkError: the answer has none.

    """
    seen = []
    for match in _CANDIDATE.finditer(sdp):
        host, port = match[2], int(match[3])
        seen.append(f"{host}:{port}")
        try:
            if ipaddress.ip_address(host).is_loopback:
                return host, port
        except ValueError:
            continue  # an mDNS name (RFC 8828), which no edge of ours advertises
    raise NetworkError(
        f"the answer advertises no edge on loopback ({', '.join(seen) or 'no UDP host candidate at all'}); "
        "synthetic callers only call edges on this machine"
    )


def through(sdp: str, near: Address) -> str:
    """The answer with one candidate, at the near side of an impaired network, in place of each section's own."""
    lines = []
    placed = False
    for line in sdp.splitlines():
        if line.startswith("m="):
            placed = False
        if not line.startswith("a=candidate:"):
            lines.append(line)
        elif not placed and (match := _CANDIDATE.match(line)):
            lines.append(f"a=candidate:{match[1]} {near[0]} {near[1]} typ host")
            placed = True
    return "\r\n".join(lines) + "\r\n"
