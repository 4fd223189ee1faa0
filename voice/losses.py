"""Loss that comes in bursts: the Gilbert-Elliott model, seeded, and what a loss series says about it.

Gilbert (1960), Elliott (1963). Two states, good and bad; per packet the chain moves good→bad with probability `p`
and bad→good with `r`, and the packet gets through with probability `k` in the good and `h` in the bad state. The
plain two-parameter form (k=1, h=0) loses every packet of the bad state and none of the good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """The model's parameters, all probabilities per packet.

    Attributes:
        p: good → bad.
        r: bad → good.
        k: a packet gets through in the good state.
        h: a packet gets through in the bad state.

    """

    p: float
    r: float
    k: float = 1.0
    h: float = 0.0

    def __post_init__(self) -> None:
        for name in ("p", "r", "k", "h"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is a probability, not {value}")
        if self.p + self.r <= 0.0:
            raise ValueError("p and r are both zero: the chain never moves and has no stationary loss")

    @classmethod
    def from_loss(cls, loss: float, mean_burst: float) -> GilbertElliott:
        """Two-parameter model with this stationary loss (0 ≤ loss < 1) and mean burst length in packets (≥ 1).

        Raises:
            ValueError: no such chain exists (a high loss needs long bursts).

        """
        if not 0.0 <= loss < 1.0 or mean_burst < 1.0:
            raise ValueError(f"loss {loss} must be in [0, 1) and mean burst {mean_burst} at least 1")
        r = 1.0 / mean_burst
        return cls(p=loss * r / (1.0 - loss), r=r)

    @classmethod
    def from_moments(cls, loss: float, bad_share: float, mean_burst: float, h: float) -> GilbertElliott:
        """Four-parameter model from observables: loss, share of time in the bad state, mean loss burst, and `h`.

        The mean burst of losses is loss ÷ P(a loss is followed by a success); solving that for the flow between the
        states gives p and r.
        """
        good_share = 1.0 - bad_share
        loss_bad = 1.0 - h
        loss_good = (loss - bad_share * loss_bad) / good_share
        both_lost = loss * (1.0 - 1.0 / mean_burst)
        flow = (bad_share * loss_bad**2 + good_share * loss_good**2 - both_lost) / (loss_bad - loss_good) ** 2
        return cls(p=flow / good_share, r=flow / bad_share, k=1.0 - loss_good, h=h)

    @property
    def bad_share(self) -> float:
        """Stationary share of packets that meet the bad state."""
        return self.p / (self.p + self.r)

    @property
    def loss(self) -> float:
        """Stationary loss, 0 … 1."""
        return self.bad_share * (1.0 - self.h) + (1.0 - self.bad_share) * (1.0 - self.k)

    @property
    def mean_burst(self) -> float:
        """Mean number of consecutive losses (1/r in the two-parameter form); infinite when nothing gets through."""
        bad, lost_bad, lost_good = self.bad_share, 1.0 - self.h, 1.0 - self.k
        flow = bad * self.r
        both_lost = bad * lost_bad**2 + (1.0 - bad) * lost_good**2 - flow * (lost_bad - lost_good) ** 2
        ends = self.loss - both_lost
        if ends <= 0.0:
            return 1.0 if self.loss == 0.0 else float("inf")
        return self.loss / ends

    @property
    def burst_ratio(self) -> float:
        """BurstR: mean burst ÷ the mean burst of random loss at the same rate (G.107); 1/(p+r) with two parameters."""
        return self.mean_burst * (1.0 - self.loss)


class LossProcess:
    """Draws a model packet by packet, starting in the good state.

    State and loss use generators of their own, and each packet takes exactly one draw from each: the chain's path does
    not depend on k and h, and the n-th packet's fate depends on nothing but the seed and n.
    """

    def __init__(self, model: GilbertElliott, state_rng: np.random.Generator, loss_rng: np.random.Generator) -> None:
        self.model = model
        self._state_rng = state_rng
        self._loss_rng = loss_rng
        self._bad = False

    def lost(self) -> bool:
        """Decide the next packet: True if it is lost."""
        move = self._state_rng.random()
        self._bad = move >= self.model.r if self._bad else move < self.model.p
        passes = self.model.h if self._bad else self.model.k
        return bool(self._loss_rng.random() >= passes)


@dataclass(frozen=True, slots=True)
class LossSummary:
    """What a loss series says. A figure that the series cannot give is None, never zero.

    Attributes:
        packets: length of the series.
        lost: losses in it.
        loss: share lost; None for the empty series.
        mean_burst: mean length of the runs of losses, in packets.
        burst_ratio: observed mean burst * (1 - loss) (McGowan's BurstR).
        p: ok→loss transitions ÷ packets received that have a successor.
        r: loss→ok transitions ÷ packets lost that have a successor.

    """

    packets: int
    lost: int
    loss: float | None
    mean_burst: float | None
    burst_ratio: float | None
    p: float | None
    r: float | None

    @property
    def model(self) -> GilbertElliott | None:
        """The two-parameter model with the fitted p and r, if both are known."""
        if self.p is None or self.r is None or self.p + self.r <= 0.0:
            return None
        return GilbertElliott(self.p, self.r)


def summarise(lost: Sequence[bool] | npt.NDArray[np.bool_]) -> LossSummary:
    """Summarise a series in sequence order, True where the packet was lost."""
    series = np.asarray(lost, dtype=bool)
    packets, losses = int(series.size), int(series.sum())
    if not packets:
        return LossSummary(0, 0, None, None, None, None, None)
    before, after = series[:-1], series[1:]
    began = int((~before & after).sum())
    ended = int((before & ~after).sum())
    from_ok, from_lost = int((~before).sum()), int(before.sum())
    bursts = began + int(series[0])
    loss = losses / packets
    mean_burst = losses / bursts if bursts else None
    return LossSummary(
        packets=packets,
        lost=losses,
        loss=loss,
        mean_burst=mean_burst,
        burst_ratio=None if mean_burst is None else mean_burst * (1.0 - loss),
        p=began / from_ok if from_ok else None,
        r=ended / from_lost if from_lost else None,
    )
