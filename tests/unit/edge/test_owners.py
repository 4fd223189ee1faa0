from __future__ import annotations

from relay.edge.owners import UNKNOWN, Owners

ONE, TWO = b"1" * 16, b"2" * 16


def test_owners_of_one_session_share_its_code() -> None:
    owners = Owners()
    first, second, other = owners.new(ONE), owners.new(), owners.new(TWO)
    assert owners.codes[second] == UNKNOWN
    owners.tell(second, ONE, 3)
    assert owners.codes[first] == owners.codes[second] != owners.codes[other]
    assert owners.level_ids[second] == 3
    owners.release([first])
    assert owners.new(ONE) == first
    assert owners.codes[first] == owners.codes[second]


def test_a_session_is_learnt_once() -> None:
    owners = Owners()
    owner = owners.new(ONE, 1)
    owners.tell(owner, TWO, 2)
    assert owners.sessions[owner].tobytes() == ONE


def test_numbers_are_used_again_only_when_released_and_memory_stays_bounded() -> None:
    owners = Owners()
    for n in range(100):
        made = [owners.new(n.to_bytes(16, "big")) for _ in range(300)]
        assert len(set(made)) == 300
        for owner in made:
            owners.retire(owner)
        assert sorted(owners.take_retired()) == sorted(made)
        owners.release(made)
    assert len(owners.codes) == 512
    assert owners.take_retired() == []
