"""What an Opus packet says undecoded (RFC 6716): its length, whether it repairs the one before it, and is it voice."""

from __future__ import annotations

from typing import Final

_SILK_MS: Final = (10.0, 20.0, 40.0, 60.0)  # RFC 6716 table 2, configurations 0-11
_HYBRID_MS: Final = (10.0, 20.0)  # 12-15
_CELT_MS: Final = (2.5, 5.0, 10.0, 20.0)  # 16-31
_FIRST_HYBRID: Final = 12
_FIRST_CELT: Final = 16
_SILK_FRAME_MS: Final = 20.0
_TWO_OCTET_LENGTH: Final = 252  # RFC 6716 §3.2.1
_MAX_PACKET_MS: Final = 120.0  # RFC 6716 §3.2.5 [R5]


def frame_ms(toc: int) -> float:
    """Duration of each frame of a packet with this TOC octet, in ms (RFC 6716 §3.1)."""
    configuration = toc >> 3
    if configuration < _FIRST_HYBRID:
        return _SILK_MS[configuration % 4]
    if configuration < _FIRST_CELT:
        return _HYBRID_MS[configuration % 2]
    return _CELT_MS[configuration % 4]


def duration_ms(packet: bytes) -> float | None:
    """Duration of a packet in ms; None if it is not a valid packet as far as its first two octets show."""
    if not packet:
        return None
    in_second_octet = packet[1] & 0x3F if len(packet) > 1 else 0  # RFC 6716 §3.2.5
    frames = (1, 2, 2, in_second_octet)[packet[0] & 0x03]
    total = frames * frame_ms(packet[0])
    return total if 0.0 < total <= _MAX_PACKET_MS else None


def has_fec(packet: bytes) -> bool:
    """Say whether a packet carries in-band FEC (LBRR) of the packet before it (RFC 6716 §4.2.3, §4.2.4).

    The flag sits in the first bits of the first SILK frame: per channel one voice flag for each 20 ms, then the LBRR
    flag. CELT-only packets have none. A malformed packet says False.
    """
    flags = _silk_flags(packet)
    if flags is None:
        return False
    head, silk_frames = flags
    mid = head >> (7 - silk_frames) & 1
    stereo = packet[0] & 0x04
    side = head >> (6 - 2 * silk_frames) & 1 if stereo else 0
    return bool(mid or side)


def is_voiced(packet: bytes) -> bool | None:
    """Say whether the sender's encoder took a packet for voice (RFC 6716 §4.2.3); None where packets do not say.

    One flag for each 20 ms of the first SILK frame, of the mid channel; CELT-only packets have none. A packet of
    nothing but its TOC octet is an encoder's DTX (§2.1.9, §3.2.1): no voice in any mode.
    """
    if len(packet) == 1:
        return False
    flags = _silk_flags(packet)
    if flags is None:
        return None
    head, silk_frames = flags
    return bool(head >> (8 - silk_frames))


def _silk_flags(packet: bytes) -> tuple[int, int] | None:
    """Return the first octet of the first SILK frame and how many voice flags it begins with."""
    if not packet or packet[0] >> 3 >= _FIRST_CELT:
        return None
    start = _first_frame(packet)
    if start is None or start >= len(packet):
        return None
    return packet[start], max(1, int(frame_ms(packet[0]) / _SILK_FRAME_MS))


def _first_frame(packet: bytes) -> int | None:
    """Offset of the first frame's first octet, or None if that frame is empty or the packet too short (§3.2)."""
    code = packet[0] & 0x03
    if code in (0, 1):
        return 1
    at = 1
    lengths = 1  # code 2: the first of two frames has its length before it
    if code == 3:  # noqa: PLR2004
        if len(packet) < 2:  # noqa: PLR2004
            return None
        count = packet[1]
        at = 2
        if count & 0x40:  # padding: every 255 is followed by another length octet
            while at < len(packet) and packet[at] == 255:  # noqa: PLR2004
                at += 1
            at += 1
        lengths = (count & 0x3F) - 1 if count & 0x80 else 0
    for frame in range(lengths):
        if at >= len(packet):
            return None
        if frame == 0 and packet[at] == 0:
            return None
        at += 2 if packet[at] >= _TWO_OCTET_LENGTH else 1
    return at
