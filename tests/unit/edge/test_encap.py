from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import encap

HOSTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
PORTS = st.integers(0, 65_535)


@given(HOSTS, PORTS, st.binary(max_size=64))
def test_up_header_is_read_back(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, payload: bytes) -> None:
    header = encap.up_header(str(host), port)
    assert len(header) == (8 if host.version == 4 else 20)
    up = encap.read_up(header + payload)
    assert (ipaddress.ip_address(up.client.host), up.client.port) == (host, port)
    assert (header + payload)[up.offset :] == payload


@given(HOSTS, PORTS, st.binary(min_size=16, max_size=16), st.binary(max_size=64))
def test_down_header_is_read_back(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, session_id: bytes, payload: bytes
) -> None:
    header = encap.down_header(str(host), port, session_id)
    down = encap.read_down(memoryview(header + payload))
    assert (ipaddress.ip_address(down.client.host), down.client.port) == (host, port)
    assert down.session_id == session_id
    assert (header + payload)[down.offset :] == payload


@pytest.mark.parametrize("level_id", [None, 1, 14])
@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::1"])
def test_the_downward_header_tells_the_audio_levels_extension_id(host: str, level_id: int | None) -> None:
    header = encap.down_header(host, 9, bytes(16), level_id)
    assert encap.read_down(header).audio_level_id == level_id
    assert encap.read_down(header).client == (host, 9)


@pytest.mark.parametrize("level_id", [0, 15, 255, -1])
def test_an_extension_id_that_does_not_fit_is_left_out(level_id: int) -> None:
    assert encap.down_header("192.0.2.7", 9, bytes(16), level_id) == encap.down_header("192.0.2.7", 9, bytes(16))


def test_layout_is_as_documented() -> None:
    assert encap.up_header("192.0.2.7", 0x1234).hex() == "5e001234c0000207"
    assert encap.down_header("2001:db8::1", 5, bytes(range(16))).hex() == (
        "5f010005" + "20010db8000000000000000000000001" + bytes(range(16)).hex()
    )


@given(st.binary(max_size=48))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (encap.read_up, encap.read_down):
        try:
            assert read(data).offset <= len(data)
        except encap.EncapError:
            continue


@pytest.mark.parametrize("cut", range(24))
def test_a_cut_header_is_refused(cut: int) -> None:
    header = encap.down_header("192.0.2.7", 9, bytes(16))
    with pytest.raises(encap.EncapError):
        encap.read_down(header[:cut])


def test_reserved_flags_and_the_other_direction_are_refused() -> None:
    header = bytearray(encap.up_header("192.0.2.7", 9))
    with pytest.raises(encap.EncapError, match="0x5f"):
        encap.read_down(bytes(header) + bytes(16))
    for flags in (0x80, 0x02):
        header[1] = flags
        with pytest.raises(encap.EncapError, match="reserved"):
            encap.read_up(bytes(header))
    header[:2] = encap.DOWN, 0x20
    with pytest.raises(encap.EncapError, match="reserved"):
        encap.read_down(bytes(header) + bytes(16))


@pytest.mark.parametrize(("host", "port"), [("example.org", 1), ("192.0.2.7", 70_000), ("192.0.2.7", -1), ("::zz", 1)])
def test_what_is_not_an_address_is_refused(host: str, port: int) -> None:
    with pytest.raises(encap.EncapError):
        encap.up_header(host, port)


def test_a_session_id_has_16_bytes() -> None:
    with pytest.raises(encap.EncapError, match="16 bytes"):
        encap.down_header("192.0.2.7", 9, b"short")
