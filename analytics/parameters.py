"""What a person wrote, as the text that the store binds to `{name:Type}`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from analytics.errors import BadParameterError
from analytics.question import Parameter, Question

_RELATIVE = re.compile(r"^now(?:\s*(?P<sign>[+-])\s*(?P<count>\d+)\s*(?P<unit>[smhd]))?$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BILLION = 1_000_000_000
_EARLIEST_NS = -2_208_988_800 * _BILLION
_LATEST_NS = 9_214_646_400 * _BILLION
"""1900 and 2262: what DateTime64(9) holds, with room for the margins that questions look at."""
_FRACTION = re.compile(r"[.,](?P<digits>\d+)")


def time_ns(value: Any, now_ns: int) -> int:
    """Return a moment as nanoseconds since the Unix epoch.

    Args:
        value: integer nanoseconds, a datetime (UTC if it names no zone), `now`, `now-15m`, or ISO 8601 text.
        now_ns: what `now` means.

    Raises:
        ValueError: it is none of these.

    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, datetime):
        return _datetime_ns(value)
    text = str(value).strip()
    if re.fullmatch(r"-?\d{12,}", text):
        return int(text)
    if match := _RELATIVE.match(text):
        shift = int(match["count"] or 0) * _SECONDS[match["unit"] or "s"] * _BILLION
        return now_ns - shift if match["sign"] == "-" else now_ns + shift
    # datetime keeps microseconds only: the fraction is read apart so that nanoseconds survive.
    fraction = _FRACTION.search(text)
    digits = (fraction["digits"] if fraction else "").ljust(9, "0")[:9]
    whole = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    return _datetime_ns(whole) + int(digits)


def _datetime_ns(value: datetime) -> int:
    at = value if value.tzinfo else value.replace(tzinfo=UTC)
    delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * _BILLION + delta.microseconds * 1000


def time_text(at_ns: int) -> str:
    """Return nanoseconds since the epoch as the UTC text that DateTime64(9, 'UTC') reads, to the nanosecond."""
    seconds, fraction = divmod(at_ns, _BILLION)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{fraction:09d}"


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Iterable):
        return [str(part) for part in value]
    raise ValueError(f"{value!r} is not a list")


def _flag(value: Any) -> bool:
    said = str(value).strip().lower()
    if said in {"1", "true", "yes"}:
        return True
    if said in {"0", "false", "no", ""}:
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def _unsigned(value: Any, bits: int) -> int:
    number = int(value)
    if number < 0:
        raise ValueError(f"{value!r} is negative")
    if number >> bits:
        raise ValueError(f"{value!r} is above {2**bits - 1}")  # the store would take what is left of it modulo that
    return number


def _moment(value: Any, now_ns: int) -> str:
    at_ns = time_ns(value, now_ns)
    if not _EARLIEST_NS <= at_ns < _LATEST_NS:
        raise ValueError(f"{value!r} is out of the store's range")
    return time_text(at_ns)


def _session(value: Any) -> str:
    """Return a call's id as the store writes it; empty stands for all."""
    text = str(value).strip()
    return str(uuid.UUID(text)) if text else ""


_READERS: dict[str, Callable[[Any], Any]] = {
    "String": str,
    "UUID": lambda value: str(uuid.UUID(str(value))),
    "Array(String)": _texts,
    "Bool": _flag,
    "UInt32": lambda value: _unsigned(value, 32),
    "UInt64": lambda value: _unsigned(value, 64),
    "Float64": float,
}


def bind(question: Question, given: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
    """Return a value for every parameter of a question, defaults filled in.

    Times become UTC text; lists, numbers and texts their Python selves.

    Raises:
        BadParameterError: a parameter is unknown, missing, not of its type, or the window is empty.

    """
    known = {parameter.name for parameter in question.parameters}
    if unknown := sorted(set(given) - known):
        takes = ", ".join(sorted(known)) or "no parameters"
        raise BadParameterError(f"{question.name} does not know {', '.join(unknown)}; it takes {takes}")
    bound = {parameter.name: _read(question, parameter, given, now_ns) for parameter in question.parameters}
    if "from" in bound and "to" in bound and bound["from"] >= bound["to"]:
        raise BadParameterError(f"{question.name}: from ({bound['from']}) must lie before to ({bound['to']})")
    return bound


def _read(question: Question, parameter: Parameter, given: Mapping[str, Any], now_ns: int) -> Any:
    value = given.get(parameter.name, parameter.default)
    if value is None:
        raise BadParameterError(f"{question.name} needs {parameter.name}: {parameter.description}")
    try:
        if parameter.type.startswith("DateTime64"):
            return _moment(value, now_ns)
        if (parameter.name, parameter.type) == ("session", "String"):
            return _session(value)
        return _READERS[parameter.type](value)
    except (ValueError, TypeError, OverflowError) as error:
        if parameter.type.startswith("DateTime64"):
            raise BadParameterError(
                f"{question.name}: {parameter.name} is {value!r}, which is no time ({parameter.description}): write "
                "now, now-15m, ISO 8601 such as 2026-03-02T10:00:00, or nanoseconds since 1970; years 1900 to 2261"
            ) from error
        kind = "UUID" if parameter.name == "session" else parameter.type
        raise BadParameterError(
            f"{question.name}: {parameter.name} is {value!r}, which is no {kind} ({parameter.description}): {error}"
        ) from error
