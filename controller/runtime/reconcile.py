"""A reconciler is a function from a key to a Result.

A reconciler is level-triggered. It gets the key of an object, never a change. A reconciler

- reads the current state, compares it with the desired state, and writes the difference;
- returns a Result, with a delay if it wants to be called again;
- raises if it has failed, and the key is retried with exponential back-off. A ReconcileFailed, an OSError or an error
  of informers is expected; any other exception is logged with its traceback;
- treats a deleted object as success.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a successful reconcile.

    requeue_after: seconds until the next reconcile of the key; None waits for the next event. Zero and less mean at
    once, so that a delay computed from a past moment never means "done".
    """

    requeue_after: float | None = None

    def __post_init__(self) -> None:
        if self.requeue_after is not None and not math.isfinite(self.requeue_after):
            raise ValueError(f"requeue_after must be a finite number of seconds, not {self.requeue_after}")


class ReconcileFailed(Exception):
    """An expected failure, whose text is sufficient without a traceback. The key is retried."""


Reconcile: TypeAlias = Callable[[K], Result]
