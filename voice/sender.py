"""How to send voice over the network that receiver reports describe: bit rate, redundancy, packet length.

The policy is a table of thresholds with hysteresis; reports come once a second or so (RFC 3550 §6.2).

- **Redundancy** (in-band FEC): on from 1 % smoothed loss, off after ten seconds under 0.3 %. The loss told to the
  encoder is the next higher of a few steps, for the encoder pays for it with quality. A call begins with it on, because
  nothing is known.
- **Bit rate**: a tenth less, at most once in two seconds, while over 10 % are lost or the queue on the way grows (round
  trip 80 ms and half over the best of the last minute, so that a caller's longer way after a change of networks is no
  queue for ever); a twentieth more, every five seconds, while less than 2 % are lost and no queue stands. Between them
  nothing is done: loss alone, without a queue, is not made better by sending less (the bounds are those of the
  loss-based controller in draft-ietf-rmcat-gcc-02 §6).
- **Packet length**: only when the lowest rate is reached and the queue still stands: 40 ms, then 60, where the other
  side takes it; 20 again after twenty good seconds. At 12 kbit/s headers are two thirds of the wire.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Final, NamedTuple

LOSS_STEPS: Final = (0, 2, 5, 10, 20, 30)
"""Percent that the encoder is told to expect."""

PTIMES_MS: Final = (20, 40, 60)

_MS: Final = 1_000_000
_FEC_ON: Final = 0.01
_FEC_OFF: Final = 0.003
_FEC_HOLD_NS: Final = 10_000 * _MS
_RISE: Final = 0.5  # of a new report in the smoothed loss when it is more
_FALL: Final = 0.1
_LOSS_HIGH: Final = 0.10
_LOSS_LOW: Final = 0.02
_QUEUE_MS: Final = 80.0
_QUEUE_RATIO: Final = 1.5
_BEST_HALF_NS: Final = 30_000 * _MS  # the best round trip is that of the last one or two halves
_LESS: Final = 0.9
_LESS_NS: Final = 2_000 * _MS
_MORE: Final = 1.05
_MORE_NS: Final = 5_000 * _MS
_LONGER_NS: Final = 5_000 * _MS
_SHORTER_NS: Final = 20_000 * _MS


class Report(NamedTuple):
    """What a receiver says of our stream.

    Attributes:
        at_ns: when it came, on any one clock.
        fraction_lost: 0 … 1, since its last report.
        rtt_ms: round trip; None if unknown.
        jitter_ms: interarrival jitter (RFC 3550 A.8).

    """

    at_ns: int
    fraction_lost: float
    rtt_ms: float | None
    jitter_ms: float


@dataclass(frozen=True, slots=True)
class SenderConfig:
    """Bounds.

    Attributes:
        bitrate_bps: to begin with, and at most.
        min_bitrate_bps: at least; less than speech in wide band needs is not worth sending.
        max_ptime_ms: longest packet that the other side takes (`a=maxptime`).
        adapt: False keeps the beginning's settings for ever.

    """

    bitrate_bps: int = 32_000
    min_bitrate_bps: int = 12_000
    max_ptime_ms: int = 60
    adapt: bool = True


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How to send from now on."""

    bitrate_bps: int
    fec: bool
    expected_loss_percent: int
    ptime_ms: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A change, with everything that it rests on: enough to make it again."""

    report: Report
    smoothed_loss: float
    best_rtt_ms: float | None
    queued: bool
    before: SenderSettings
    after: SenderSettings

    def as_fact(self) -> dict[str, object]:
        """Inputs and outcome, for JSON."""
        inputs: dict[str, object] = dict(self.report._asdict())
        inputs |= {
            "smoothed_loss": round(self.smoothed_loss, 5),
            "best_rtt_ms": self.best_rtt_ms,
            "queued": self.queued,
        }
        return {"inputs": inputs, "before": asdict(self.before), "after": asdict(self.after)}


class Sender:
    """One stream's policy. Reports must come in order of time."""

    def __init__(self, config: SenderConfig | None = None) -> None:
        self.config = config or SenderConfig()
        self.settings = SenderSettings(self.config.bitrate_bps, fec=True, expected_loss_percent=5, ptime_ms=20)
        self._loss = 0.0
        self._best_rtt_ms: float | None = None  # of this half of the window
        self._previous_best_rtt_ms: float | None = None
        self._half_began_ns: int | None = None
        self._calm_since_ns: int | None = None  # loss under the lower threshold of redundancy
        self._clear_since_ns: int | None = None  # no queue, little loss
        self._queued_since_ns: int | None = None
        self._rate_changed_ns = 0
        self._ptime_changed_ns = 0

    def report(self, report: Report) -> Decision | None:
        """Take a report; return what changes, None if nothing does."""
        if not self.config.adapt:
            return None
        weight = _RISE if report.fraction_lost > self._loss else _FALL
        self._loss += (report.fraction_lost - self._loss) * weight
        best_rtt_ms = self._best(report)
        queued = _queued(report, best_rtt_ms)
        self._remember(report, queued=queued)
        before = self.settings
        self.settings = self._length(self._rate(self._redundancy(before, report.at_ns), report, queued=queued), report)
        if self.settings == before:
            return None
        return Decision(report, self._loss, best_rtt_ms, queued, before, self.settings)

    def _best(self, report: Report) -> float | None:
        if report.rtt_ms is not None:
            if self._half_began_ns is None or report.at_ns - self._half_began_ns >= _BEST_HALF_NS:
                self._previous_best_rtt_ms, self._best_rtt_ms = self._best_rtt_ms, report.rtt_ms
                self._half_began_ns = report.at_ns
            if self._best_rtt_ms is None or report.rtt_ms < self._best_rtt_ms:
                self._best_rtt_ms = report.rtt_ms
        known = [rtt_ms for rtt_ms in (self._previous_best_rtt_ms, self._best_rtt_ms) if rtt_ms is not None]
        return min(known, default=None)

    def _remember(self, report: Report, *, queued: bool) -> None:
        now_ns = report.at_ns
        calm = self._loss < _FEC_OFF
        clear = not queued and self._loss < _LOSS_LOW
        self._calm_since_ns = (self._calm_since_ns or now_ns) if calm else None
        self._clear_since_ns = (self._clear_since_ns or now_ns) if clear else None
        self._queued_since_ns = (self._queued_since_ns or now_ns) if queued else None

    def _redundancy(self, settings: SenderSettings, now_ns: int) -> SenderSettings:
        calm = self._calm_since_ns is not None and now_ns - self._calm_since_ns >= _FEC_HOLD_NS
        if calm:
            return replace(settings, fec=False, expected_loss_percent=0)
        if self._loss < _FEC_ON and not settings.fec:
            return settings
        percent = self._loss * 100
        wanted = next((step for step in LOSS_STEPS if step >= percent and step), LOSS_STEPS[-1])
        current = settings.expected_loss_percent
        # Up at once; down a step only when the loss is well inside it.
        if self._loss >= _FEC_ON and (wanted > current or percent < 0.7 * wanted):
            current = max(wanted, LOSS_STEPS[1])
        return replace(settings, fec=True, expected_loss_percent=current)

    def _rate(self, settings: SenderSettings, report: Report, *, queued: bool) -> SenderSettings:
        since_ns = report.at_ns - self._rate_changed_ns
        rate = settings.bitrate_bps
        if (queued or self._loss > _LOSS_HIGH) and since_ns >= _LESS_NS:
            rate = max(self.config.min_bitrate_bps, round(rate * _LESS))
        elif self._clear_since_ns is not None and report.at_ns - self._clear_since_ns >= _MORE_NS <= since_ns:
            rate = min(self.config.bitrate_bps, round(rate * _MORE))
        if rate == settings.bitrate_bps:
            return settings
        self._rate_changed_ns = report.at_ns
        return replace(settings, bitrate_bps=rate)

    def _length(self, settings: SenderSettings, report: Report) -> SenderSettings:
        now_ns = report.at_ns
        at = PTIMES_MS.index(settings.ptime_ms)
        wanted = settings.ptime_ms
        if self._queued_since_ns is not None and settings.bitrate_bps <= self.config.min_bitrate_bps:
            longer = at + 1 < len(PTIMES_MS) and PTIMES_MS[at + 1] <= self.config.max_ptime_ms
            if longer and now_ns - max(self._queued_since_ns, self._ptime_changed_ns) >= _LONGER_NS:
                wanted = PTIMES_MS[at + 1]
        elif self._clear_since_ns is not None and now_ns - self._clear_since_ns >= _SHORTER_NS:
            wanted = PTIMES_MS[0]
        if wanted == settings.ptime_ms:
            return settings
        self._ptime_changed_ns = now_ns
        return replace(settings, ptime_ms=wanted)


def _queued(report: Report, best_rtt_ms: float | None) -> bool:
    if report.rtt_ms is None or best_rtt_ms is None:
        return False
    return report.rtt_ms > best_rtt_ms + _QUEUE_MS and report.rtt_ms > best_rtt_ms * _QUEUE_RATIO
