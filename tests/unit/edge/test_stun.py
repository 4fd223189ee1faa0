from __future__ import annotations

import struct

import pytest
from aioice import stun as aioice_stun
from hypothesis import example, given
from hypothesis import strategies as st

from relay.stun import MAGIC_COOKIE, StunClass, StunError, read

TRANSACTION = bytes(range(12))


def message(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    body = b"".join(struct.pack("!HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in attributes)
    return struct.pack("!HH", kind, len(body)) + MAGIC_COOKIE + TRANSACTION + body


def test_a_connectivity_check_is_read() -> None:
    check = aioice_stun.Message(
        message_method=aioice_stun.Method.BINDING,
        message_class=aioice_stun.Class.REQUEST,
        transaction_id=TRANSACTION,
    )
    check.attributes["PRIORITY"] = 1
    check.attributes["USERNAME"] = "theirs:ours"
    check.add_message_integrity(b"password")
    read_back = read(bytes(check))
    assert read_back.is_binding_request
    assert read_back.transaction_id == TRANSACTION
    assert read_back.username == "theirs:ours"


@pytest.mark.parametrize("method", [aioice_stun.Method.BINDING, aioice_stun.Method.SEND, aioice_stun.Method.ALLOCATE])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (aioice_stun.Class.REQUEST, StunClass.REQUEST),
        (aioice_stun.Class.INDICATION, StunClass.INDICATION),
        (aioice_stun.Class.RESPONSE, StunClass.SUCCESS),
        (aioice_stun.Class.ERROR, StunClass.ERROR),
    ],
)
def test_class_and_method_are_told_apart(
    method: aioice_stun.Method, theirs: aioice_stun.Class, ours: StunClass
) -> None:
    made = aioice_stun.Message(message_method=method, message_class=theirs, transaction_id=TRANSACTION)
    found = read(bytes(made))
    assert (found.kind, found.method) == (ours, int(method))


@given(st.binary(max_size=200))
@example(b"")
@example(b"\0\1\0\0" + MAGIC_COOKIE + TRANSACTION[:-1])
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read(data)
    except StunError:
        return


@given(st.integers(0, 0x3FFF), st.binary(max_size=120), st.data())
def test_any_attributes_behind_a_good_header_are_read_or_refused(kind: int, body: bytes, data: st.DataObject) -> None:
    length = data.draw(st.sampled_from([len(body), len(body) & ~3, 0, 0xFFFF]))
    try:
        read(struct.pack("!HH", kind, length) + MAGIC_COOKIE + TRANSACTION + body)
    except StunError:
        return


@given(st.lists(st.tuples(st.integers(0x7F00, 0x7FFF), st.binary(max_size=40)), max_size=4), st.text(max_size=40))
def test_the_username_is_found_among_other_attributes(others: list[tuple[int, bytes]], name: str) -> None:
    assert read(message(1, *others, (6, name.encode()))).username == name


def test_a_username_behind_message_integrity_is_not_believed() -> None:
    assert read(message(1, (8, bytes(20)), (6, b"forged"))).username is None
    assert read(message(1, (0x1C, bytes(32)), (6, b"forged"))).username is None


def test_only_the_first_username_counts() -> None:
    assert read(message(1, (6, b"first"), (6, b"second"))).username == "first"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (message(1)[:-1], "too few"),
        (message(1) + b"\0", "are there"),
        (message(1, (6, b"abcd"))[:-4], "are there"),
        (b"\x40" + message(1)[1:], "first bits"),
        (message(1).replace(MAGIC_COOKIE, bytes(4)), "magic cookie"),
        (message(1, (6, b"\xff\xfe")), "UTF-8"),
        (message(1, (6, bytes(516))), "longer"),
        (struct.pack("!HH", 1, 4) + MAGIC_COOKIE + TRANSACTION + b"\0\6\0\1", "runs past"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, why: str) -> None:
    with pytest.raises(StunError, match=why):
        read(data)
