"""Numbers as RTCP carries them: integer jitter and round-trip time (RFC 3550 §6.4.1, A.8)."""

from __future__ import annotations

from typing import Final

_MOD: Final = 1 << 32
_HALF: Final = 1 << 31
_SHORT_NTP_S: Final = 1 / 65_536


class IntegerJitter:
    """Interarrival jitter by the integer arithmetic of RFC 3550 A.8, for report blocks."""

    def __init__(self) -> None:
        self.state = 0
        """Sixteen times the jitter, as A.8 keeps it."""
        self._transit: int | None = None

    def receive(self, arrival_ts: int, rtp_ts: int) -> int:
        """Take a packet's arrival and its timestamp, both in RTP units; return the jitter to report."""
        transit = arrival_ts - rtp_ts
        if self._transit is not None:
            difference = abs((transit - self._transit + _HALF) % _MOD - _HALF)
            self.state += difference - ((self.state + 8) >> 4)
        self._transit = transit
        return self.state >> 4


def round_trip_s(arrival: int, last_sr: int, delay_since_last_sr: int) -> float | None:
    """Round-trip time in seconds from a report block; None if the other side has had no sender report yet.

    All three in units of 1/65536 s: the middle 32 bits of the report's arrival in NTP time, LSR and DLSR. A result that
    comes out negative (clocks are coarse) is zero.
    """
    if not last_sr or not delay_since_last_sr:
        return None
    units = (arrival - last_sr - delay_since_last_sr) % _MOD
    return 0.0 if units >= _HALF else units * _SHORT_NTP_S
