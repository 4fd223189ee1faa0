"""The ledger against `voice.sequence`, which is what every receiver of ours counts with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.caller.ledger import StreamLedger
from voice.sequence import StreamStats


def test_losses_are_told_apart_by_where_they_fall() -> None:
    ledger = StreamLedger(7)
    numbers = [ledger.sent(seq % 65536) for seq in range(65530, 65540)]
    for index in (0, 1):
        ledger.lost(numbers[index])
    for index in (2, 3, 6):
        ledger.arrived(numbers[index], again=False)
    for index in (4, 5, 7, 8, 9):
        ledger.lost(numbers[index])
    report = ledger.report()
    assert (report.sent, report.delivered) == (10, 3)
    assert (report.lost_leading, report.lost_seen, report.lost_trailing) == (2, 2, 3)


def test_a_stream_of_which_nothing_arrived_lost_nothing_that_a_receiver_could_see() -> None:
    ledger = StreamLedger(7)
    for seq in range(5):
        ledger.lost(ledger.sent(seq))
    report = ledger.report()
    assert report.delivered == 0
    assert report.lost_seen == 0
    assert report.lost_leading + report.lost_trailing == 5


def test_a_late_first_packet_makes_the_losses_behind_it_visible() -> None:
    ledger = StreamLedger(7)
    numbers = [ledger.sent(seq) for seq in range(5)]
    ledger.lost(numbers[1])
    ledger.lost(numbers[2])
    ledger.arrived(numbers[3], again=False)
    assert ledger.report().lost_leading == 2
    ledger.arrived(numbers[0], again=False)
    assert ledger.report().lost_leading == 0
    assert ledger.report().lost_seen == 2


@given(
    start=st.integers(0, 65535),
    fates=st.lists(st.sampled_from(["lost", "once", "twice", "late"]), min_size=1, max_size=300),
)
def test_what_was_injected_is_what_a_receiver_measures(start: int, fates: list[str]) -> None:
    ledger, receiver = StreamLedger(1), StreamStats()
    late: list[tuple[int, int]] = []

    def arrive(ext_seq: int, seq: int, *, again: bool = False) -> None:
        ledger.arrived(ext_seq, again=again)
        receiver.receive(seq, 0, 0)

    for index, fate in enumerate(fates):
        seq = (start + index) % 65536
        ext_seq = ledger.sent(seq)
        if fate == "lost":
            ledger.lost(ext_seq)
        elif fate == "late":
            late.append((ext_seq, seq))
        else:
            arrive(ext_seq, seq)
            if fate == "twice":
                arrive(ext_seq, seq, again=True)
        if len(late) > 3 or (late and index - (late[0][0] - start) % 65536 > 20):
            arrive(*late.pop(0))
    for packet in late:
        arrive(*packet)
    report = ledger.report()
    assert report.lost_seen == receiver.lost
    assert report.delivered == receiver.received - receiver.duplicates
    assert report.duplicates == receiver.duplicates
    assert report.sent == report.delivered + report.lost_seen + report.lost_leading + report.lost_trailing
