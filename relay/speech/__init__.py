"""Speech that synthetic callers and scripted agents speak, as short clips with exact edges.

The way of a clip: `clips.toml` (who says what) → `make` (espeak-ng, trimmed, levelled, Opus) → `clips/*.opus` →
`load` (decoded, trimmed and levelled again, so the first and the last sample are voiced) → callers and models.
`user_*` are questions, `user_pause_*` hesitate in the middle, `interrupt_*` break in on the agent, `backchannel_*`
only encourage it, `filler_*` hold the floor while the speaker thinks, and `agent_*` are answers. `synthesise` says any
text where espeak-ng is installed.
"""

from relay.speech.clip import Clip, SpeechError, load, load_wav, names
from relay.speech.synthesis import synthesise

__all__ = ["Clip", "SpeechError", "load", "load_wav", "names", "synthesise"]
