"""The stop of a thread's work, and calls that end with it."""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from controller.runtime.term import TermEnded
from informers import no_retries_after
from informers.threads import run_in_thread

# A thread cannot wait for a result and an event together.
_POLL_SECONDS = 0.1

T = TypeVar("T")

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


@contextmanager
def work_until(stop: threading.Event) -> Iterator[None]:
    """The work of this thread has to end soon after `stop`: no request is retried, and `call_until_stop` ends."""
    token = _stop.set(stop)
    try:
        with no_retries_after(stop):
            yield
    finally:
        _stop.reset(token)


def call_until_stop(call: Callable[[], T], *, seconds: float, may_be_abandoned: bool) -> T:
    """The result of call(), which runs in another thread because it may hang, for example in name resolution.

    Raises everything that it raises; TimeoutError after `seconds` of real time; and TermEnded after the stop of this
    thread's work: before the call, and if it may be abandoned also during it. An abandoned call continues, and its
    result is ignored.
    """
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise TermEnded
    result: concurrent.futures.Future[T] = concurrent.futures.Future()
    run_in_thread("call", lambda: _fulfil(result, call))
    wait = _POLL_SECONDS if stop is not None and may_be_abandoned else seconds
    deadline = time.monotonic() + seconds
    while not result.done() and (left := deadline - time.monotonic()) > 0:
        concurrent.futures.wait((result,), timeout=min(wait, left))
        if may_be_abandoned and stop is not None and stop.is_set() and not result.done():
            raise TermEnded
    if not result.done():
        raise TimeoutError(f"no result within {seconds:g} s")
    return result.result()


def _fulfil(result: "concurrent.futures.Future[T]", call: Callable[[], T]) -> None:
    try:
        result.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised by the caller, whatever it is
        result.set_exception(error)
