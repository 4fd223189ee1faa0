"""Neural detectors, outside the audio path: is the turn over, is this speech.

`weights` finds the models' files, `features` makes of a voice what the end predictor looks at, `smart_turn` and
`silero` run the models, `worker` asks the predictor in a thread of its own, one for all calls of a transceiver.
`voice.endpointing` says what a predictor is and `voice.vad` what a detector is; neither knows of these.
"""

from relay.predictors.weights import WeightsError
from relay.predictors.worker import EndPredictions, PredictorWorker

__all__ = ["EndPredictions", "PredictorWorker", "WeightsError"]
