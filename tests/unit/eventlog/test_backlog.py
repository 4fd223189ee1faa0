"""Every row that was captured is emitted, shed or held, whatever happens in between."""

from hypothesis import given
from hypothesis import strategies as st

from eventlog.backlog import Account, Backlog
from eventlog.schema import FACTS, NO_SESSION

PACKET, TURN = FACTS["packet"], FACTS["turn"]
ROW = (NO_SESSION, "eu", 0, dict[str, object]())
TYPES = st.sampled_from([PACKET, TURN])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("row"), TYPES, st.just(1)),
        st.tuples(st.just("columns"), TYPES, st.integers(1, 60)),
        st.tuples(st.just("take"), TYPES, st.integers(1, 40)),
        st.tuples(st.just("emit"), TYPES, st.just(0)),
        st.tuples(st.just("give up"), TYPES, st.just(0)),
        st.tuples(st.just("lost before"), TYPES, st.integers(1, 9)),
    ),
    max_size=60,
)


def rows(account: Account) -> int:
    return account.emitted + sum(account.shed.values())


@given(STEPS, st.integers(1, 100), st.booleans())
def test_accounts_add_up(steps: list[tuple[str, object, int]], max_rows: int, abandon: bool) -> None:
    backlog, captured, on_the_way = Backlog(max_rows), 0, {PACKET.name: 0, TURN.name: 0}
    for step, fact, count in steps:
        assert fact in (PACKET, TURN)
        chosen = PACKET if fact is PACKET else TURN
        if step == "row":
            backlog.add_row(chosen, ROW)
        elif step == "columns":
            backlog.add_columns(chosen, {}, count)
        elif step == "take":
            on_the_way[chosen.name] += sum(block.size for block in backlog.take(chosen, count))
        elif step == "lost before":
            backlog.shed(chosen, "no_session", count)
        else:
            sent = on_the_way[chosen.name]
            on_the_way[chosen.name] = 0
            backlog.settle(chosen, emitted=sent) if step == "emit" else backlog.settle(chosen, shed={"x": sent})
        captured += count if step in {"row", "columns", "lost before"} else 0
        assert backlog.held <= max(max_rows, sum(on_the_way.values()))
        accounts = backlog.accounts()
        assert sum(a.captured for a in accounts.values()) == captured
        assert sum(map(rows, accounts.values())) + backlog.held == captured
    if abandon:
        backlog.abandon("late", "closed")
    else:
        backlog.shed_queued("late")
        for name, sent in on_the_way.items():
            backlog.settle(FACTS[name], emitted=sent)
    backlog.add_row(TURN, ROW)
    if not abandon:
        backlog.shed_queued("late")
    assert backlog.held == 0
    assert all(account.captured == rows(account) for account in backlog.accounts().values())


def test_the_oldest_of_the_most_numerous_go_first() -> None:
    backlog = Backlog(100)
    for number in range(10):
        backlog.add_row(TURN, (NO_SESSION, "eu", number, {}))
    for number in range(1_000):
        backlog.add_row(PACKET, (NO_SESSION, "eu", number, {}))
    accounts = backlog.accounts()
    assert accounts["turn"].shed == {}
    assert accounts["packet"].shed == {"backlog_full": 912}  # 910 are over the bound; blocks of 6 go as a whole
    kept = [row[2] for block in backlog.take(PACKET, 1_000) for row in block.rows or ()]
    assert kept == list(range(1_000 - len(kept), 1_000))


def test_what_is_refused_does_not_push_out_what_waits() -> None:
    backlog = Backlog(100)
    for _ in range(5):
        backlog.add_row(TURN, ROW)
    backlog.refuse("closed")
    backlog.add_row(TURN, ROW)
    backlog.add_columns(TURN, {}, 20)
    assert backlog.queued()["turn"] == backlog.held == 5
    assert backlog.accounts()["turn"] == Account(captured=26, shed={"closed": 21})


def test_take_gives_whole_blocks_in_order() -> None:
    backlog = Backlog(1_000)
    for size in (10, 20, 30):
        backlog.add_columns(PACKET, {}, size)
    assert [block.size for block in backlog.take(PACKET, 35)] == [10, 20]
    assert [block.size for block in backlog.take(PACKET, 5)] == [30]
    assert backlog.take(PACKET, 5) == []
    assert backlog.held == 60
