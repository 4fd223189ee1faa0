"""What the store is and is not, said once for `--help` and docs/store.md."""

ABOUT = """\
TODO
"""
