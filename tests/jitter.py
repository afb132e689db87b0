"""A pytest plugin that delays threads at random, to find tests that depend on the speed of the machine.

    make test ARGS="-p tests.jitter"
    JITTER_SEED=7 .venv/bin/pytest -p tests.jitter tests/unit/informers

A thread begins late, an event is set and its setter is slow to go on, a wait on the virtual clock begins or ends late.
A test that passes without this plugin and fails with it moves the clock, or looks, before the thread under test is
where the test believes it to be. The seed chooses the delays; which thread meets which of them is up to the system.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.clock import VirtualClock

MAX_DELAY = 0.03  # seconds

_random = random.Random(int(os.environ.get("JITTER_SEED", "0")))


def _delayed(function: Callable[..., Any], *, before: float = 0.0, after: float = 0.0) -> Callable[..., Any]:
    """`function` with a random delay before and after it, each with the given probability."""

    def call(*arguments: Any, **options: Any) -> Any:
        if _random.random() < before:
            time.sleep(_random.random() * MAX_DELAY)
        result = function(*arguments, **options)
        if _random.random() < after:
            time.sleep(_random.random() * MAX_DELAY)
        return result

    return call


# Thread.run is what subclasses replace; this is what all of them begin with.
setattr(threading.Thread, "_bootstrap_inner", _delayed(getattr(threading.Thread, "_bootstrap_inner"), before=0.5))  # noqa: B009, B010
setattr(threading.Event, "set", _delayed(threading.Event.set, after=0.2))  # noqa: B010
# With a condition the wait begins with its lock held, and no thread can look meanwhile: only its end is delayed.
setattr(VirtualClock, "wait", _delayed(VirtualClock.wait, after=0.3))  # noqa: B010
setattr(VirtualClock, "sleep", _delayed(VirtualClock.sleep, before=0.3, after=0.3))  # noqa: B010
