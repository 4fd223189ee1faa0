"""Whom captured packets belong to, by small numbers: a packet's row holds four bytes instead of a session.

A flow has one owner at a time. An owner learns its session once, possibly after packets were captured, and never
changes it: a flow that goes over to another session gets a new owner. Numbers are used again only when no row that
holds them can be left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

_FIRST: Final = 256
UNKNOWN: Final = -1


class Owners:
    """Not thread-safe: belongs to the loop. Bounded by the flows and by what is captured between two flushes.

    Attributes:
        sessions: uint8, a row of 16 bytes an owner.
        level_ids: uint8, header extension id of the session's audio level (RFC 6464), 0 for none.
        codes: int64, the same for all owners of a session while it has any; UNKNOWN without a session.

    """

    def __init__(self) -> None:
        self.sessions: npt.NDArray[np.uint8] = np.zeros((_FIRST, 16), np.uint8)
        self.level_ids: npt.NDArray[np.uint8] = np.zeros(_FIRST, np.uint8)
        self.codes: npt.NDArray[np.int64] = np.full(_FIRST, UNKNOWN, np.int64)
        self._free = list(range(_FIRST - 1, -1, -1))
        self._retired: list[int] = []
        self._by_session: dict[bytes, tuple[int, int]] = {}  # code and owners
        self._next_code = 0

    def new(self, session: bytes | None = None, level_id: int = 0) -> int:
        """Return a number for a new owner; without a session it may learn one."""
        if not self._free:
            self._grow()
        owner = self._free.pop()
        self.codes[owner] = UNKNOWN
        if session is not None:
            self.tell(owner, session, level_id)
        return owner

    def tell(self, owner: int, session: bytes, level_id: int) -> None:
        """Let an owner know its session, or another extension id of the same."""
        self.level_ids[owner] = level_id
        if self.codes[owner] != UNKNOWN:
            return
        code, owners = self._by_session.get(session, (self._next_code, 0))
        self._next_code += not owners
        self._by_session[session] = code, owners + 1
        self.codes[owner] = code
        self.sessions[owner] = np.frombuffer(session, np.uint8)

    def knows(self, session: bytes) -> bool:
        """Whether any owner has this session."""
        return session in self._by_session

    def retire(self, owner: int) -> None:
        """Say that no more packets will be captured for an owner."""
        self._retired.append(owner)

    def take_retired(self) -> list[int]:
        """Return who retired since the last call, to be released when no row holds them."""
        taken, self._retired = self._retired, []
        return taken

    def release(self, owners: Iterable[int]) -> None:
        """Let numbers be used again."""
        for owner in owners:
            if self.codes[owner] != UNKNOWN:
                session = self.sessions[owner].tobytes()
                code, count = self._by_session.pop(session)
                if count > 1:
                    self._by_session[session] = code, count - 1
            self.codes[owner] = UNKNOWN
            self._free.append(owner)

    def _grow(self) -> None:
        size = len(self.codes)
        self.sessions = np.concatenate([self.sessions, np.zeros_like(self.sessions)])
        self.level_ids = np.concatenate([self.level_ids, np.zeros_like(self.level_ids)])
        self.codes = np.concatenate([self.codes, np.full(size, UNKNOWN, np.int64)])
        self._free = list(range(2 * size - 1, size - 1, -1))
