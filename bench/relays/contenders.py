"""Relays as processes of their own, each with sixteen clients connected and the transceiver behind it."""

from __future__ import annotations

import multiprocessing
import secrets
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from aioice import stun

from bench.relays import serve
from bench.relays.load import CLIENTS, LOOPBACK, Address, Load, udp
from relay.edge.edge import Counters
from relay.encap import DOWN_BYTES, UP_BYTES, down_header
from relay.ufrag import mint

_PATIENCE_S: Final = 10.0
_UDP: Final = 17
_FIRST_CHANNEL: Final = 0x4000  # RFC 8656, section 12


class Unavailable(Exception):  # noqa: N818 - nothing is wrong: it is not installed here
    """A contender cannot be had on this machine. The message says what it needs."""


class Contender:
    """A relay that runs, under load.

    Attributes:
        load: what is sent through it.
        control: the other end of an edge's questions.
        rtp_at: where RTP starts in what the transceiver gets.
        public: where clients send.

    """

    def __init__(
        self, pid: int, load: Load, *, control: Any = None, rtp_at: int = 0, public: Address = ("", 0)
    ) -> None:
        self._clock = (~pid << 3) | 2  # the CPU clock of all threads of another process: clock_getcpuclockid(3)
        self.pid = pid
        self.load = load
        self.control = control
        self.rtp_at = rtp_at
        self.public = public

    def cpu_s(self) -> float:
        """Return the CPU seconds of the process, user and system."""
        return time.clock_gettime(self._clock)

    def rss_bytes(self) -> int:
        """Return what it holds in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096

    def counters(self) -> Counters:
        """Ask an edge."""
        self.control.send(None)
        counters: Counters = self.control.recv()
        return counters


def python(ending: ExitStack, folder: str, target: Callable[..., None], **settings: Any) -> Contender:
    """Start a relay that is Python, and connect it."""
    transceiver = ending.enter_context(udp())
    clients = [ending.enter_context(udp()) for _ in range(CLIENTS)]
    control, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=(theirs, transceiver.getsockname(), folder, settings), daemon=True
    )
    process.start()
    theirs.close()
    ending.callback(process.join, 5)
    ending.callback(control.close)
    public, internal = control.recv()
    headers = [connect(client, transceiver, public, internal, n) for n, client in enumerate(clients)]
    load = Load(clients, transceiver, public, [b""] * CLIENTS, headers, [internal] * CLIENTS)
    return Contender(process.pid or 0, load, control=control, rtp_at=UP_BYTES[0], public=public)


def connect(client: socket.socket, transceiver: socket.socket, public: Address, internal: Address, n: int) -> bytes:
    """Let an edge (or a forwarder) know a client; return the header of what the transceiver sends it."""
    check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    check.attributes["USERNAME"] = mint(serve.CODE, serve.KEY, 0, secrets.token_bytes(5)) + ":bench"
    client.sendto(bytes(check), public)
    transceiver.recv(2048)
    header = _header(client, (n + 1).to_bytes(16, "big"))
    transceiver.sendto(header + bytes(check), internal)
    client.recv(2048)
    return header


def _header(client: socket.socket, session: bytes) -> bytes:
    host, port = client.getsockname()
    return down_header(host, port, session, serve.HEADER_KEY)


def c_loop(ending: ExitStack, folder: str) -> Contender:
    """Build the C loop and start it.

    Raises:
        Unavailable: there is no C compiler.

    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("a C compiler (cc)")
    program = Path(folder) / "loop"
    source = Path(__file__).with_name("loop.c")
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    transceiver = ending.enter_context(udp())
    clients = [ending.enter_context(udp()) for _ in range(CLIENTS)]
    sizes = UP_BYTES[0], DOWN_BYTES[0]
    arguments = [str(program), str(transceiver.getsockname()[1]), *map(str, sizes)]
    process = ending.enter_context(
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    ending.callback(process.terminate)
    assert process.stdout is not None
    public, internal = ((LOOPBACK, int(port)) for port in process.stdout.readline().split())
    headers = [_header(client, bytes(16)) for client in clients]
    load = Load(clients, transceiver, public, [b""] * CLIENTS, headers, [internal] * CLIENTS)
    return Contender(process.pid, load, rtp_at=UP_BYTES[0])


def coturn(ending: ExitStack, folder: str) -> Contender:
    """Start coturn on loopback and bind a channel for each client, the cheapest way that TURN has (RFC 8656).

    Raises:
        Unavailable: it is not installed.

    """
    program = shutil.which("turnserver")
    if program is None:
        raise Unavailable("coturn (turnserver)")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    options = ["-n", "--no-auth", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--allow-loopback-peers"]
    options += ["--listening-ip", LOOPBACK, "--relay-ip", LOOPBACK, "--listening-port", str(port)]
    options += [
        "--log-file",
        str(Path(folder) / "turn.log"),
        "--simple-log",
        "--pidfile",
        str(Path(folder) / "turn.pid"),
    ]
    options += ["--relay-threads", "1"]
    process = ending.enter_context(
        subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    )
    ending.callback(process.terminate)
    transceiver = ending.enter_context(udp())
    clients = [ending.enter_context(udp()) for _ in range(CLIENTS)]
    public = LOOPBACK, port
    relayed = [
        _allocate(client, public, transceiver.getsockname(), _FIRST_CHANNEL + n) for n, client in enumerate(clients)
    ]
    channels = [struct.pack("!HH", _FIRST_CHANNEL + n, 180) for n in range(CLIENTS)]
    return Contender(process.pid, Load(clients, transceiver, public, channels, [b""] * CLIENTS, relayed))


def _allocate(client: socket.socket, server: Address, peer: Address, channel: int) -> Address:
    """Return the address that coturn relays for a client, with a channel to the peer bound."""
    allocated = _ask(client, server, stun.Method.ALLOCATE, {"REQUESTED-TRANSPORT": _UDP << 24, "LIFETIME": 600})
    _ask(client, server, stun.Method.CHANNEL_BIND, {"CHANNEL-NUMBER": channel, "XOR-PEER-ADDRESS": peer})
    address: Address = allocated.attributes["XOR-RELAYED-ADDRESS"]
    return address


def _ask(client: socket.socket, server: Address, method: stun.Method, attributes: dict[str, Any]) -> stun.Message:
    ends = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends:
        request = stun.Message(message_method=method, message_class=stun.Class.REQUEST)
        request.attributes.update(attributes)
        client.sendto(bytes(request), server)
        try:
            answer = stun.parse_message(client.recv(2048))
        except (TimeoutError, ConnectionRefusedError):
            continue  # it is still starting
        if answer.message_class is stun.Class.RESPONSE and answer.message_method is method:
            return answer
        raise Unavailable(f"a coturn that answers {method.name}: it said {dict(answer.attributes)}")
    raise Unavailable(f"a coturn that answers within {_PATIENCE_S:.0f} s")
