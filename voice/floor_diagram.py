"""The floor machine's page in the docs, made from its table: `python -m voice.floor_diagram > docs/floor.md`."""

from __future__ import annotations

import sys
from typing import Final

from voice.floor_table import AUDIBLE, CAUSE, MEANING, TABLE, Event, State

_HEAD: Final = """\
# The floor: whose turn it is

This page is made from the table in `voice/floor_table.py`; do not edit it. After a change of the table:

    python -m voice.floor_diagram > docs/floor.md

An event that comes in a state without a row for it is ignored.
"""


def diagram() -> str:
    """Mermaid state diagram of the table; hanging up, which is possible everywhere, is left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.LISTENING}"]
    lines += [
        f"    {state} --> {transition.state}: {event}"
        for (state, event), transition in TABLE.items()
        if event is not Event.HANGUP
    ]
    return "\n".join(lines)


def page() -> str:
    """The whole page, Markdown."""
    return "\n".join(
        [
            _HEAD,
            "```mermaid",
            diagram(),
            "```",
            "",
            f"`{Event.HANGUP}` leads from every state to `{State.CLOSED}`.",
            "",
            *_rows(("state", "meaning", "agent heard"), [(f"`{s}`", MEANING[s], _yes(s in AUDIBLE)) for s in State]),
            *_rows(("event", "comes from"), [(f"`{event}`", CAUSE[event]) for event in Event]),
            *_rows(
                ("state", "event", "next state", "handler"),
                [(f"`{s}`", f"`{e}`", f"`{t.state}`", f"`{t.handler}`") for (s, e), t in TABLE.items()],
            ),
        ]
    )


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines] + [""]


def _yes(value: bool) -> str:
    return "yes" if value else ""


if __name__ == "__main__":
    sys.stdout.write(page())
