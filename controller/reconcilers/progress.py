"""The desired set, and how far the cluster has come towards it: shared by the sync and the application reconciler.

The sync reconciler publishes a set; the application reconciler looks up single names in it and reports each outcome;
when the last outcome of what was published is in, or an outcome changes later, the sync reconciler is told to
conclude.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from controller.model.desired import DesiredSet


@dataclass(frozen=True)
class Outcome:
    """Where the cluster stands. ``pending`` names have not been tried yet; ``failed`` has an error for each name."""

    generation: int
    desired: int
    synced: int
    pending: int
    failed: Mapping[str, str]


class Progress:
    """Thread-safe. ``on_conclusion`` is called outside the lock, whenever there is something new to conclude."""

    def __init__(self, on_conclusion: Callable[[], None]) -> None:
        self._on_conclusion = on_conclusion
        self._lock = threading.Lock()
        self._desired: DesiredSet | None = None
        self._held: frozenset[str] = frozenset()
        self._generation = 0
        self._pending: set[str] = set()
        self._failed: dict[str, str] = {}

    @property
    def desired(self) -> DesiredSet | None:
        """The set that holds now; None before the first answer of the Director."""
        return self._desired

    @property
    def held(self) -> frozenset[str]:
        """Names that are gone from the set, and must not be deleted before somebody confirms it."""
        return self._held

    def publish(self, desired: DesiredSet, *, pending: Collection[str], held: Collection[str]) -> int:
        """Make a set the one that holds; ``pending`` names are about to be tried. Gives its generation."""
        with self._lock:
            self._desired, self._held = desired, frozenset(held)
            self._generation += 1
            self._pending = set(pending)
            tried = {name: text for name, text in self._failed.items() if name in self._pending}
            self._failed = tried | {name: problem.message for name, problem in desired.problems.items()}
            return self._generation

    def succeeded(self, name: str) -> None:
        self._report(name, None)

    def failed(self, name: str, error: str) -> None:
        self._report(name, error)

    def outcome(self) -> Outcome:
        with self._lock:
            wanted = {*self._desired.by_name, *self._desired.problems} if self._desired is not None else set()
            return Outcome(
                generation=self._generation,
                desired=len(wanted),
                synced=len(wanted - self._pending - self._failed.keys()),
                pending=len(self._pending),
                failed=dict(self._failed),
            )

    def _report(self, name: str, error: str | None) -> None:
        with self._lock:
            was_pending = name in self._pending
            before = self._failed.get(name)
            self._pending.discard(name)
            if error is None:
                self._failed.pop(name, None)
            else:
                self._failed[name] = error
            conclude = not self._pending and (was_pending or before != error)
        if conclude:
            self._on_conclusion()
