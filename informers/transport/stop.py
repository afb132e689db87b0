"""The stop of work that may be blocked: one object for all who wait, send and read."""

import threading
from collections.abc import Callable


class Stopped(BaseException):
    """The work was stopped. It is not an Exception, like other cancellations: code that handles failures must not catch
    it. Whoever set the stop handles it.
    """


class Stop(threading.Event):
    """An Event whose set() also ends the blocked requests of its work. It is set once and never cleared."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []  # guarded by _lock

    def set(self) -> None:
        """Stop. Idempotent, from any thread; does not wait."""
        with self._lock:
            super().set()
            # With the lock: after remove(), a callback must not touch a connection that has the next request.
            for callback in self._callbacks:
                callback()

    def check(self) -> None:
        """Raises Stopped if the stop is set."""
        if self.is_set():
            raise Stopped

    def add(self, callback: Callable[[], None]) -> None:
        """Let set() call this too, with the lock of the stop: it must return at once and use nothing of the stop.

        Raises Stopped if the stop is set.
        """
        with self._lock:
            if super().is_set():
                raise Stopped
            self._callbacks.append(callback)

    def remove(self, callback: Callable[[], None]) -> None:
        """Undo add(). After it, the callback does not run any more."""
        with self._lock:
            self._callbacks.remove(callback)
