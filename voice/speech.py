"""From a detector's yes and no per frame to talkspurts with an onset and an acoustic end."""

from __future__ import annotations

from typing import Final, Literal

_MS: Final = 1_000_000

Boundary = Literal["onset", "pause"]


class SpeechTrack:
    """One speaker's talkspurts.

    A talkspurt begins when `min_speech_ms` of frames in a row are speech, and dates from the first of them. It ends
    when nothing has been speech for `pause_ms`, and dates from the end of the last speech frame, less the detector's
    hangover. Shorter silences belong to the talkspurt.

    What is heard may be overruled: it is not the user's speech, until the detector has fallen silent for once.

    Args:
        frame_ms: length of a frame.
        min_speech_ms: shortest run of speech that is an onset.
        pause_ms: shortest silence that ends a talkspurt.
        hangover_ms: how long the detector goes on after the speech has ended.

    """

    def __init__(self, frame_ms: float, min_speech_ms: float, pause_ms: float, hangover_ms: float) -> None:
        self._frame_ms = frame_ms
        self._min_speech_ms = min_speech_ms
        self._pause_ms = pause_ms
        self._hangover_ms = hangover_ms
        self._run: tuple[int, float] | None = None  # first frame of the speech run before an onset
        self._run_ms = 0.0
        self._frame_end_ns = 0
        self._quiet_ms = 0.0  # since the detector was overruled
        self.overruled = False
        """Whether what the detector calls speech is taken for silence."""
        self.in_speech = False
        self.onset_ns = 0
        """Start of the current or last talkspurt."""
        self.onset_audio_ms = 0.0
        self.end_ns = 0
        """Acoustic end of the current (so far) or last talkspurt."""
        self.end_audio_ms = 0.0
        self.gap_ms = 0.0
        """Silence between the talkspurt before and the current or last one; 0 before the second."""
        self.speech_ms = 0.0
        """Speech frames in the current or last talkspurt, short silences left out."""

    @property
    def silence_ms(self) -> float:
        """Time from the acoustic end to the end of the last frame."""
        return max(0.0, (self._frame_end_ns - self.end_ns) / _MS)

    @property
    def duration_ms(self) -> float:
        """Length of the current or last talkspurt, short silences included."""
        return (self.end_ns - self.onset_ns) / _MS

    def frame(self, at_ns: int, audio_ms: float, *, speech: bool) -> Boundary | None:
        """Take the next frame, which begins at `at_ns`; say whether it makes an onset or a pause certain."""
        end_ns = at_ns + round(self._frame_ms * _MS)
        self._frame_end_ns = max(self._frame_end_ns, end_ns)
        if self.overruled:
            self._quiet_ms = 0.0 if speech else self._quiet_ms + self._frame_ms
            self.overruled = self._quiet_ms < self._pause_ms
            return None
        if not speech:
            self._run = None
            if self.in_speech and self.silence_ms >= self._pause_ms:
                self.in_speech = False
                return "pause"
            return None
        if self.in_speech:
            self._extend(at_ns, audio_ms)
            self.speech_ms += self._frame_ms
            return None
        if self._run is None:
            self._run, self._run_ms = (at_ns, audio_ms), 0.0
        self._run_ms += self._frame_ms
        if self._run_ms < self._min_speech_ms:
            return None
        self.in_speech = True
        # With a detector that holds on, an onset could seem to precede the end of the talkspurt before.
        first_ns, first_audio_ms = self._run
        self.gap_ms = max(0.0, (first_ns - self.end_ns) / _MS) if self.end_ns else 0.0
        self.onset_ns = max(first_ns, self.end_ns)
        self.onset_audio_ms = max(first_audio_ms, self.end_audio_ms)
        self.end_ns, self.end_audio_ms = self.onset_ns, self.onset_audio_ms
        self.speech_ms = self._run_ms
        self._run = None
        self._extend(at_ns, audio_ms)
        return "onset"

    def overrule(self) -> None:
        """End the talkspurt, whatever the detector says."""
        self.in_speech, self.overruled, self._quiet_ms = False, True, 0.0

    def believe(self) -> None:
        """Take what the detector says for speech again."""
        self.overruled = False

    def _extend(self, at_ns: int, audio_ms: float) -> None:
        ahead_ms = self._frame_ms - self._hangover_ms
        self.end_ns = max(self.end_ns, at_ns + round(ahead_ms * _MS))
        self.end_audio_ms = max(self.end_audio_ms, audio_ms + ahead_ms)
