"""Which processes make up the one-machine stack, in what order they start and stop."""

from __future__ import annotations

from dataclasses import dataclass

from sidetone.settings import Settings

_YIELDS = 10


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack.

    Attributes:
        name: unique, also the name of its log file.
        args: arguments of the `sidetone` command.
        starts: parts start in groups of equal `starts`, lowest first, each group once the one before is ready.
        stops: parts stop in groups of equal `stops`, lowest first, each once the one before has gone: what emits
            facts before what stores them.
        grace_s: how long the part may take to end on SIGTERM before it is killed.
        nice: scheduling niceness; all else yields to what carries voice.

    """

    name: str
    args: tuple[str, ...]
    starts: int
    stops: int
    grace_s: float
    nice: int = 0


def parts(settings: Settings, *, dashboard: bool) -> list[Part]:
    """Return the stack's parts; without `dashboard`, neither it nor the API run."""
    plan = [Part("store", ("store",), starts=0, stops=4, grace_s=1.5, nice=_YIELDS)]
    grace_s = 1.5 + settings.drain_s
    plan += [
        Part(f"transceiver-{transceiver.code}", ("transceiver", transceiver.code), starts=0, stops=1, grace_s=grace_s)
        for transceiver in settings.transceivers
    ]
    plan += [
        Part(f"edge-{edge.name}", ("edge", edge.name), starts=0, stops=1, grace_s=grace_s) for edge in settings.edges
    ]
    leaving_s = 10.0 if settings.log == "kafka" else 2.0  # a group of several is left in order
    plan.append(Part("collector", ("collector",), starts=0, stops=3, grace_s=leaving_s, nice=_YIELDS))
    if dashboard:
        plan.append(Part("api", ("api",), starts=1, stops=3, grace_s=2.0, nice=_YIELDS))
        plan.append(Part("dashboard", ("dashboard",), starts=1, stops=3, grace_s=2.0, nice=_YIELDS))
    return plan
