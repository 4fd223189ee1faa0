from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.transceiver.channel import BURST, MESSAGE_CHARS_MAX, BadMessageError, ClientChannel, read_message
from relay.transceiver.counters import Counters
from relay.transceiver.facts import SessionFacts
from tests.unit.transceiver.facts_list import FactList

GOOD: dict[str, Any] = {
    "type": "sidetone.stats",
    "client_ns": 1_760_000_000_000_000_000,
    "kind": "inbound-rtp",
    "stream": 4_294_967_295,
    "values": {"jitter": 0.01, "packetsLost": -1, "mid": "0", "on": True, "huge": 10**400, "never": None},
}


def test_numbers_are_kept_and_the_rest_is_left_out() -> None:
    assert read_message(json.dumps(GOOD)) == (
        1_760_000_000_000_000_000,
        "inbound-rtp",
        4_294_967_295,
        {"jitter": 0.01, "packetsLost": -1.0},
    )


def test_playout_report_needs_no_kind_and_no_clock() -> None:
    assert read_message('{"type": "sidetone.playout", "values": {"turn": 1}}') == (None, "playout", None, {"turn": 1.0})


@pytest.mark.parametrize(
    "change",
    [
        {"type": "sidetone.turn"},
        {"type": None},
        {"kind": None},
        {"kind": ""},
        {"kind": "x" * 65},
        {"kind": "ß"},
        {"values": [1]},
        {"values": {str(n): n for n in range(201)}},
        {"client_ns": -1},
        {"client_ns": "now"},
        {"client_ns": 1 << 63},
        {"stream": 1 << 32},
    ],
)
def test_what_is_not_as_described_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadMessageError):
        read_message(json.dumps({**GOOD, **change}))


@given(st.text(max_size=60) | st.binary(max_size=20) | st.recursive(st.none() | st.floats(), st.lists).map(json.dumps))
def test_nothing_makes_it_raise_anything_else(message: str | bytes) -> None:
    with pytest.raises(BadMessageError):
        read_message(message)


def test_deep_and_long_messages_are_refused() -> None:
    with pytest.raises(BadMessageError):
        read_message("[" * (MESSAGE_CHARS_MAX - 1))
    with pytest.raises(BadMessageError):
        read_message(" " * (MESSAGE_CHARS_MAX + 1))


def test_a_client_that_says_too_much_is_not_listened_to() -> None:
    sink, counters = FactList(), Counters()
    channel = ClientChannel(SessionFacts(sink, bytes(16), "test"), counters)
    for _ in range(1000):
        channel.received(json.dumps(GOOD))
    taken = counters.messages["taken"]
    assert BURST <= taken < 900
    assert counters.messages["too_many"] == 1000 - taken
    assert len(sink.rows["client"]) == taken


def test_a_ping_is_no_fact() -> None:
    sink, counters = FactList(), Counters()
    channel = ClientChannel(SessionFacts(sink, bytes(16), "test"), counters)
    channel.received('{"type": "sidetone.ping", "client_ns": 5}')
    channel.received('{"type": "sidetone.ping", "client_ns": -5}')
    assert not sink.rows
    assert counters.messages == {"bad": 1}
