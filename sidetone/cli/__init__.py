"""The `sidetone` command.

`output` prints answers for people or as JSON, `options` holds the flags that commands share, `roles` runs one part,
`stack` runs them all, `calls` makes calls, `answers` asks the store, `doctor` looks for what is wrong.
"""

try:
    from sidetone.cli.app import app, main
except KeyboardInterrupt:  # Ctrl-C before the command has begun
    raise SystemExit(130) from None

__all__ = ["app", "main"]
