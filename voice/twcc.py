"""Transport-wide feedback: when each packet of a transport arrived, for a sender that estimates its bandwidth.

draft-holmer-rmcat-transport-wide-cc-extensions-01: packets carry a 16-bit number that counts over all streams of a
transport (§2), and the receiver tells for each number whether and when it came (§3.1), as RTCP transport-layer feedback
of format 15 (RFC 4585 §6.2). Times are in ticks of 250 µs, after a reference in units of 64 ms.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

URI: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
"""Of the header extension that carries the number."""

TICK_NS: Final = 250_000
REFERENCE_TICKS: Final = 256

WINDOW: Final = 512
"""Numbers that are remembered. At 50 packets a second it is ten seconds; a message on all of them has 1.2 kB."""

MESSAGES_MAX: Final = 4
"""Messages at a time: more are only needed for times that no delta can express, which a network does not make."""

_HEADER: Final = struct.Struct("!BBHIIHHI")
_PACKET_TYPE: Final = 205
_FORMAT: Final = 15
_VERSION: Final = 2
_PADDED: Final = 0x20
_NUMBER_MOD: Final = 1 << 16
_NUMBER_HALF: Final = 1 << 15
_REFERENCE_MOD: Final = 1 << 24
_COUNT_MOD: Final = 1 << 8
_LOST, _SMALL, _LARGE = 0, 1, 2  # §3.1.1
_SMALL_MAX: Final = 0xFF
_LARGE_MIN, _LARGE_MAX = -0x8000, 0x7FFF
_RUN_MAX: Final = 0x1FFF  # §3.1.3
_ONE_BIT: Final = 14  # symbols of a status vector, §3.1.4
_TWO_BIT: Final = 7
_VECTOR: Final = 0x8000
_TWO_BIT_VECTOR: Final = 0xC000


class TwccError(ValueError):
    """The bytes are not a well-formed feedback message."""


class Feedback(NamedTuple):
    """One message.

    Attributes:
        sender_ssrc: who sends the feedback.
        media_ssrc: a stream that it is about; the numbers are the transport's.
        base: first number, 0 … 65535.
        reference: 0 … 2²⁴-1, in units of 64 ms.
        serial: number of this message, 0 … 255.
        arrivals: for each number from `base` on, ticks after the reference time, or None: it has not come.

    """

    sender_ssrc: int
    media_ssrc: int
    base: int
    reference: int
    serial: int
    arrivals: tuple[int | None, ...]


class Recorder:
    """Arrivals on one transport, and what has been told of them.

    A packet that comes after later ones have been reported is reported with all that follow it, again. A number that
    is `WINDOW` or further from the highest begins anew: what was not reported by then never is.
    """

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}  # by unwrapped number
        self._highest: int | None = None
        self._next = 0  # first number that is to be reported
        self._count = 0

    def receive(self, number: int, arrival_ns: int) -> None:
        """Take a packet's number (16 bits) and its time of arrival, on any one clock. The first arrival counts."""
        highest = self._highest
        ahead = 0 if highest is None else (number - highest + _NUMBER_HALF) % _NUMBER_MOD - _NUMBER_HALF
        if highest is None or abs(ahead) >= WINDOW:
            self._ticks.clear()
            self._highest = highest = self._next = number
            ahead = 0
        at = highest + ahead
        if at in self._ticks:
            return
        self._ticks[at] = arrival_ns // TICK_NS
        self._next = min(self._next, at)
        if ahead > 0:
            self._highest = at
            for old in range(highest - WINDOW + 1, at - WINDOW + 1):
                self._ticks.pop(old, None)
            self._next = max(self._next, at - WINDOW + 1)

    def take(self, sender_ssrc: int, media_ssrc: int) -> list[Feedback]:
        """Return what there is to report, which is then held to be reported; empty if nothing has come."""
        if self._highest is None or self._next > self._highest:
            return []
        runs = self._runs(range(self._next, self._highest + 1))
        self._next = self._highest + 1
        messages = []
        for base, ticks in runs[:MESSAGES_MAX]:
            first = next(tick for tick in ticks if tick is not None)
            reference = first // REFERENCE_TICKS
            arrivals = tuple(None if tick is None else tick - reference * REFERENCE_TICKS for tick in ticks)
            messages.append(
                Feedback(
                    sender_ssrc,
                    media_ssrc,
                    base % _NUMBER_MOD,
                    reference % _REFERENCE_MOD,
                    self._count,
                    arrivals,
                )
            )
            self._count = (self._count + 1) % _COUNT_MOD
        return messages

    def _runs(self, numbers: range) -> list[tuple[int, list[int | None]]]:
        """Numbers and their times, begun anew wherever a delta would not fit; each holds one arrival at least."""
        runs: list[tuple[int, list[int | None]]] = [(numbers.start, [])]
        last: int | None = None
        for number in numbers:
            tick = self._ticks.get(number)
            if tick is not None:
                if last is not None and not _LARGE_MIN <= tick - last <= _LARGE_MAX:
                    runs.append((number, []))
                last = tick
            runs[-1][1].append(tick)
        return runs


