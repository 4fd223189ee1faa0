"""Puts the commands together and turns our own errors into one clear line and an exit status."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sidetone.cli import answers, calls, doctor, output, pipeline, roles, stack, top
from sidetone.demo.callers import CallersError
from sidetone.settings import SettingsError
from sidetone.stack.child import StackError

app = typer.Typer(
    name="sidetone",
    help="Why did the agent cut this user off? Sidetone records what the network and the conversation did, "
    "and answers.\n\nStart with: sidetone demo",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (stack, calls, top, answers, pipeline, doctor, roles):
    part.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        typer.echo(f"sidetone {version('sidetone')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; errors of ours become one message on standard error and exit status 1."""
    try:
        app()
    except (CallersError, SettingsError, StackError, pipeline.PipelineError) as error:
        output.complain(str(error))
        sys.exit(1)
