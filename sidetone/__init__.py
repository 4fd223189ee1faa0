"""Sidetone's command line and its one-machine stack.

`settings` says what is where, `roles` runs one part as one process, `stack` runs all of them on one machine, `demo`
adds callers on impaired networks and reports, and `cli` is how a person reaches all of it.
"""
