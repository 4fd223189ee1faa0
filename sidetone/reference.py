"""The reference pages that are generated: `python -m sidetone.reference` writes `docs/settings.md` and `docs/cli.md`.

A test compares them with what is committed, so they cannot lag behind the code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr
from pydantic_core import PydanticUndefined, to_jsonable_python

from sidetone.settings import Settings

_DOCS = Path(__file__).parents[1] / "docs"


def settings_page() -> str:
    """Return the settings reference as Markdown."""
    lines = [
        "# Settings",
        "",
        "A flag of the command wins over the environment variable, that over `sidetone.toml` in the working folder",
        "(the same names in lower case, without the prefix), that over the default.",
        "",
        "| variable | default | what it is |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if default is None or isinstance(default, SecretStr):
            shown = ""
        elif isinstance(default, list):
            shown = f"`{json.dumps(to_jsonable_python(default, exclude_none=True))}`"
        else:
            shown = f"`{default}`"
        assert default is not PydanticUndefined, name  # noqa: S101 - every setting has a default
        lines.append(f"| `SIDETONE_{name.upper()}` | {shown} | {field.description} |")
    lines += ["", "`OTEL_…`, which say whether and where calls are traced: [operations](operations.md#traces)."]
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """Return the command reference as Markdown."""
    from sidetone.cli import app  # noqa: PLC0415 - the page of settings needs no command line

    group: Any = typer.main.get_command(app)
    lines = ["# Commands", "", "`sidetone --help` says the same, and each command takes `--help`.", ""]
    for name, command in group.commands.items():
        for below, nested in getattr(command, "commands", {}).items():
            lines += _command(f"{name} {below}", nested)
        if not hasattr(command, "commands"):
            lines += _command(name, command)
    return "\n".join(lines)


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join(
        parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]" for parameter in arguments
    )
    yield from (f"## sidetone {name} {usage}".rstrip(), "", (command.help or "").strip(), "")
    if command.params:
        yield from ("| option | what it is | default |", "|---|---|---|")
    for parameter in command.params:
        flags = " ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
        shown = parameter.name.upper() if parameter in arguments else flags
        default = f"`{parameter.default}`" if isinstance(parameter.default, str | int | float) else ""
        yield f"| {shown} | {parameter.help or ''} | {default} |"
    yield ""


def main() -> None:
    """Write the pages."""
    for name, page in (("settings.md", settings_page()), ("cli.md", cli_page())):
        (_DOCS / name).write_text(page)


if __name__ == "__main__":
    main()
