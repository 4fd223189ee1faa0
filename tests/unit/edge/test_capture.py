from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from eventlog.schema import PACKET
from relay.edge.capture import Capture


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_what_was_shed_can_be_read_while_it_is_counted() -> None:
    capture, done = Capture(1), threading.Event()

    def count() -> None:
        number = 0
        while not done.is_set() and number < 3_000:
            number += 1
            capture.give_up(PACKET.name, f"reason-{number}", 1)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        for _ in range(100):
            assert set(capture.shed[PACKET.name].values()) <= {1}
    finally:
        done.set()
        counting.join()
