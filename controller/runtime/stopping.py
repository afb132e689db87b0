"""The stop of the work that a thread does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from controller.runtime.term import TermEnded
from informers import no_retries_after

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


@contextmanager
def work_until(stop: threading.Event) -> Iterator[None]:
    """The work of this thread has to end soon after `stop`: no request is retried, and `check_stop` raises."""
    token = _stop.set(stop)
    try:
        with no_retries_after(stop):
            yield
    finally:
        _stop.reset(token)


def check_stop() -> None:
    """Raises TermEnded if the work of this thread has to end, in a reconcile or a runnable. For calls that may hang."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise TermEnded
