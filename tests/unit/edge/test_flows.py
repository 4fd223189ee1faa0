from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.edge import Limits
from relay.edge.flows import Flow, FlowRefusedError, FlowTable
from relay.encap import down_header

SECOND = 1_000_000_000
HERE, THERE = ("10.0.0.1", 7000), ("10.0.0.2", 7000)
HEADER_KEY = bytes(32)
LIMITS = Limits(flows=6, flows_per_source=3, flows_per_ufrag=2, idle_s=30, unanswered_s=5)


def sweep(table: FlowTable, now_ns: int) -> None:
    for _ in table.sweep(now_ns):
        pass


def refused(table: FlowTable, host: str, port: int, ufrag: str | None, now_ns: int = 0) -> str:
    with pytest.raises(FlowRefusedError) as caught:
        table.open((host, port), ufrag, HERE, now_ns)
    return caught.value.reason


def test_one_source_cannot_take_the_table() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    for port in range(3):
        table.open(("192.0.2.1", port), f"u{port}", HERE, 0)
    assert refused(table, "192.0.2.1", 9, "u9") == "source_cap"
    table.open(("192.0.2.2", 9), "u9", HERE, 0)


def test_a_source_of_ipv6_is_its_network_as_whoever_has_one_address_has_them_all() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    flows = [table.open((f"2001:db8::{n}:{n}", 1), f"u{n}", HERE, 0) for n in range(3)]
    assert refused(table, "2001:db8::ffff:0:0:9", 1, "u9") == "source_cap"
    table.open(("2001:db8:0:1::1", 1), "u9", HERE, 0)
    table.close(flows[0], "idle")
    assert table.flows_of_source("2001:db8::9") == 2
    # IPv4 at a socket of IPv6 is one address each.
    for n in range(2):
        table.open((f"::ffff:192.0.2.{n}", 1), f"v{n}", HERE, 0)
        assert table.flows_of_source(f"::ffff:192.0.2.{n}") == 1


def test_the_table_is_bounded() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    for n in range(6):
        table.open((f"192.0.2.{n}", 1), f"u{n}", HERE, 0)
    assert refused(table, "192.0.2.9", 9, "u9") == "flows_full"


def test_a_replayed_ufrag_displaces_its_own_unanswered_flows_and_never_the_answered_client() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    client = table.open(("192.0.2.1", 1), "shared", HERE, 0)
    client.answered = True
    for n in range(2, 40):
        table.open((f"192.0.2.{n}", 1), "shared", HERE, n)
    assert table.by_address[client.address] is client
    assert len(table.by_address) == 2
    assert table.closed["evicted"] == 37


def test_all_flows_of_a_ufrag_answered_and_alive_leave_no_room_for_another() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    for n in range(2):
        table.open((f"192.0.2.{n}", 1), "shared", HERE, 0).answered = True
    assert refused(table, "192.0.2.9", 1, "shared", now_ns=SECOND) == "ufrag_cap"
    # An address that has been quiet for a while is one that the client left: its place is taken.
    table.open(("192.0.2.9", 1), "shared", HERE, 6 * SECOND)
    assert ("192.0.2.0", 1) not in table.by_address


def test_flows_end_when_idle_or_never_answered() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    answered = table.open(("192.0.2.1", 1), "a", HERE, 0)
    answered.answered = True
    insistent = table.open(("192.0.2.2", 1), "b", HERE, 0)
    sweep(table, 5 * SECOND)
    assert len(table.by_address) == 2
    insistent.seen_ns = 6 * SECOND  # sending more does not keep an unanswered flow alive
    sweep(table, 6 * SECOND)
    assert list(table.by_address.values()) == [answered]
    sweep(table, 31 * SECOND)
    assert not table.by_address
    assert (table.closed["unanswered"], table.closed["idle"]) == (1, 1)


def test_calls_are_sessions_that_are_heard_whatever_strangers_open() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    for n, session in enumerate((b"s" * 16, b"s" * 16, b"t" * 16)):  # the first one moved
        address = (f"192.0.2.{n}", 1)
        flow = table.open(address, session.decode(), HERE, 0)
        flow.answered = True
        table.learn(flow, down_header(*address, session, HEADER_KEY), session)
    table.open(("192.0.2.9", 1), "x", HERE, 0)
    sweep(table, SECOND)
    assert (len(table.by_address), table.calls) == (4, 2)
    flow.seen_ns = 10 * SECOND
    sweep(table, 11 * SECOND)
    assert table.calls == 1, "the other has ended, or is about to"


