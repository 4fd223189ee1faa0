"""Who talks to whom, kept on disk: an edge that was killed has both directions back when it starts again.

One file a worker, written whole and renamed into place about once a second, off the loop: 8 bytes of magic, the time
of writing (UTC ns), one record of 73 bytes per answered flow, and a MAC. It holds client addresses: only its owner may
read it. What is older than a flow may be idle is not used, and removed where no worker will write it again.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

import structlog

from relay.edge.flows import Address, Entry, Flow

_MAGIC: Final = b"flowmap1"
_HEAD: Final = struct.Struct("!8sQ")
_RECORD: Final = struct.Struct("!B16sH16sH16sB19s")
_MAC_BYTES: Final = 16
_PERSON: Final = b"sidetone flows"
_V4_CLIENT, _V4_TRANSCEIVER, _HAS_UFRAG = 1, 2, 4
_SLICE: Final = 128  # records made between two yields, some 0.3 ms

_log = structlog.get_logger("sidetone.edge")


class FlowMapError(ValueError):
    """The bytes are no flow map of ours. The message says why."""


def encode(entries: list[bytes], saved_ns: int, key: bytes) -> bytes:
    """Return the file's bytes."""
    body = _HEAD.pack(_MAGIC, saved_ns) + b"".join(entries)
    return body + _mac(body, key)


def record(flow: Flow) -> bytes | None:
    """Return a flow's record, or None if it is not worth one: nobody answered, or its session is not known."""
    if not flow.answered or flow.session is None:
        return None
    client, v4_client = _packed(flow.address[0])
    transceiver, v4_transceiver = _packed(flow.transceiver[0])
    flags = _V4_CLIENT * v4_client | _V4_TRANSCEIVER * v4_transceiver | _HAS_UFRAG * (flow.ufrag is not None)
    ufrag = (flow.ufrag or "").encode("ascii")
    return _RECORD.pack(
        flags, client, flow.address[1], transceiver, flow.transceiver[1], flow.session, flow.audio_level_id, ufrag
    )


def decode(data: bytes, keys: Sequence[bytes]) -> tuple[int, list[Entry]]:
    """Return when a file was written (UTC ns), signed with any of these keys, and what it says.

    Raises:
        FlowMapError: it is damaged, of another version, or signed with another key.

    """
    body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if len(body) < _HEAD.size or (len(body) - _HEAD.size) % _RECORD.size:
        raise FlowMapError(f"{len(data)} bytes are no whole number of records")
    magic, saved_ns = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise FlowMapError("it is of another version, or no flow map")
    if not any(hmac.compare_digest(_mac(body, key), mac) for key in keys):
        raise FlowMapError("its MAC is wrong: it is damaged, or of another ufrag key")
    return saved_ns, [_entry(*fields) for fields in _RECORD.iter_unpack(body[_HEAD.size :])]


class FlowMap:
    """The file. `save` belongs to the loop; a thread of its own does the writing, so that no disk delays voice.

    Args:
        path: of the first worker's.
        keys: the first signs; an edge that learnt a new one believes its map of before.
        idle_ns: how long a flow may be idle.
        worker: whose file this is, from 0.
        workers: how many there are now.

    """

    def __init__(self, path: Path, keys: Sequence[bytes], idle_ns: int, worker: int = 0, workers: int = 1) -> None:
        self._edge = path
        self._path = path.with_name(f"{path.name}+{worker}") if worker else path
        self._idle_ns = idle_ns
        self._worker, self._workers = worker, workers
        self._keys = tuple(keys)
        self._changed = threading.Condition()
        self._to_write: bytes | None = None  # the latest only: a disk that hangs must not fill the memory
        self._closed = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._write_all, name="flow-map", daemon=True)
        self._thread.start()

    def load(self, now_ns: int) -> list[Entry]:
        """Return what the edge's workers, as many as there were, saved lately, once per client; `now_ns` is UTC.

        Whatever is wrong is logged: calls go on without.
        """
        found = []
        for path in (self._edge, *self._edge.parent.glob(f"{self._edge.name}+*[0-9]")):
            try:
                found.append(decode(path.read_bytes(), self._keys))
            except FileNotFoundError:
                pass
            except (OSError, FlowMapError) as error:
                _log.warning("flow map not used", path=str(path), problem=str(error))
        by_client: dict[Address, Entry] = {}
        for saved_ns, entries in sorted(found, key=lambda one: one[0]):  # what was saved last is believed
            if saved_ns >= now_ns - self._idle_ns:
                by_client |= {entry.client: entry for entry in entries}
        return list(by_client.values())

    def save(self, flows: list[Flow], now_ns: int) -> Iterator[None]:
        """Hand these flows to the writing thread; yields between slices of the work."""
        records: list[bytes] = []
        for n, flow in enumerate(flows, 1):
            made = record(flow)
            if made is not None:
                records.append(made)
            if n % _SLICE == 0:
                yield
        made = encode(records, now_ns, self._keys[0])
        with self._changed:
            self._to_write = made
            self._changed.notify()

    def close(self) -> None:
        """Write what was handed over last, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _write_all(self) -> None:
        while (data := self._next()) is not None:
            try:
                self._write(data)
                if self._worker == 0:
                    self._remove_left_over()
                self._problem = None
            except OSError as error:
                if self._problem != str(error):  # a full disk would be told of every second, on that very disk perhaps
                    self._problem = str(error)
                    _log.warning("flow map not written", path=str(self._path), problem=self._problem)

    def _next(self) -> bytes | None:
        """Wait for what is to be written; None: nothing comes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._to_write is not None or self._closed)
            data, self._to_write = self._to_write, None
            return data

    def _write(self, data: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123 - its mode
            file.write(data)
        fresh.rename(self._path)

    def _remove_left_over(self) -> None:
        """Remove outdated maps of workers beyond those that there are now: nobody else will."""
        oldest_ns = self._path.stat().st_mtime_ns - self._idle_ns
        for path in self._edge.parent.glob(f"{self._edge.name}+*"):
            number = path.stem.rpartition("+")[2]  # also of what its writer did not come to rename
            if number.isdigit() and int(number) >= self._workers and path.stat().st_mtime_ns < oldest_ns:
                path.unlink()


def _mac(body: bytes, key: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_MAC_BYTES, person=_PERSON).digest()


def _packed(host: str) -> tuple[bytes, bool]:
    v4 = ":" not in host
    return socket.inet_pton(socket.AF_INET if v4 else socket.AF_INET6, host).rjust(16, b"\0"), v4


def _host(packed: bytes, v4: int) -> str:
    """Return an address as sockets write it, which `ipaddress` does not for every one."""
    return socket.inet_ntop(socket.AF_INET, packed[12:]) if v4 else socket.inet_ntop(socket.AF_INET6, packed)


def _entry(
    flags: int, client: bytes, port: int, transceiver: bytes, its_port: int, session: bytes, level_id: int, ufrag: bytes
) -> Entry:
    name = ufrag.decode("ascii", "replace") if flags & _HAS_UFRAG else None
    return Entry(
        (_host(client, flags & _V4_CLIENT), port),
        (_host(transceiver, flags & _V4_TRANSCEIVER), its_port),
        session,
        level_id,
        name,
    )
