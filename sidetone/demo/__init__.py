"""The demo: the whole stack, callers in three regions on impaired networks, and an account of what happened.

`callers` runs the fleet as a process of its own, `run` puts it beside the stack, `report` holds what the sources say
they emitted against what the store answers.
"""
