"""What a transceiver counts: plain integers on the hot path, Prometheus families when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

LATENESS_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


class Counters(Collector):
    """The counts of one transceiver. No session is ever named: labels stay few."""

    def __init__(self) -> None:
        self.sessions = 0
        self.packets: Counter[str] = Counter()  # tap
        self.underruns = 0
        self.deaf_frames = 0  # of the user's, that a model failed to hear
        self.closed: Counter[tuple[str, ...]] = Counter()  # who, reason
        self.refused: Counter[str] = Counter()  # offers, by reason
        self.messages: Counter[str] = Counter()  # from clients by data channel, by verdict
        self.speculations: Counter[str] = Counter()  # answers asked for in advance, by fate
        self.predictions: Counter[str] = Counter()  # of ends, by fate
        self.keeps: Counter[str] = Counter()  # asked of edges, by what was noticed
        self.skipped_ticks = 0
        self._drops: Counter[str] = Counter()
        self._lateness = [0] * (len(LATENESS_BUCKETS_S) + 1)
        self._lateness_sum_s = 0.0

    @property
    def drops(self) -> dict[str, int]:
        """Datagrams that were not used, by reason."""
        return dict(self._drops)

    @property
    def lateness_counts(self) -> tuple[int, ...]:
        """Calls' ticks by lateness: a count for each of `LATENESS_BUCKETS_S`, not cumulative, one for what is later."""
        return tuple(self._lateness)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count datagrams that were received or due but not used."""
        if count:
            self._drops[reason] += count

    def tick(self, lateness_s: float) -> None:
        """Count one call's tick of the playout clock."""
        self._lateness[bisect_left(LATENESS_BUCKETS_S, lateness_s)] += 1
        self._lateness_sum_s += lateness_s

    def collect(self) -> Iterator[Metric]:
        """Yield everything as Prometheus families."""
        yield GaugeMetricFamily("sidetone_transceiver_sessions", "Calls held now", value=self.sessions)
        yield _family("packets", "RTP packets", ("tap",), _keyed(self.packets))
        yield _family("drops", "Datagrams not used", ("reason",), _keyed(self._drops))
        yield CounterMetricFamily(
            "sidetone_transceiver_underruns", "Voiced frames that did not leave in their 20 ms", value=self.underruns
        )
        yield CounterMetricFamily(
            "sidetone_transceiver_deaf_frames", "Frames that a voice model failed to hear", value=self.deaf_frames
        )
        yield _family("closed", "Calls that ended", ("who", "reason"), self.closed)
        yield _family("refused_offers", "Offers not answered", ("reason",), _keyed(self.refused))
        yield _family("client_messages", "Data channel messages", ("verdict",), _keyed(self.messages))
        yield _family("speculations", "Answers asked for in advance", ("fate",), _keyed(self.speculations))
        yield _family("keeps", "Times that an edge was asked for all packets", ("why",), _keyed(self.keeps))
        yield _family("predictions", "Predictions of the end of a turn", ("fate",), _keyed(self.predictions))
        yield CounterMetricFamily(
            "sidetone_transceiver_skipped_ticks", "Playout ticks given up after a stall", value=self.skipped_ticks
        )
        yield self._histogram()

    def _histogram(self) -> HistogramMetricFamily:
        buckets, total = [], 0
        for bound, count in zip([*map(str, LATENESS_BUCKETS_S), "+Inf"], self._lateness, strict=True):
            total += count
            buckets.append((bound, total))
        return HistogramMetricFamily(
            "sidetone_transceiver_tick_lateness_seconds",
            "How long after its due time a call's playout tick ran",
            buckets=buckets,
            sum_value=self._lateness_sum_s,
        )


def _keyed(counts: Counter[str]) -> dict[tuple[str, ...], int]:
    return {(key,): count for key, count in counts.items()}


def _family(
    name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"sidetone_transceiver_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
