"""A clock for commands that wait."""

import threading
from collections.abc import Iterator

import pytest

from tests.clock import VirtualClock


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Moves by itself, half a second whenever somebody waits."""
    clock, stop = VirtualClock(), threading.Event()

    def move() -> None:
        while not stop.is_set():
            try:
                clock.wait_for_waiters(1, timeout=0.05)
            except TimeoutError:
                continue
            clock.advance(0.5)

    thread = threading.Thread(target=move)
    thread.start()
    yield clock
    stop.set()
    thread.join()
