"""Waits for the agent, and prints a line for each change of the CompassConnection."""

import threading
from collections.abc import Callable
from typing import Any, TextIO

from controller.connection import status as cc
from controller.fields import member
from controller.settings import format_duration
from controller.text import clean
from informers import ConnectionFailed, ServerError, TooManyRequests
from workqueue import Clock

_POLL_SECONDS = 0.5
_MAX_TEXT = 1024
PASSING = (ConnectionFailed, ServerError, TooManyRequests)
"""Errors of an API server that is restarted or busy; the others stay."""

Object = dict[str, Any]
Read = Callable[[], Object | None]
Done = Callable[[Object | None], bool]


class TimedOut(Exception):
    """The condition did not become true in time."""


class Progress:
    """Lines on standard error with the seconds since the start."""

    def __init__(self, err: TextIO, clock: Clock) -> None:
        self._err = err
        self._clock = clock
        self._began = clock.monotonic()

    def say(self, text: str) -> None:
        """Print one line; line breaks in the text are replaced."""
        print(clean(text, _MAX_TEXT), file=self._err, flush=True)

    def step(self, text: str) -> None:
        """Print the progress."""
        self.say(f"{self._clock.monotonic() - self._began:4.0f} s  {text}")


class Waiting:
    """Waits for conditions of the CompassConnection, for at most `timeout` seconds in total."""

    def __init__(self, read: Read, progress: Progress, *, clock: Clock, timeout: float, known: Object | None) -> None:
        """`known`: the CompassConnection before the request, which is not reported as a change."""
        self._read = read
        self._progress = progress
        self._clock = clock
        self._timeout = timeout
        self._deadline = clock.monotonic() + timeout
        self._told = situation(known)
        self._anything_told = False
        self._never = threading.Event()

    def until(self, done: Done) -> Object | None:
        """The CompassConnection for which `done` is true. Raises TimedOut, or informers.ApiError for a permanent
        error.
        """
        while True:
            try:
                connection = self._read()
            except PASSING as error:
                self._tell(f"the API server does not answer: {error}")
            else:
                self._tell(situation(connection))
                if done(connection):
                    if not self._anything_told:  # the end is told in any case
                        self._progress.step(self._told)
                    return connection
            if self._clock.monotonic() >= self._deadline:
                raise TimedOut(f"not within {format_duration(self._timeout)}")
            self._clock.sleep(_POLL_SECONDS, self._never)

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._anything_told = True
            self._progress.step(text)


def situation(connection: Object | None) -> str:
    """State and errors in one line."""
    if connection is None:
        return "there is no CompassConnection"
    told = member(connection, "status")
    text = str(told.get("connectionState") or "the agent has not told a state yet")
    counts = member(told, "applications")
    if text == cc.State.SYNCHRONIZED and counts:
        text = f"{text}: {counts.get('synced', 0)} of {counts.get('desired', 0)} Applications are in sync"
    part = "connectionStatus" if text in cc.CONNECTION_LOST else "synchronizationStatus"
    error = member(told, part).get("error")
    return f"{text}: {error}" if error else text
