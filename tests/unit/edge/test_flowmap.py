from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.edge.flowmap import FlowMapError, decode, encode, record
from relay.edge.flows import Flow

KEY, OTHER = bytes(32), bytes(range(32))
HOSTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ADDRESSES = st.tuples(HOSTS, st.integers(0, 65535))


@given(
    ADDRESSES,
    ADDRESSES,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 14),
    st.one_of(st.none(), st.just("A" * 19)),
)
def test_what_is_kept_comes_back(
    client: tuple[str, int], transceiver: tuple[str, int], session: bytes, level_id: int, ufrag: str | None
) -> None:
    flow = Flow(client, b"", transceiver, 0)
    flow.session, flow.audio_level_id, flow.ufrag, flow.answered = session, level_id, ufrag, True
    made = record(flow)
    assert made is not None
    assert decode(encode([made], 5, KEY), [OTHER, KEY]) == (5, [(client, transceiver, session, level_id, ufrag)])


def test_only_answered_flows_of_a_known_session_are_kept() -> None:
    flow = Flow(("192.0.2.1", 1), b"", ("10.0.0.1", 1), 0)
    assert record(flow) is None
    flow.answered = True
    assert record(flow) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FlowMapError):
        decode(data, [KEY])


@given(st.integers(0, 8 * (16 + 16) - 1))
def test_whatever_is_changed_is_noticed(bit: int) -> None:
    data = bytearray(encode([], 5, KEY))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FlowMapError):
        decode(bytes(data), [KEY])
    with pytest.raises(FlowMapError, match="MAC"):
        decode(encode([], 5, KEY), [OTHER])
