"""The `sidetone` command.

`output` prints answers for people or as JSON, `options` holds the flags that commands share, `roles` runs one part,
`stack` runs them all, `calls` makes calls, `answers` asks the store, `doctor` looks for what is wrong.
"""

from sidetone.cli.app import app, main

__all__ = ["app", "main"]
