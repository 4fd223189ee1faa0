"""The faults. Each strikes a world in which facts have just been handed over, and tells whether its effect was seen.

"Seen" is said by the struck party or its neighbour: the stage at which a collector died, an insert that was refused,
partitions that were taken away, a producer that had to put chunks on disk. What a fault leaves is for `World.recover`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from bench.faults import full_disk
from bench.faults.producers import PATIENCE_S, REQUEST_TIMEOUT_MS, Unsettled, go_on, spool_and_die, stop, wait
from bench.faults.victim import FORKS, POLL_LIMIT_MS, Fault
from bench.faults.world import World
from collector import Stage
from eventlog import Emitter

LONG_ENOUGH: Final = 1.5
"""How much longer than a limit a process is stopped."""


def collector_killed_before_insert(world: World) -> bool:
    """SIGKILL once the intent is in the log and the range is decoded."""
    return _killed(world, Fault(Stage.OPENED), "before_insert")


def collector_killed_in_mid_insert(world: World) -> bool:
    """SIGKILL while an insert is under way."""
    fault = Fault(Stage.INSERTING, int(world.rng.integers(1, 6)), float(world.rng.uniform(0.5, 12.0)))
    return _killed(world, fault, "in_mid_insert")


def collector_killed_before_commit(world: World) -> bool:
    """SIGKILL between an insert that the store confirmed and the commit."""
    return _killed(world, Fault(Stage.INSERTED, int(world.rng.integers(1, 6))), "before_commit")


def store_killed(world: World) -> bool:
    """SIGKILL the store in mid-insert, and start it again."""
    world.emit()
    world.settle()
    victim = world.victim()
    struck = victim.passes(Stage.INSERTING)
    for _ in range(int(world.rng.integers(0, 4))):
        struck = victim.passes(Stage.INSERTING, 2.0) and struck
    time.sleep(float(world.rng.uniform(0.0, 0.012)))
    world.store.kill()
    world.start_store()
    return struck and Stage.REFUSED in world.finish(victim).stages


def store_stalled(world: World) -> bool:
    """SIGSTOP the store in mid-insert for longer than a member of the group may go without fetching."""
    world.emit()
    world.settle()
    victim = world.victim()
    struck = victim.passes(Stage.INSERTING)
    stop(world.store.process.pid)
    time.sleep(POLL_LIMIT_MS / 1000 * LONG_ENOUGH)
    go_on(world.store.process.pid)
    stages = world.finish(victim).stages
    return struck and (Stage.FENCED in stages or stages.count(Stage.TAKEN_OVER) > 1)


def rebalanced(world: World) -> bool:
    """Have another collector join while ranges are under way."""
    world.emit()
    world.settle()
    first = world.victim()
    struck = first.passes(Stage.INSERTING)
    second = world.victim()
    world.emit(4)
    moved = second.passes(Stage.TAKEN_OVER)
    stages = world.finish(first).stages
    world.finish(second)
    return struck and moved and (Stage.FENCED in stages or stages.count(Stage.TAKEN_OVER) > 1)


def collector_stopped(world: World) -> bool:
    """SIGSTOP a collector in mid-insert until another has its partitions, then SIGCONT."""
    world.emit()
    world.settle()
    first = world.victim()
    struck = first.passes(Stage.INSERTING)
    stop(first.pid)
    second = world.victim()
    try:
        moved = second.passes(Stage.TAKEN_OVER) and second.passes(Stage.COMMITTED)
    finally:
        go_on(first.pid)
    stages = world.finish(first).stages
    world.finish(second)
    return struck and moved and (Stage.FENCED in stages or stages.count(Stage.TAKEN_OVER) > 1)


def broker_killed(world: World) -> bool:
    """SIGKILL the broker while facts are produced and collected, and start it again."""
    world.emit(5)
    world.settle()
    victim = world.victim()
    victim.passes(Stage.INTENDED)
    world.broker.kill()
    world.emit()
    spooled = _had_to_spool(world)
    world.broker.start()
    world.emit(3)
    world.settle()
    world.finish(victim)
    return spooled


def broker_away(world: World) -> bool:
    """Stop the broker for longer than the producer's request timeout: the producer gives up and sends again."""
    world.emit(5)
    world.settle()
    pid = world.broker.process.pid if world.broker.process else 0
    stop(pid)
    try:
        world.emit()
        time.sleep(REQUEST_TIMEOUT_MS / 1000 * LONG_ENOUGH)
        spooled = _had_to_spool(world)
    finally:
        go_on(pid)
    world.settle()
    return spooled


