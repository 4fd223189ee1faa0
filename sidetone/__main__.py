"""`python -m sidetone` is `sidetone`."""

from sidetone.cli import main

main()
