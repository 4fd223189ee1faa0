from __future__ import annotations

from relay.edge.rtt import StunPairs

CLIENT = ("192.0.2.1", 4000)
TRANSACTION = bytes(12)


def test_a_request_and_its_answer_give_a_round_trip() -> None:
    pairs = StunPairs()
    pairs.request("client_edge", CLIENT, TRANSACTION, 1_000)
    assert pairs.response("client_edge", CLIENT, TRANSACTION, 31_000) == 30_000
    assert pairs.response("client_edge", CLIENT, TRANSACTION, 41_000) is None


def test_an_answer_of_another_leg_client_or_transaction_gives_none() -> None:
    pairs = StunPairs()
    pairs.request("client_edge", CLIENT, TRANSACTION, 1_000)
    assert pairs.response("edge_transceiver", CLIENT, TRANSACTION, 2_000) is None
    assert pairs.response("client_edge", ("192.0.2.1", 4001), TRANSACTION, 2_000) is None
    assert pairs.response("client_edge", CLIENT, b"\1" * 12, 2_000) is None


def test_a_retransmitted_request_measures_nothing() -> None:
    pairs = StunPairs()
    pairs.request("client_edge", CLIENT, TRANSACTION, 1_000)
    pairs.request("client_edge", CLIENT, TRANSACTION, 500_001_000)
    assert pairs.response("client_edge", CLIENT, TRANSACTION, 500_031_000) is None


def test_clock_steps_and_stale_answers_measure_nothing() -> None:
    pairs = StunPairs()
    pairs.request("client_edge", CLIENT, TRANSACTION, 1_000)
    assert pairs.response("client_edge", CLIENT, TRANSACTION, 0) is None
    pairs.request("client_edge", CLIENT, TRANSACTION, 1_000)
    assert pairs.response("client_edge", CLIENT, TRANSACTION, 60_000_000_000) is None


def test_requests_that_nobody_answers_do_not_pile_up() -> None:
    pairs = StunPairs()
    for n in range(20_000):
        pairs.request("client_edge", CLIENT, n.to_bytes(12, "big"), n)
    assert pairs.response("client_edge", CLIENT, (0).to_bytes(12, "big"), 1) is None
    assert pairs.response("client_edge", CLIENT, (19_999).to_bytes(12, "big"), 20_000) == 1
