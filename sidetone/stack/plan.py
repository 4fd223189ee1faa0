"""Which processes make up the one-machine stack, in what order they start and stop."""

from __future__ import annotations

from dataclasses import dataclass

from sidetone.settings import Settings

_YIELDS = 10

COLLECTOR_LOADS_S = {"sqlite": 1.8, "kafka": 8.0}
"""How long a collector that is to end loads what is left of the log; with Kafka a group of several is left in order."""
_CARRIER_ENDS_S = 1.0
_SERVER_ENDS_S = 2.0
_GOES_S = 1.5
"""What a process may take beyond that until it is gone: on a busy machine its turn to run comes late, and one that is
killed meanwhile would look as if it had failed."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack.

    Attributes:
        name: unique, also the name of its log file.
        args: arguments of the `sidetone` command.
        starts: parts start in groups of equal `starts`, lowest first, each group once the one before is ready.
        stops: parts stop in groups of equal `stops`, lowest first, each once the one before has gone: what emits
            facts before what stores them.
        grace_s: how long the part may take to end on SIGTERM before it is killed: what its own work may take then, and
            `_GOES_S`.
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
    plan = [Part("store", ("store",), starts=0, stops=4, grace_s=_SERVER_ENDS_S + _GOES_S, nice=_YIELDS)]
    grace_s = _CARRIER_ENDS_S + settings.drain_s + _GOES_S
    plan += [
        Part(f"transceiver-{transceiver.code}", ("transceiver", transceiver.code), starts=0, stops=1, grace_s=grace_s)
        for transceiver in settings.transceivers
    ]
    plan += [
        Part(f"edge-{edge.name}", ("edge", edge.name), starts=0, stops=1, grace_s=grace_s) for edge in settings.edges
    ]
    leaving_s = COLLECTOR_LOADS_S[settings.log] + _GOES_S
    plan.append(Part("collector", ("collector",), starts=0, stops=3, grace_s=leaving_s, nice=_YIELDS))
    if dashboard:
        serving_s = _SERVER_ENDS_S + _GOES_S
        plan.append(Part("api", ("api",), starts=1, stops=3, grace_s=serving_s, nice=_YIELDS))
        plan.append(Part("dashboard", ("dashboard",), starts=1, stops=3, grace_s=serving_s, nice=_YIELDS))
    return plan
