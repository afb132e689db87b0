"""The clock of the machine."""

import math
import threading

from tests.unit.workqueue.conftest import Threads
from workqueue import RealClock


def test_infinite_times_are_waited_for(threads: Threads) -> None:
    """Although the timeouts of the system have a limit."""
    clock, condition, stop = RealClock(), threading.Condition(), threading.Event()
    results: list[bool] = []
    waiting = threading.Event()

    def wait() -> None:
        with condition:
            waiting.set()
            results.append(clock.wait(condition, math.inf))

    threads.start(wait)
    threads.start(lambda: results.append(clock.sleep(math.inf, stop)))
    assert waiting.wait(10)
    with condition:
        condition.notify()
    stop.set()
    threads.join()
    assert results == [True, True]


def test_a_sleep_ends_by_time() -> None:
    assert RealClock().sleep(0.001, threading.Event()) is False
