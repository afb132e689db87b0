"""Detects code that changes cached objects, which are shared and read-only. For tests and debugging: it uses CPU.

Enabled by the environment variable KUBE_CACHE_MUTATION_DETECTOR=true (client-go: tools/cache/mutation_detector.go).
"""

import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from informers.encoding import decode, encode
from informers.resource import object_key
from workqueue.clock import REAL_CLOCK, Clock

ENVIRONMENT_VARIABLE = "KUBE_CACHE_MUTATION_DETECTOR"

# As in client-go: frequent enough to find the cause, and kept long enough for slow reconciles.
CHECK_PERIOD = 1.0
KEEP_SECONDS = 120.0

Object = dict[str, Any]


class CacheMutated(RuntimeError):
    """Code has changed an object of the cache. The text names object and field, never a value."""


class MutationDetector:
    """Keeps copies of objects from the time when they entered the cache. Thread-safe."""

    def __init__(self, clock: Clock = REAL_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: deque[tuple[float, Object, bytes]] = deque()

    @staticmethod
    def from_environment(environ: Mapping[str, str] = os.environ) -> "MutationDetector | None":
        """A detector if the environment enables it. It always uses real time."""
        return MutationDetector() if environ.get(ENVIRONMENT_VARIABLE, "").lower() in {"1", "true"} else None

    def add(self, obj: Object) -> None:
        """Check the object for two minutes."""
        try:
            entry = (self._clock.monotonic(), obj, encode(obj))
        except ValueError:
            return  # nested too deeply for a copy
        with self._lock:
            self._watched.append(entry)

    def check(self) -> None:
        """Raises CacheMutated when an object has changed."""
        now = self._clock.monotonic()
        with self._lock:
            entries = [*self._watched]
            while self._watched and now - self._watched[0][0] > KEEP_SECONDS:
                self._watched.popleft()
        for _, obj, before in entries:
            if encode(obj) != before:
                original = decode(before)
                path = _first_difference(original, obj, "")
                what = f"{original.get('kind', 'object')} {object_key(original)}"
                raise CacheMutated(f"cached {what} was changed by its reader at {path}: copy objects to change them")

    def run(self, stop: threading.Event) -> None:
        """Call check() every second until `stop`, and once more at the end. Raises CacheMutated."""
        while not self._clock.sleep(CHECK_PERIOD, stop):
            self.check()
        self.check()


def _first_difference(before: Any, after: Any, path: str) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            if key not in before or key not in after:
                return f"{path}.{key}"
            if before[key] != after[key]:
                return _first_difference(before[key], after[key], f"{path}.{key}")
    if isinstance(before, list) and isinstance(after, list):
        for index, (old, new) in enumerate(zip(before, after, strict=False)):
            if old != new:
                return _first_difference(old, new, f"{path}[{index}]")
    return path or "."