def test_a_client_that_moved_is_known_by_its_ufrag() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    old = table.open(("192.0.2.1", 1), "a", HERE, 0)
    table.learn(old, down_header("192.0.2.1", 1, b"s" * 16, HEADER_KEY), b"s" * 16)
    assert table.open(("198.51.100.1", 1), "a", HERE, 0).session == b"s" * 16
    assert table.open(("198.51.100.1", 2), "b", HERE, 0).session is None


def test_a_flow_learnt_from_the_downlink_keeps_its_session_when_its_ufrag_comes() -> None:
    table = FlowTable(LIMITS, HEADER_KEY)
    flow = table.open(("192.0.2.1", 1), None, HERE, 0)
    table.learn(flow, down_header("192.0.2.1", 1, b"s" * 16, HEADER_KEY), b"s" * 16)
    table.hand_over(flow, "a", HERE, 0)
    assert (flow.session, flow.ufrag) == (b"s" * 16, "a")
    table.hand_over(flow, "b", HERE, 0)  # another ufrag is another session
    assert flow.session is None


class Table(RuleBasedStateMachine):
    """Whatever is done in whatever order, bounds hold and every index agrees with every other."""

    def __init__(self) -> None:
        super().__init__()
        self.table = FlowTable(LIMITS, HEADER_KEY)
        self.now_ns = 0

    def any_flow(self, data: st.DataObject) -> Flow | None:
        flows = list(self.table.by_address.values())
        return data.draw(st.sampled_from(flows)) if flows else None

    @rule(
        host=st.integers(1, 5),
        port=st.integers(1, 4),
        ufrag=st.sampled_from([None, "a", "b", "c"]),
        there=st.booleans(),
    )
    def open(self, host: int, port: int, ufrag: str | None, there: bool) -> None:
        address = (f"192.0.2.{host}", port)
        if address in self.table.by_address:
            return
        try:
            self.table.open(address, ufrag, THERE if there else HERE, self.now_ns)
        except FlowRefusedError:
            assert address not in self.table.by_address

    @rule(data=st.data(), session=st.sampled_from([None, b"s" * 16, b"t" * 16]))
    def learn(self, data: st.DataObject, session: bytes | None) -> None:
        if flow := self.any_flow(data):
            flow.answered = True
            self.table.learn(flow, down_header(*flow.address, session or bytes(16), HEADER_KEY), session)

    @rule(data=st.data(), ufrag=st.sampled_from(["a", "b", "c"]), there=st.booleans())
    def hand_over(self, data: st.DataObject, ufrag: str, there: bool) -> None:
        if flow := self.any_flow(data):
            try:
                self.table.hand_over(flow, ufrag, THERE if there else HERE, self.now_ns)
            except FlowRefusedError:
                assert flow.ufrag != ufrag

    @rule(data=st.data(), seconds=st.integers(0, 20))
    def wait(self, data: st.DataObject, seconds: int) -> None:
        self.now_ns += seconds * SECOND
        if flow := self.any_flow(data):
            flow.seen_ns = self.now_ns
        sweep(self.table, self.now_ns)

    @invariant()
    def bounds_hold_and_indices_agree(self) -> None:
        flows = list(self.table.by_address.values())
        assert len(flows) <= LIMITS.flows
        assert all(address == flow.address for address, flow in self.table.by_address.items())
        for key, flow in self.table.by_down_key.items():
            assert flow.down_key == key
            assert self.table.by_address[flow.address] is flow
        for host in {flow.address[0] for flow in flows}:
            mine = sum(flow.address[0] == host for flow in flows)
            assert mine <= LIMITS.flows_per_source
            assert self.table.flows_of_source(host) == mine
        for ufrag in ("a", "b", "c"):
            named = [flow for flow in flows if flow.ufrag == ufrag]
            assert len(named) <= LIMITS.flows_per_ufrag
            assert set(self.table.flows_of_ufrag(ufrag)) == set(named)
        assert self.table.opened - sum(self.table.closed.values()) == len(flows)


Table.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTable = Table.TestCase
