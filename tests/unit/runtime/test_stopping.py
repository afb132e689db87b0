"""Work that may hang asks whether it has to end."""

import threading

import pytest

from controller.runtime import TermEnded, check_stop
from controller.runtime.stopping import work_until


def test_work_ends_with_its_stop() -> None:
    """The innermost counts, and what comes after the block goes on."""
    stop, inner = threading.Event(), threading.Event()
    with work_until(stop):
        check_stop()
        stop.set()
        with work_until(inner):
            check_stop()
        with pytest.raises(TermEnded):
            check_stop()
    check_stop()


def test_the_stop_is_that_of_the_thread() -> None:
    """The work of other threads goes on."""
    stop = threading.Event()
    stop.set()
    went_on: list[bool] = []

    def other() -> None:
        check_stop()
        went_on.append(True)

    with work_until(stop):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert went_on
