from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import encap

KEY, OTHER = encap.derive(bytes(32)), encap.derive(bytes(range(32)))
HOSTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
PORTS = st.integers(0, 65_535)


@given(HOSTS, PORTS, st.binary(max_size=64))
def test_up_header_is_read_back(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, payload: bytes) -> None:
    header = encap.up_header(str(host), port, KEY)
    assert len(header) == (16 if host.version == 4 else 28)
    up = encap.read_up(header + payload, [KEY])
    assert (ipaddress.ip_address(up.client.host), up.client.port) == (host, port)
    assert (header + payload)[up.offset :] == payload


@given(HOSTS, PORTS, st.binary(min_size=16, max_size=16), st.binary(max_size=64))
def test_down_header_is_read_back(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, session_id: bytes, payload: bytes
) -> None:
    header = encap.down_header(str(host), port, session_id, KEY)
    down = encap.read_down(memoryview(header + payload), [OTHER, KEY])
    assert (ipaddress.ip_address(down.client.host), down.client.port) == (host, port)
    assert down.session_id == session_id
    assert (header + payload)[down.offset :] == payload


@pytest.mark.parametrize("level_id", [None, 1, 14])
@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::1"])
def test_the_downward_header_tells_the_audio_levels_extension_id(host: str, level_id: int | None) -> None:
    header = encap.down_header(host, 9, bytes(16), KEY, level_id)
    assert encap.read_down(header, [KEY]).audio_level_id == level_id
    assert encap.read_down(header, [KEY]).client == (host, 9)


@pytest.mark.parametrize("level_id", [0, 15, 255, -1])
def test_an_extension_id_that_does_not_fit_is_left_out(level_id: int) -> None:
    assert encap.down_header("192.0.2.7", 9, bytes(16), KEY, level_id) == encap.down_header(
        "192.0.2.7", 9, bytes(16), KEY
    )


def test_layout_is_as_documented() -> None:
    assert encap.up_header("192.0.2.7", 0x1234, KEY)[:-8].hex() == "5e001234c0000207"
    assert encap.down_header("2001:db8::1", 5, bytes(range(16)), KEY)[:-8].hex() == (
        "5f010005" + "20010db8000000000000000000000001" + bytes(range(16)).hex()
    )


@given(st.binary(max_size=48))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (encap.read_up, encap.read_down):
        try:
            assert read(data, [KEY]).offset <= len(data)
        except encap.EncapError:
            continue


@pytest.mark.parametrize("cut", range(32))
def test_a_cut_header_is_refused(cut: int) -> None:
    header = encap.down_header("192.0.2.7", 9, bytes(16), KEY)
    with pytest.raises(encap.EncapError):
        encap.read_down(header[:cut], [KEY])


def test_reserved_flags_and_the_other_direction_are_refused() -> None:
    header = bytearray(encap.up_header("192.0.2.7", 9, KEY))
    with pytest.raises(encap.EncapError, match="0x5f"):
        encap.read_down(bytes(header) + bytes(16), [KEY])
    for flags in (0x80, 0x02):
        header[1] = flags
        with pytest.raises(encap.EncapError, match="reserved"):
            encap.read_up(bytes(header), [KEY])
    header[:2] = encap.DOWN, 0x20
    with pytest.raises(encap.EncapError, match="reserved"):
        encap.read_down(bytes(header) + bytes(16), [KEY])


@pytest.mark.parametrize(("host", "port"), [("example.org", 1), ("192.0.2.7", 70_000), ("192.0.2.7", -1), ("::zz", 1)])
def test_what_is_not_an_address_is_refused(host: str, port: int) -> None:
    with pytest.raises(encap.EncapError):
        encap.up_header(host, port, KEY)


def test_a_session_id_has_16_bytes() -> None:
    with pytest.raises(encap.EncapError, match="16 bytes"):
        encap.down_header("192.0.2.7", 9, b"short", KEY)


@given(st.data(), HOSTS, PORTS)
def test_whatever_is_changed_in_a_header_is_noticed(
    data: st.DataObject, host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    for header, read in (
        (encap.up_header(str(host), port, KEY), encap.read_up),
        (encap.down_header(str(host), port, bytes(range(16)), KEY, 3), encap.read_down),
    ):
        bit = data.draw(st.integers(0, 8 * len(header) - 1))
        changed = bytearray(header)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(encap.EncapError):
            read(bytes(changed) + b"datagram", [KEY])
        with pytest.raises(encap.EncapError, match="none of our keys"):
            read(header, [OTHER])


def test_a_header_key_does_not_tell_the_ufrag_key_and_differs_from_it() -> None:
    assert encap.derive(bytes(32)) != bytes(32)
    assert len(encap.derive(bytes(200))) == encap.KEY_BYTES