def spool_full(world: World) -> bool:
    """Stop the broker while a producer has more facts than its memory and its disk take: it sheds, and counts."""
    world.mark()
    emitter = world.new_emitter(f"spool-{len(world.rounds)}", max_pending_rows=400, spool_max_bytes=100_000)
    wait(lambda: emitter.problem is None and world.emitter.problem is None, "the log is not there")
    pid = world.broker.process.pid if world.broker.process else 0
    world.emit(2, emitter=emitter)
    stop(pid)
    try:
        deadline = time.monotonic() + 20
        while not _shed(emitter) and time.monotonic() < deadline:
            world.emit(5, emitter=emitter)
    finally:
        go_on(pid)
    wait(lambda: not any(account.spooled for account in emitter.accounts().values()), "the spool was not drained")
    accounts = emitter.close(PATIENCE_S)
    world.rounds[-1].shed = {name: sum(account.shed.values()) for name, account in accounts.items()}
    return _shed(emitter) > 0


def disk_full(world: World) -> bool:
    """Stop the broker while a producer's spool is on a file system that fills up: it sheds, and drains what it has."""
    world.mark()
    producer = full_disk.Producer(world.broker.bootstrap, world.spool(f"spool-{len(world.rounds)}"), PATIENCE_S)
    pid = world.broker.process.pid if world.broker.process else 0
    try:
        producer.emit(world.facts())
        stop(pid)
        try:
            deadline = time.monotonic() + 30
            while not producer.emit(world.facts()).get("spool_full") and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            go_on(pid)
        result = producer.finish()
    except EOFError:
        raise Unsettled("the producer on the full disk died") from None
    finally:
        producer.kill()
    world.rounds[-1].shed = result.shed
    world.full_disk = result.how
    return result.reasons.get("spool_full", 0) > 0


def torn_spool(world: World) -> bool:
    """Kill a producer that has everything on disk, tear the file, and have another one drain it."""
    world.mark()
    world.rounds[-1].shed = {}
    folder = world.spool(f"spool-{len(world.rounds)}")
    portions = [world.facts() for _ in range(30)]
    pid = world.broker.process.pid if world.broker.process else 0
    stop(pid)
    try:
        child = FORKS.Process(target=spool_and_die, args=(world.broker.bootstrap, folder, portions))
        child.start()
        child.join(PATIENCE_S)
        child.kill()
        child.join()
    finally:
        go_on(pid)
    files = sorted(folder.glob("*.sqlite*"), key=lambda file: file.stat().st_size)
    if not files or not files[-1].stat().st_size:
        return False
    with files[-1].open("r+b") as torn:
        torn.truncate(int(files[-1].stat().st_size * world.rng.uniform(0.3, 0.9)))
    emitter = world.new_emitter(folder.name)
    wait(lambda: emitter.spools_set_aside > 0 or not list(folder.glob("*.sqlite")), "the torn spool was left alone")
    wait(lambda: not any(account.spooled for account in emitter.accounts().values()), "the spool was not drained")
    emitter.close(PATIENCE_S)
    return emitter.spools_set_aside > 0 or world.undelivered() > 0


def _shed(emitter: Emitter) -> int:
    return sum(sum(account.shed.values()) for account in emitter.accounts().values())


def _killed(world: World, fault: Fault, place: str) -> bool:
    world.emit()
    world.settle()
    return place in world.finish(world.victim(fault)).struck


def _had_to_spool(world: World) -> bool:
    try:
        wait(lambda: any(account.spooled for account in world.emitter.accounts().values()), "nothing was spooled", 15)
    except Unsettled:
        return False
    return True


KINDS: Final[dict[str, tuple[Callable[[World], bool], int]]] = {
    "collector_killed_before_insert": (collector_killed_before_insert, 8),
    "collector_killed_in_mid_insert": (collector_killed_in_mid_insert, 10),
    "collector_killed_before_commit": (collector_killed_before_commit, 8),
    "store_killed": (store_killed, 6),
    "rebalanced": (rebalanced, 6),
    "collector_stopped": (collector_stopped, 4),
    "store_stalled": (store_stalled, 2),
    "broker_killed": (broker_killed, 2),
    "broker_away": (broker_away, 2),
    "spool_full": (spool_full, 1),
    "disk_full": (disk_full, 1),
    "torn_spool": (torn_spool, 1),
}
"""Every fault, and how often it comes in 50 rounds."""
