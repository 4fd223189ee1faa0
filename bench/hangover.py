"""How long each speech detector goes on after speech has ended, over clips with known ends: the floor takes it off.

Ends are then comparable across detectors: the error that is left is reported as `spread_ms`. The levels run over 18 dB
and the noise from 15 to 45 dB under the speech.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.harness import arguments, report
from bench.turntaking.material import joins, scripts, speak, whole
from relay.predictors.silero import SileroVad
from voice.vad import EnergyVad, Vad, WebRtcVad

UTTERANCES = 200
SEED = 1
DETECTORS: dict[str, Callable[[], Vad]] = {
    **{f"webrtcvad:{mode}": lambda mode=mode: WebRtcVad(mode) for mode in range(4)},  # type: ignore[misc]
    "silero:0.5": SileroVad,
    "energy:-50": EnergyVad,
}


def measure(make: Callable[[], Vad]) -> dict[str, Any]:
    """Judge every utterance and compare the last frames called speech with the true ends."""
    behind: list[float] = []
    missed = talked_on = 0
    phrases = (*whole(), *scripts(), *joins())
    for utterance in speak(phrases, UTTERANCES, SEED, (600.0, 1_000.0)):
        vad = make()
        ends = 20.0 * (1 + np.flatnonzero([vad.is_speech(frame) for frame in utterance.frames]))
        begins = [*(begin for begin, _ in utterance.spans_ms[1:]), float("inf")]
        for (begin, end), following in zip(utterance.spans_ms, begins, strict=True):
            limit = min(following, end + 1_500.0)
            inside = ends[(ends > begin) & (ends <= limit)]
            if not len(inside):
                missed += 1
            elif inside[-1] >= limit - 40.0:
                talked_on += 1  # noise was taken for speech: there is no end to date
            else:
                behind.append(float(inside[-1] - end))
    found = np.array(behind)
    low, middle, high = np.percentile(found, [10, 50, 90])
    return {
        "ends": len(found) + missed + talked_on,
        "hangover_ms": middle,
        "p10_ms": low,
        "p90_ms": high,
        "spread_ms": float(np.percentile(np.abs(found - middle), 90)),
        "missed": missed,
        "talked_on": talked_on,
        "applied_ms": make().hangover_ms,
    }


def main() -> None:
    """Print the distribution for every detector."""
    options = arguments(__doc__ or "").parse_args()
    report({name: measure(make) for name, make in DETECTORS.items()}, options.json)


if __name__ == "__main__":
    main()
