"""Blocking calls that a stop can abandon.

Nothing can take a thread out of name resolution, connect() or a TLS handshake. Such a call runs in a thread of its own;
its caller waits for the result or for the stop, whichever comes first.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """The stop came before the result."""


class _Outcome(Generic[T]):
    def __init__(self) -> None:
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = False
        self.abandoned = False  # by the caller, before it was done


class Interrupt:
    """A flag that is set once and for all, and wakes whoever waits in call()."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._event = threading.Event()

    @property
    def event(self) -> threading.Event:
        """Set together with the flag; for waits that take an Event."""
        return self._event

    def is_set(self) -> bool:
        """Whether set() was called."""
        return self._event.is_set()

    def set(self) -> None:
        """Stop. Idempotent, from any thread."""
        with self._condition:
            self._event.set()
            self._condition.notify_all()

    def call(self, function: Callable[[], T], *, thread_name: str, abandon: Callable[[T], None] | None = None) -> T:
        """function(), run in a daemon thread. Passes on what it raises; raises Interrupted as soon as the flag is set.

        A result that nobody waits for any more is given to `abandon`.
        """
        outcome: _Outcome[T] = _Outcome()

        def work() -> None:
            try:
                outcome.result = function()
            except BaseException as error:  # noqa: BLE001 - handed to the caller below, whatever it is
                outcome.error = error
            with self._condition:
                outcome.done = True
                abandoned = outcome.abandoned
                self._condition.notify_all()
            if abandoned:
                give_up()

        def give_up() -> None:
            if outcome.error is None and abandon is not None:
                abandon(outcome.result)  # type: ignore[arg-type]

        with self._condition:
            if self._event.is_set():
                raise Interrupted
            threading.Thread(target=work, name=thread_name, daemon=True).start()
            self._condition.wait_for(lambda: outcome.done or self._event.is_set())
            # The flag wins over a result or error that came at the same moment.
            interrupted = self._event.is_set()
            outcome.abandoned = interrupted and not outcome.done
        if interrupted:
            if not outcome.abandoned:
                give_up()
            raise Interrupted
        if outcome.error is not None:
            raise outcome.error
        return outcome.result  # type: ignore[return-value]
