"""Threads for short calls."""

import threading

import pytest

from informers.testing import eventually
from informers.threads import run_in_thread


def test_threads_are_used_again_and_end() -> None:
    """One after another they need one thread; when there is nothing to do, none."""
    before = set(threading.enumerate())
    used = set()
    for number in range(50):
        done = threading.Event()
        run_in_thread(f"task-{number}", lambda done=done: (used.add(threading.get_ident()), done.set()))  # type: ignore[arg-type, func-returns-value, misc]
        assert done.wait(60)
        eventually(lambda: {t.name for t in set(threading.enumerate()) - before} <= {"idle"})
    assert len(used) < 10  # one, but for a machine that takes a second between two tasks
    eventually(lambda: not [t for t in set(threading.enumerate()) - before if t.name in ("idle", "task-49")])


def test_calls_that_come_together_do_not_wait_for_each_other() -> None:
    """Each has a thread."""
    together = threading.Barrier(20)
    done = threading.Semaphore(0)
    for _ in range(20):
        run_in_thread("task", lambda: (together.wait(60), done.release()))  # type: ignore[arg-type, func-returns-value]
    for _ in range(20):
        assert done.acquire(timeout=60)


@pytest.mark.parametrize("error_type", [LookupError, SystemExit])
def test_a_failure_is_logged(error_type: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """And the thread goes on."""

    def fail() -> None:
        raise error_type("by a mistake")

    run_in_thread("failing", fail)
    eventually(lambda: caplog.records)
    assert getattr(caplog.records[0], "task", "") == "failing"
    done = threading.Event()
    run_in_thread("next", done.set)
    assert done.wait(60)


def test_none_is_lost_where_idle_threads_are_just_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that comes as a thread gives up is done by it or by another."""
    monkeypatch.setattr("informers.threads.IDLE_SECONDS", 0.0001)
    for _ in range(300):
        done = [threading.Event() for _ in range(4)]
        for each in done:
            run_in_thread("task", each.set)
        assert all(each.wait(60) for each in done)
