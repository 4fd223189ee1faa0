"""A floor with a clock, for scenes of a conversation."""

from __future__ import annotations

from collections.abc import Iterable

from voice.floor import Floor, FloorConfig
from voice.turns import FloorOutput, StopReason, TurnEvent

MS = 1_000_000
FRAME_MS = 20


class Scene:
    """A floor with a clock: say how long the user speaks or is quiet, and read what came of it."""

    def __init__(self, config: FloorConfig | None = None) -> None:
        self.floor = Floor(config, "energy:-50")
        self.now_ms = 0
        self.out: list[FloorOutput] = []

    def user(self, duration_ms: int, *, speech: bool) -> list[FloorOutput]:
        out: list[FloorOutput] = []
        for _ in range(duration_ms // FRAME_MS):
            begins_ms, self.now_ms = self.now_ms, self.now_ms + FRAME_MS
            out += self.floor.user_frame(self.now_ms * MS, begins_ms * MS, float(begins_ms), speech)
        self.out += out
        return out

    def says(self, duration_ms: int) -> list[FloorOutput]:
        return self.user(duration_ms, speech=True)

    def quiet(self, duration_ms: int) -> list[FloorOutput]:
        return self.user(duration_ms, speech=False)

    def agent_starts(self) -> list[FloorOutput]:
        return self._took(self.floor.agent_started(self.now_ms * MS, 0.0))

    def agent_stops(self, reason: StopReason = "completed") -> list[FloorOutput]:
        return self._took(self.floor.agent_stopped(self.now_ms * MS, 0.0, reason))

    def hangs_up(self) -> list[FloorOutput]:
        return self._took(self.floor.hangup(self.now_ms * MS))

    def _took(self, out: list[FloorOutput]) -> list[FloorOutput]:
        self.out += out
        return out

    def answered(self) -> Scene:
        """Go on to the middle of the answer to the user's first turn."""
        self.quiet(200)
        self.says(1000)
        self.quiet(600)
        self.agent_starts()
        self.quiet(400)
        self.out.clear()
        return self


def short(out: Iterable[FloorOutput]) -> list[tuple[str, int]]:
    return [
        (output.kind if isinstance(output, TurnEvent) else type(output).__name__, getattr(output, "turn_id", 0))
        for output in out
    ]


def events(out: Iterable[FloorOutput], kind: str) -> list[TurnEvent]:
    return [output for output in out if isinstance(output, TurnEvent) and output.kind == kind]
