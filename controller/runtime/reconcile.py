"""What a reconciler is: a function from a key to a Result.

A reconciler is level-triggered. It is told which object to look at, never what happened to it, so it

- reads the present state, compares it with what should be, writes the difference;
- returns a Result when it is done, with a delay when it wants to look again;
- raises when it failed: the key comes back with growing delays. What can happen to a program without mistakes is a
  ReconcileFailed, an OSError or an error of informers; anything else is logged with its traceback;
- raises TerminalError when trying again cannot help: the key comes back only with the next event on it;
- treats an object that is gone as success.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a reconcile that did not fail.

    requeue_after: seconds until the key is to be looked at again; None means only when something happens to it.
    Zero and less mean at once, so that a delay computed from a moment that has passed is never taken for "done".
    """

    requeue_after: float | None = None

    def __post_init__(self) -> None:
        if self.requeue_after is not None and not math.isfinite(self.requeue_after):
            raise ValueError(f"requeue_after must be a finite number of seconds, not {self.requeue_after}")


class ReconcileFailed(Exception):
    """A failure whose text tells people all there is to know. Trying again may help."""


class TerminalError(Exception):
    """A failure that trying again cannot mend. Counted and logged, not requeued (controller-runtime: TerminalError).

    Raise it ``from`` the error that caused it.
    """


Reconcile: TypeAlias = Callable[[K], Result]
