"""Numbers as people read them: with their unit, and a dash where nothing is known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

UNKNOWN: Final = "—"
DIGITAL_SILENCE_DBOV: Final = -127
_THOUSAND: Final = 1000
_MINUTE_S: Final = 60


def count(value: int | None) -> str:
    """Return `1,234`."""
    return UNKNOWN if value is None else f"{value:,}"


def ms(value: float | None) -> str:
    """Return milliseconds without a fraction, `1,108 ms`; below ten with one, `4.9 ms`."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f} ms" if abs(value) >= 10 else f"{value:.1f} ms"  # noqa: PLR2004


def percent(value: float | None, digits: int = 2) -> str:
    """Return a ratio as a percentage, `1.68 %`."""
    return UNKNOWN if value is None else f"{value * 100:.{digits}f} %"


def rate(value: float | None) -> str:
    """Return events per turn as events per 100 turns, `26.5 per 100 turns`."""
    return UNKNOWN if value is None else f"{value * 100:.1f} per 100 turns"


def duration(value_ms: float | None) -> str:
    """Return `42.7 s` or `3 min 05 s`."""
    if value_ms is None:
        return UNKNOWN
    seconds = value_ms / _THOUSAND
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    return f"{minutes} min {rest:02d} s"


def kilobits(bits_per_s: float | None) -> str:
    """Return a bit rate, `28.8 kbit/s`."""
    return UNKNOWN if bits_per_s is None else f"{bits_per_s / _THOUSAND:.1f} kbit/s"


def moment(at_ns: int | None) -> str:
    """Return `2026-03-02 10:00:00 UTC`."""
    return UNKNOWN if at_ns is None else f"{when(at_ns):%Y-%m-%d %H:%M:%S} UTC"


def when(at_ns: int) -> datetime:
    """Return a moment as a datetime in UTC."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC)


def kind(name: str) -> str:
    """Return the name of a fact or an error in words, `late response`."""
    return name.replace("_", " ")


def leg(name: str) -> str:
    """Return a leg as its two ends, `client ⇄ edge`."""
    return name.replace("_", " ⇄ ")


def level(dbov: float | None) -> str:
    """Return an audio level, `-34 dBov`; digital silence by its name."""
    if dbov is None:
        return UNKNOWN
    return "digital silence" if dbov <= DIGITAL_SILENCE_DBOV else f"{dbov:.0f} dBov"


def thinned(kept: int | None, packets: int | None) -> str:
    """Return what to add to a caption where packet facts were thinned; nothing where all were kept."""
    if not kept or not packets or kept >= packets:
        return ""
    return f" · packet facts thinned: {kept / packets * 100:.0f} % kept, counts exact, jitter estimated"
