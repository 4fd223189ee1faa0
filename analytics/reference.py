"""`docs/metrics.md`, made from the catalogue and the questions: `python -m analytics.reference > docs/metrics.md`."""

from __future__ import annotations

import sys
from itertools import groupby

from analytics.catalogue import CATALOGUE
from analytics.question import Question, questions

_HEAD = """\
# Metrics and questions

Made by `python -m analytics.reference`; do not edit.

Every number is computed from stored facts and can be computed again. Unknown is NULL, never zero. Counts add up over
adjoining windows; percentiles are never averaged.
"""


def document() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, "## Metrics\n"]
    for group, metrics in groupby(CATALOGUE.values(), key=lambda metric: metric.group):
        parts.append(f"### {group}\n")
        parts.extend(
            f"**`{metric.name}`** ({metric.unit}; version {metric.version}). {metric.definition}  \n"
            f"Source: {metric.source}.\n"
            for metric in metrics
        )
    parts.append("## Questions\n")
    parts.append(
        "`sidetone query NAME -p PARAMETER=VALUE`, `GET /v1/questions/NAME?PARAMETER=VALUE`, or "
        "`analytics.run(client, NAME, {…})`. Times are ISO 8601 (UTC), `now`, `now-15m`, or nanoseconds since 1970; "
        "lists are separated by commas.\n"
    )
    parts.extend(_question(question) for question in questions())
    return "\n".join(parts)


def _question(question: Question) -> str:
    lines = [f"### {question.name}\n", f"{question.title}. {question.description}\n"]
    if question.parameters:
        lines += ["| parameter | type | default | |", "|---|---|---|---|"]
        for parameter in question.parameters:
            default = (
                "(must be given)" if parameter.default is None else f"`{parameter.default}`".replace("``", "(empty)")
            )
            lines.append(f"| `{parameter.name}` | {parameter.type} | {default} | {_cell(parameter.description)} |")
        lines.append("")
    lines += ["| column | unit | |", "|---|---|---|"]
    lines += [f"| `{column.name}` | {column.unit} | {_cell(column.description)} |" for column in question.columns]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(document())
