"""Errors of turn-taking: what can go wrong between two people who speak, by the names that go round the platform.

Scripts expect them, SQL finds them, pages show them. What each one means is said in `docs/metrics.md`.
"""

from __future__ import annotations

from typing import Final

TURN_ERRORS: Final = (
    "agent_cut_user",
    "late_response",
    "missed_response",
    "false_barge_in",
    "missed_barge_in",
    "slow_yield",
    "talk_over",
    "dead_air",
    "abandoned",
)
