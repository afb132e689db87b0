"""Calls that may hang end with the work of their thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from controller.runtime import TermEnded, call_until_stop
from controller.runtime.stopping import work_until

#: Real seconds; a machine may be slow, so the proof is far from both.
SHORT, LONG = 0.2, 30.0


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """A call that hangs is one that waits for this."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("may_be_abandoned", [True, False])
@pytest.mark.parametrize("stop", [threading.Event(), None], ids=["with a stop", "without"])
def test_the_result_is_that_of_the_call(stop: threading.Event | None, may_be_abandoned: bool) -> None:
    """Errors too, SystemExit included. It runs in another thread."""

    def call() -> str:
        return call_until_stop(lambda: threading.current_thread().name, seconds=LONG, may_be_abandoned=may_be_abandoned)

    def fail() -> None:
        raise SystemExit(7)

    if stop is None:
        name = call()
    else:
        with work_until(stop):
            name = call()
    assert name != threading.current_thread().name
    with pytest.raises(SystemExit):
        call_until_stop(fail, seconds=LONG, may_be_abandoned=may_be_abandoned)


def test_an_error_of_the_same_type_as_the_timeout_is_the_calls(hang: threading.Event) -> None:
    """It says what the call says."""

    def fail() -> None:
        raise TimeoutError("the server is slow")

    with pytest.raises(TimeoutError, match="the server is slow"):
        call_until_stop(fail, seconds=LONG, may_be_abandoned=True)
    with pytest.raises(TimeoutError, match=r"no result within 0\.2 s"):
        call_until_stop(hang.wait, seconds=SHORT, may_be_abandoned=True)


def test_a_stop_ends_a_call_that_may_be_abandoned(hang: threading.Event) -> None:
    """At once, however long it would go on."""
    stop = threading.Event()
    threading.Timer(SHORT, stop.set).start()
    begun = time.monotonic()
    with work_until(stop), pytest.raises(TermEnded):
        call_until_stop(hang.wait, seconds=LONG, may_be_abandoned=True)
    assert time.monotonic() - begun < LONG / 2


def test_other_calls_are_waited_for_after_the_stop(hang: threading.Event) -> None:
    """What they have changed elsewhere must not be lost."""
    stop = threading.Event()

    def call() -> str:
        stop.set()
        hang.wait(SHORT)
        return "signed"

    with work_until(stop):
        assert call_until_stop(call, seconds=LONG, may_be_abandoned=False) == "signed"


@pytest.mark.parametrize("may_be_abandoned", [True, False])
def test_no_call_begins_after_the_stop(may_be_abandoned: bool) -> None:
    """Whatever it is."""
    stop = threading.Event()
    stop.set()
    begun: list[str] = []
    with work_until(stop), pytest.raises(TermEnded):
        call_until_stop(lambda: begun.append("begun"), seconds=LONG, may_be_abandoned=may_be_abandoned)
    assert not begun


def test_the_stop_is_that_of_the_thread() -> None:
    """The work of another one goes on, and so does what comes after the block."""
    stop = threading.Event()
    stop.set()
    with work_until(stop):
        other = call_until_other_thread()
    assert other == "done"
    assert call_until_stop(lambda: "done", seconds=LONG, may_be_abandoned=True) == "done"


def call_until_other_thread() -> str:
    results: list[str] = []
    thread = threading.Thread(
        target=lambda: results.append(call_until_stop(lambda: "done", seconds=LONG, may_be_abandoned=True))
    )
    thread.start()
    thread.join()
    return results[0]