def pack(feedback: Feedback) -> bytes:
    """Return the message as an RTCP packet.

    Raises:
        ValueError: there are no arrivals or more than 65,535, or two in a row are further apart than 16 bits of ticks.

    """
    if not 0 < len(feedback.arrivals) < _NUMBER_MOD:
        raise ValueError(f"{len(feedback.arrivals)} numbers in one message; 1 to {_NUMBER_MOD - 1} can be")
    symbols = []
    deltas = bytearray()
    last = 0
    for arrival in feedback.arrivals:
        if arrival is None:
            symbols.append(_LOST)
            continue
        delta, last = arrival - last, arrival
        if 0 <= delta <= _SMALL_MAX:
            symbols.append(_SMALL)
            deltas.append(delta)
        elif _LARGE_MIN <= delta <= _LARGE_MAX:
            symbols.append(_LARGE)
            deltas += delta.to_bytes(2, "big", signed=True)
        else:
            raise ValueError(f"{delta} ticks between two arrivals do not fit into 16 bits")
    body = b"".join(chunk.to_bytes(2, "big") for chunk in _chunks(symbols)) + deltas
    padding = -len(body) % 4
    if padding:  # RFC 3550 §6.4.1: the last octet counts them, itself included
        body += bytes(padding - 1) + bytes((padding,))
    first = _VERSION << 6 | (_PADDED if padding else 0) | _FORMAT
    size = _HEADER.size + len(body)
    header = _HEADER.pack(
        first,
        _PACKET_TYPE,
        size // 4 - 1,
        feedback.sender_ssrc,
        feedback.media_ssrc,
        feedback.base,
        len(feedback.arrivals),
        feedback.reference << 8 | feedback.serial,
    )
    return header + body


def parse(data: bytes) -> Feedback:
    """Read one RTCP packet.

    Raises:
        TwccError: it is no feedback of this format, or ends before what it announces.

    """
    if len(data) < _HEADER.size:
        raise TwccError(f"{len(data)} octets are shorter than a feedback message ({_HEADER.size})")
    first, kind, words, sender_ssrc, media_ssrc, base, statuses, rest = _HEADER.unpack_from(data)
    if first >> 6 != _VERSION or first & 0x1F != _FORMAT or kind != _PACKET_TYPE:
        raise TwccError(f"version {first >> 6}, type {kind}, format {first & 0x1F} is no transport-wide feedback")
    if (words + 1) * 4 != len(data):
        raise TwccError(f"a length of {words} words in a packet of {len(data)} octets")
    if not statuses:
        raise TwccError("feedback on no packet")
    end = len(data)
    if first & _PADDED:
        if not 0 < data[-1] <= end - _HEADER.size:
            raise TwccError(f"padding of {data[-1]} octets")
        end -= data[-1]
    at = _HEADER.size
    symbols: list[int] = []
    while len(symbols) < statuses:
        if at + 2 > end:
            raise TwccError(f"chunks for {len(symbols)} of {statuses} packets")
        symbols += _symbols(int.from_bytes(data[at : at + 2], "big"))
        at += 2
    arrivals = _arrivals(symbols[:statuses], data[at:end])
    return Feedback(sender_ssrc, media_ssrc, base, rest >> 8, rest & 0xFF, arrivals)


def _arrivals(symbols: list[int], deltas: bytes) -> tuple[int | None, ...]:
    arrivals: list[int | None] = []
    at = last = 0
    for symbol in symbols:
        if symbol == _LOST:
            arrivals.append(None)
            continue
        if symbol not in (_SMALL, _LARGE):
            raise TwccError("a reserved status")  # §3.1.1
        if at + symbol > len(deltas):
            raise TwccError(f"deltas of {len(deltas)} octets end too early")
        # A status is as many octets of delta, as it happens.
        last += int.from_bytes(deltas[at : at + symbol], "big", signed=symbol == _LARGE)
        at += symbol
        arrivals.append(last)
    return tuple(arrivals)


def _chunks(symbols: list[int]) -> list[int]:
    """Runs where they cover as much as a vector would, vectors of one bit where no large delta is near."""
    chunks = []
    at = 0
    while at < len(symbols):
        wide = _LARGE in symbols[at : at + _ONE_BIT]
        bits, places = (2, _TWO_BIT) if wide else (1, _ONE_BIT)
        ahead = symbols[at : at + places]
        run = 1
        while run < _RUN_MAX and at + run < len(symbols) and symbols[at + run] == symbols[at]:
            run += 1
        if run >= len(ahead):
            chunks.append(symbols[at] << 13 | run)
            at += run
            continue
        chunk = _TWO_BIT_VECTOR if wide else _VECTOR
        for place, symbol in enumerate(ahead):
            chunk |= symbol << (places - 1 - place) * bits
        chunks.append(chunk)
        at += len(ahead)
    return chunks


def _symbols(chunk: int) -> list[int]:
    if not chunk & _VECTOR:
        return [chunk >> 13] * (chunk & _RUN_MAX)
    bits, places = (2, _TWO_BIT) if chunk & (_TWO_BIT_VECTOR ^ _VECTOR) else (1, _ONE_BIT)
    mask = (1 << bits) - 1
    return [chunk >> (places - 1 - place) * bits & mask for place in range(places)]
