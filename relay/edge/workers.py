"""Several processes at one edge's two ports: the kernel gives each its share of the clients, by their addresses.

Each worker has a socket at either port (SO_REUSEPORT). A classic BPF program at each port names the worker by the
client's address and port, read from the IP and UDP headers in front and from the encapsulation header inside, so that
both directions of a flow meet in one process, whoever of the workers is running and however often they were restarted.
That takes sockets that keep their places in the group: whoever holds them must outlive the workers. While one is down,
the kernel keeps what comes for it, as far as its buffer goes.

What names no client, as answers to probes, goes to the first worker.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from contextlib import ExitStack
from typing import Final, NamedTuple

from relay.encap import DOWN, IPV6
from relay.keep import KEEP

WORKERS_MAX: Final = 64

_SO_ATTACH_REUSEPORT_CBPF: Final = 51  # asm-generic/socket.h; Python does not name it
_U32: Final = 0xFFFF_FFFF
_FACTOR, _MIXER = 0x9E37_79B1, 0x85EB_CA6B  # odd, with bits all over: neighbours go apart
_KEPT_BITS: Final = 16

# linux/bpf_common.h
_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD = 0x30, 0x28, 0x20
_TO_X: Final = 0x07
_MULTIPLY, _XOR_X, _SHIFT_RIGHT, _MODULO, _AND = 0x24, 0xAC, 0x74, 0x94, 0x54
_JUMP, _IF_EQUAL = 0x05, 0x15
_RETURN, _RETURN_A = 0x06, 0x16
_NETWORK_HEADER: Final = 0xFFF0_0000  # SKF_NET_OFF, linux/filter.h
_INSTRUCTION: Final = struct.Struct("=HBBI")
_PROGRAM: Final = struct.Struct("@HP")

_Code = list[tuple[int, int, int, int]]


class Sockets(NamedTuple):
    """One worker's two sockets."""

    public: socket.socket
    internal: socket.socket


def worker_of(host: str, port: int, workers: int) -> int:
    """Return which of so many workers has a client; the same as the kernel's choice.

    Args:
        host: numeric address.
        port: of the client.
        workers: how many there are.

    """
    address = int.from_bytes(socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)[-4:], "big")
    return ((((port * _FACTOR & _U32) ^ address) * _MIXER & _U32) >> _KEPT_BITS) % workers


def open_sockets(public: tuple[str, int], internal: tuple[str, int], workers: int) -> list[Sockets]:
    """Bind so many sockets at each of two addresses and let the kernel share the clients out.

    Raises:
        OSError: an address cannot be had, or the kernel cannot do it; the message says which.

    """
    with ExitStack() as opened:
        outside = _group(opened, public, workers, _by_ip_header(workers))
        inside = _group(opened, internal, workers, _by_encapsulation(workers))
        opened.pop_all()
    return [Sockets(*pair) for pair in zip(outside, inside, strict=True)]


def _group(opened: ExitStack, bind: tuple[str, int], workers: int, code: _Code) -> list[socket.socket]:
    family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
    try:
        # Whoever shares ports joins whoever else of the same user does. So first alone, which finds any other there.
        with socket.socket(family, socket.SOCK_DGRAM) as alone:
            alone.bind(bind)
            bind = alone.getsockname()[:2]
        group = [opened.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(workers)]
        for one in group:  # the order of binding is what the program counts by
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(bind)
    except OSError as error:
        raise OSError(error.errno, f"cannot bind UDP {bind[0]} port {bind[1]}: {error.strerror}") from error
    _attach(group[0], code)
    return group


def _attach(one: socket.socket, code: _Code) -> None:
    if not sys.platform.startswith("linux"):
        raise OSError(0, "several workers at one port take Linux; set SIDETONE_EDGE_WORKERS=1 here")
    instructions = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in code))
    try:
        one.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, _PROGRAM.pack(len(code), ctypes.addressof(instructions))
        )
    except OSError as error:
        raise OSError(
            error.errno,
            f"this kernel does not share a port out by program ({error.strerror}); set SIDETONE_EDGE_WORKERS=1 here",
        ) from error


def _by_ip_header(workers: int) -> _Code:
    """Go by the source of a datagram. IP options are not looked for: nothing on the way to a client carries them."""
    return [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_IF_EQUAL, 0, 4, 4),  # an IPv6 socket may have IPv4 clients
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12),
        (_TO_X, 0, 0, 0),
        (_LOAD_HALF, 0, 0, _NETWORK_HEADER + 20),
        (_JUMP, 0, 0, 3),
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 20),  # the source address's last four octets
        (_TO_X, 0, 0, 0),
        (_LOAD_HALF, 0, 0, _NETWORK_HEADER + 40),
        *_share(workers),
    ]


def _by_encapsulation(workers: int) -> _Code:
    """Go by the client that a transceiver's datagram names (`relay.encap`, `relay.keep`)."""
    return [
        (_LOAD_BYTE, 0, 0, 0),
        (_IF_EQUAL, 2, 0, DOWN),
        (_IF_EQUAL, 1, 0, KEEP),
        (_RETURN, 0, 0, 0),
        (_LOAD_BYTE, 0, 0, 1),
        (_AND, 0, 0, IPV6),
        (_IF_EQUAL, 0, 2, 0),
        (_LOAD_WORD, 0, 0, 4),
        (_JUMP, 0, 0, 1),
        (_LOAD_WORD, 0, 0, 16),
        (_TO_X, 0, 0, 0),
        (_LOAD_HALF, 0, 0, 2),
        *_share(workers),
    ]


def _share(workers: int) -> _Code:
    """Return the end of a program: the port is in A and the address in X. As `worker_of`."""
    return [
        (_MULTIPLY, 0, 0, _FACTOR),
        (_XOR_X, 0, 0, 0),
        (_MULTIPLY, 0, 0, _MIXER),
        (_SHIFT_RIGHT, 0, 0, _KEPT_BITS),
        (_MODULO, 0, 0, workers),
        (_RETURN_A, 0, 0, 0),
    ]
