"""The time and the pages that one fetch may use. Every call of the fetch goes through this module."""

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from controller.compass.answers import Answer
from controller.compass.errors import TooLarge, Unavailable
from controller.compass.graphql import TOTAL_TIMEOUT
from controller.compass.limits import Limits
from controller.compass.queries import Operation

T = TypeVar("T")


class Call(Protocol):
    """A call of the Director; raises any CompassError."""

    def __call__(self, operation: Operation[T], variables: dict[str, Any], *, timeout: float) -> Answer[T]: ...


class Budget:
    """The budget of one fetch. Its time starts now. `monotonic`: the clock."""

    def __init__(self, call: Call, limits: Limits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._call = call
        self._limits = limits
        self._monotonic = monotonic
        self._deadline = monotonic() + limits.seconds
        self._pages = 0

    def call(self, operation: Operation[T], variables: dict[str, Any], *, timeout: float = TOTAL_TIMEOUT) -> Answer[T]:
        """Call the Director. Raises Unavailable after the time of the fetch, TooLarge after too many pages."""
        self._pages += 1
        if self._pages > self._limits.pages:
            raise TooLarge(f"a fetch takes more than {self._limits.pages} pages")
        left = self._deadline - self._monotonic()
        if left <= 0:
            raise self._too_slow()
        try:
            return self._call(operation, variables, timeout=min(timeout, left))
        except TooLarge as error:
            raise TooLarge(f"{error}{self._limits.answer_advice()}", single=True) from None
        except Unavailable as error:
            if error.timed_out and self._monotonic() >= self._deadline:
                raise self._too_slow() from error
            raise

    def _too_slow(self) -> Unavailable:
        return Unavailable(
            f"the Director did not give everything within {self._limits.seconds:g} s",
            timed_out=True,
        )
