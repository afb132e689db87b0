"""The threads of a manager. None ends unnoticed."""

import logging
import threading
from collections.abc import Callable

from informers import Stop, Stopped
from workqueue import Clock

log = logging.getLogger(__name__)

Run = Callable[[Stop], None]


class RunnableFailed(Exception):
    """A component of the process failed, or ended before the stop."""


class Group:
    """Threads that are started and stopped together, with waits on the given clock."""

    def __init__(self, clock: Clock, on_failure: Callable[[RunnableFailed], None], *, stop: Stop | None = None) -> None:
        self.stop = stop or Stop()
        self._clock = clock
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._running: list[str] = []  # names of the threads that have not ended
        self._abandoned = False

    def start(self, name: str, run: Run, *, until_stop: bool) -> None:
        """Start a thread, unless the group was stopped. until_stop: ending earlier counts as a failure."""
        with self._changed:
            if self.stop.is_set():
                return
            self._running.append(name)
        threading.Thread(target=self._run, args=(name, run, until_stop), name=name, daemon=True).start()

    def end(self, deadline: float) -> list[str]:
        """Stop all threads and wait for them; return the names of those that have not ended by then."""
        with self._changed:
            self.stop.set()
            while self._running and not self._abandoned and (left := deadline - self._clock.monotonic()) > 0:
                self._clock.wait(self._changed, left)
            return list(self._running)

    def abandon(self) -> None:
        """Stop all threads and end all waits for them."""
        with self._changed:
            self._abandoned = True
            self.stop.set()
            self._changed.notify_all()

    def _run(self, name: str, run: Run, until_stop: bool) -> None:
        failure: RunnableFailed | None = None
        try:
            run(self.stop)
            if until_stop and not self.stop.is_set():
                failure = RunnableFailed(f"{name} ended unexpectedly")
        except Stopped:
            log.debug("A component ended with its term", extra={"part": name})
        except BaseException as error:  # noqa: BLE001 - SystemExit of a thread would otherwise end it silently
            failure = RunnableFailed(f"{name}: {type(error).__name__}: {error}")
            failure.__cause__ = error
        try:
            if failure is not None:
                self._on_failure(failure)
                log.error("A component of the process ended", exc_info=failure, extra={"part": name})
        finally:
            # After the report: whoever waits for the threads then knows of every failure.
            with self._changed:
                self._running.remove(name)
                self._changed.notify_all()
