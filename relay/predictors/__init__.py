"""Neural detectors, outside the audio path: is the turn over, is this speech.

`weights` finds the models' files, `features` makes of a voice what the end predictor looks at, `smart_turn` and
`silero` run the models. `voice.endpointing` says what a predictor is and `voice.vad` what a detector is; neither knows
of these. `relay.transceiver.predictions` asks a predictor in a thread of its own.
"""

from relay.predictors.weights import WeightsError

__all__ = ["WeightsError"]
