"""How soon a finished turn is answered and how often an unfinished one is cut in on: rules of endpointing side by side.

Utterances with pauses at known places run through a detector and the floor machine in virtual time; a predictor's
answer comes after `compute_ms`. Per set and rule:

- `delay_ms`: from the acoustic end to the decision, median; think time does not enter.
- `premature`: share of utterances in which a pause was taken for the end. Strict: with a model that thinks, many such
  decisions are called off before anything is heard.
- `perceived_ms`: from the acoustic end to an answer of a model that thinks 350 ms, less those, median. An answer asked
  for in advance makes it shorter than the delay.
- `cut_in`: share of utterances in which the user would have heard such an answer before going on.
- `wasted`: answers asked for and dropped, per utterance.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from bench.harness import arguments, report
from bench.turntaking import material, stage
from bench.turntaking.material import Phrase, Utterance
from relay.predictors import WeightsError
from relay.predictors.smart_turn import SmartTurn
from voice.endpointing import Predictor
from voice.floor import SPECULATE_MS, FloorConfig
from voice.transcript import TranscriptPredictor
from voice.vad import WebRtcVad

SEED: Final = 2
UTTERANCES: Final = 72
THINK_MS: Final = 350.0
"""The scripted model's median."""

COMPUTE_MS: Final = 100.0
"""Given to a predictor of voices in virtual time; what it really takes here is reported as `compute_ms`."""

TEXT_LAG_MS: Final = 150.0
"""By which a recogniser's words trail the voice, given in virtual time."""

SETS: Final[dict[str, tuple[Callable[[], tuple[Phrase, ...]], tuple[float, float]]]] = {
    "scripts": (material.scripts, (0.0, 0.0)),
    "joins": (material.joins, (300.0, 1_000.0)),
    "sentences": (material.sentences, (300.0, 1_000.0)),
}
"""Set → phrases and, where these do not say, the range of their pauses. 0.4 to 1 s is what Full-Duplex-Bench tests."""

SILENCES_MS: Final = (300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0, 1_000.0)
THRESHOLDS: Final = (0.3, 0.5, 0.7, 0.9)

_with = functools.partial(FloorConfig, detector_hangover_ms=WebRtcVad().hangover_ms, speculate_ms=SPECULATE_MS)


def silence_only(silence_ms: float) -> FloorConfig:
    """One silence for all turns."""
    return _with(endpoint_silence_ms=silence_ms)


def predicted(threshold: float, unlikely_ms: float = 1_200.0, unknown_ms: float = 900.0) -> FloorConfig:
    """A short silence if the predictor is sure, a long one otherwise."""
    return _with(
        endpointing="predictor",
        threshold=threshold,
        likely_silence_ms=200.0,
        unlikely_silence_ms=unlikely_ms,
        endpoint_silence_ms=unknown_ms,
    )


class Asked:
    """Asks a predictor, remembers its answers, and how long they took."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.took_ms: list[float] = []
        self._known: dict[tuple[int, int], float | None] = {}

    def __call__(self, utterance: Utterance, frames: int) -> float | None:
        """What the predictor says after so many frames."""
        key = id(utterance), frames
        if key not in self._known:
            began_s = time.perf_counter()
            if self.predictor.wants == "audio":
                heard = stage.audio_until(utterance, frames)
            else:
                heard = stage.text_until(utterance, frames, TEXT_LAG_MS)
            self._known[key] = self.predictor.predict(heard)
            self.took_ms.append((time.perf_counter() - began_s) * 1000)
        return self._known[key]


def score(utterance: Utterance, outcome: stage.Outcome) -> dict[str, float]:
    """What one utterance came to."""
    end_ms, last_ms = utterance.end_ms, utterance.spans_ms[-1][0]
    early = [at for at in outcome.decided_ms if at < last_ms]
    final_ms = min((at for at in outcome.decided_ms if at >= last_ms), default=float("inf"))
    heard = [_heard_ms(at, outcome) for at in early]
    return {
        "delay_ms": final_ms - end_ms,
        "premature": bool(early),
        "perceived_ms": _heard_ms(final_ms, outcome) - end_ms - THINK_MS,
        "cut_in": any(at < last_ms for at in heard),
        "wasted": len(outcome.requested_ms) - 1,
    }


def _heard_ms(decided_ms: float, outcome: stage.Outcome) -> float:
    """When the answer to a decision would be heard."""
    asked = [at for at in outcome.requested_ms if at <= decided_ms]
    return max(decided_ms, asked[-1] + THINK_MS) if asked else float("inf")


def run(utterances: Sequence[Utterance], voiced: Sequence[list[bool]], config: FloorConfig, ask: Asked | None) -> Any:
    """Medians and shares over all utterances."""
    listens = ask is not None and ask.predictor.wants == "audio"
    compute_ms = COMPUTE_MS if listens else 0.0
    anew = None if listens else functools.partial(stage.text_is_new, lag_ms=TEXT_LAG_MS)
    scores = [
        score(utterance, stage.hear(utterance, speech, config, ask, compute_ms, anew=anew))
        for utterance, speech in zip(utterances, voiced, strict=True)
    ]
    return {
        name: (statistics.median if name.endswith("_ms") else statistics.fmean)([found[name] for found in scores])
        for name in scores[0]
    } | {"delay_p90_ms": sorted(found["delay_ms"] for found in scores)[int(0.9 * len(scores))]}


def main() -> None:
    """Print every rule's figures for every set."""
    options = arguments(__doc__ or "").parse_args()
    predictors: dict[str, Asked] = {"transcript": Asked(TranscriptPredictor())}
    try:
        predictors["smart_turn"] = Asked(SmartTurn())
    except WeightsError as error:
        print(f"smart-turn is left out: {error}", file=sys.stderr)
    rules: dict[str, tuple[FloorConfig, Asked | None]] = {
        f"silence_{silence:g}": (silence_only(silence), None) for silence in SILENCES_MS
    }
    for name, ask in predictors.items():
        for threshold in THRESHOLDS:
            rules[f"{name}_{threshold:g}"] = (predicted(threshold), ask)
    results: dict[str, Any] = {}
    kept = []  # so that no two utterances ever have the same identity
    for name, (phrases, pause_ms) in SETS.items():
        utterances = list(material.speak(phrases(), UTTERANCES, SEED, pause_ms))
        voiced = [judge(utterance) for utterance in utterances]
        results[name] = {rule: run(utterances, voiced, config, ask) for rule, (config, ask) in rules.items()}
        kept.append(utterances)
    for name, ask in predictors.items():
        results[f"{name}_compute_ms"] = statistics.median(ask.took_ms)
    report(results, options.json)


def judge(utterance: Utterance) -> list[bool]:
    """The verdicts of the default detector."""
    vad = WebRtcVad()
    return [vad.is_speech(frame) for frame in utterance.frames]


if __name__ == "__main__":
    main()
