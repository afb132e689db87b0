"""Blocking calls that the caller can abandon at a stop or a timeout.

A thread cannot be interrupted in name resolution, connect() or a TLS handshake. Such a call runs in another thread; its
caller waits for the result, the stop or the timeout, whichever is first.
"""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from informers.threads import run_in_thread

log = logging.getLogger(__name__)

T = TypeVar("T")


class Interrupted(Exception):
    """The stop was set before the result."""


class Overdue(Exception):
    """The timeout ended before the result."""


class Interrupt:
    """A flag that can be set once. It ends all waits in call()."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._calls: set[_Call[object]] = set()  # guarded by _lock

    @property
    def event(self) -> threading.Event:
        """An Event that is set together with the flag, for waits that need one. Do not set it; call set()."""
        return self._event

    def is_set(self) -> bool:
        """Whether set() was called."""
        return self._event.is_set()

    def set(self) -> None:
        """Stop. Idempotent, from any thread."""
        with self._lock:
            self._event.set()
            calls = [*self._calls]
        for call in calls:
            call.interrupt()

    def call(
        self,
        function: Callable[[], T],
        *,
        thread_name: str,
        timeout: float | None = None,
        abandon: Callable[[T], None] = lambda _: None,
    ) -> T:
        """Run function() in a daemon thread and return its result. Raises everything that it raises, also SystemExit.

        Raises Interrupted as soon as the flag is set, and Overdue after `timeout` seconds of real time (None: no
        limit). `abandon` gets a result that comes after that, or at the same moment as the flag.
        """
        call = _Call(function, abandon)
        with self._lock:
            if self._event.is_set():
                raise Interrupted
            self._calls.add(cast("_Call[object]", call))
        try:
            run_in_thread(thread_name, call.run)
            return call.result(timeout)
        finally:
            with self._lock:
                self._calls.discard(cast("_Call[object]", call))


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T], abandon: Callable[[T], None]) -> None:
        self._function = function
        self._abandon = abandon
        self._changed = threading.Condition()
        # All below are guarded by _changed.
        self._done = False
        self._interrupted = False
        self._left = False  # by the caller, without the result
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = self._function()
        except BaseException as raised:  # noqa: BLE001 - raised by result(), whatever it is
            error = raised
        with self._changed:
            self._done, self._result, self._error = True, result, error
            left = self._left
            self._changed.notify()
        if left:
            self._give_up()

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted = True
            self._changed.notify()

    def result(self, timeout: float | None) -> T:
        with self._changed:
            try:
                self._changed.wait_for(lambda: self._done or self._interrupted, timeout)
            finally:
                # Also when an exception of a signal handler ends the wait. The flag has precedence over a result.
                leaving = self._interrupted or not self._done
                self._left = leaving and not self._done
            interrupted, give_up = self._interrupted, leaving and self._done
        if give_up:
            self._give_up()
        if interrupted:
            raise Interrupted
        if leaving:
            raise Overdue
        if self._error is not None:
            # Not kept here: its frames lead back to this object.
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
        return cast("T", self._result)

    def _give_up(self) -> None:
        if self._error is None:
            self._abandon(cast("T", self._result))
        else:
            log.debug("An abandoned call failed", extra={"error": type(self._error).__name__})
            self._error = None
