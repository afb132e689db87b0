import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.clock import VirtualClock

_DEADLINE_SECONDS = 30.0  # real time; only a hang ever reaches it
_EAGER_SWITCH_SECONDS = 1e-6  # the interpreter changes threads about as often as it can


class Threads:
    """Runs functions in threads; join() raises what they raised, and fails if one hangs."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, target: Callable[..., object], *args: object) -> threading.Thread:
        def run() -> None:
            try:
                target(*args)
            except BaseException as error:  # noqa: BLE001 - raised again by join()
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def join(self) -> None:
        for thread in self._threads:
            thread.join(_DEADLINE_SECONDS)
        hanging = sum(thread.is_alive() for thread in self._threads)
        self._threads.clear()
        if self._errors:
            raise self._errors[0]
        assert not hanging, f"{hanging} threads hang"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def threads() -> Iterator[Threads]:
    runner = Threads()
    yield runner
    runner.join()


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Provokes races: threads are switched at almost each instruction."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_EAGER_SWITCH_SECONDS)
    yield
    sys.setswitchinterval(before)
