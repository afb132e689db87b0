"""The queue between reflector and informer: changes in the order in which the server told them.

The model is client-go's RealFIFO with atomic replaces (the default since 1.36), not DeltaFIFO: nothing is merged per
key, and a list is one entry that takes the place of the whole store in one step.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from informers.errors import TransformFailed
from informers.resource import object_key

Object = dict[str, Any]
Transform = Callable[[Object], Object]
"""Makes the object to store out of the object as sent, which it may change; often it drops managedFields. It must be
idempotent: an object that came in a streamed list goes through it twice."""

# client-go the_real_fifo.go: long enough to spread the cost of locks, short enough to let others have their turn.
BATCH_SIZE = 1000


def guarded(transform: Transform) -> Transform:
    """`transform`, its errors turned into TransformFailed."""

    def transformed(obj: Object) -> Object:
        try:
            return transform(obj)
        except Exception as error:
            raise TransformFailed(f"the transform function failed: {type(error).__name__}") from error

    return transformed


class Upsert(NamedTuple):
    """The object was added or changed. Which of the two, the store knows better than the server's event."""

    key: str
    obj: Object


class Removal(NamedTuple):
    """The object was deleted; `obj` is its last state."""

    key: str
    obj: Object


class ReplacedAll(NamedTuple):
    """These objects by key, and no others, exist at `version`. `initial`: the first thing ever to come."""

    objects: dict[str, Object]
    version: str
    initial: bool


class SyncAll(NamedTuple):
    """Show all stored objects to the handlers that are due for a resync."""


class Bookmark(NamedTuple):
    """Nothing has changed up to `version`."""

    version: str


Change = Upsert | Removal | ReplacedAll | SyncAll | Bookmark


class RealFIFO:
    """An unbounded queue of changes with one consumer. Thread-safe.

    The transform, a guarded() one, runs once for each object, before it is queued. The methods that add raise its
    TransformFailed, or ValueError for an object without a name, and then queue nothing.
    """

    def __init__(self, transform: Transform | None = None) -> None:
        self._transform = transform
        self._condition = threading.Condition()
        self._changes: deque[Change] = deque()
        self._closed = False
        # Set by the first change of all; what has_synced waits for, when that is a list.
        self._populated = False
        self._initial: ReplacedAll | None = None

    def add(self, obj: Object) -> None:
        """Queue an object the server calls new."""
        self._put(Upsert(object_key(obj), self._transformed(obj)))

    update = add

    def delete(self, obj: Object) -> None:
        """Queue the deletion of an object, given in its last state."""
        self._put(Removal(object_key(obj), self._transformed(obj)))

    def replace(self, objs: Iterable[Object], version: str) -> None:
        """Queue a whole list."""
        objects = {object_key(obj): self._transformed(obj) for obj in objs}
        with self._condition:
            change = ReplacedAll(objects, version, initial=not self._populated)
            if change.initial:
                self._initial = change
            self._put_locked(change)

    def resync(self) -> None:
        """Queue a resync of all that is stored."""
        with self._condition:
            self._changes.append(SyncAll())
            self._condition.notify()

    def bookmark(self, version: str) -> None:
        """Queue the news that the server has got to `version` without a change for us."""
        with self._condition:
            self._changes.append(Bookmark(version))
            self._condition.notify()

    @property
    def has_synced(self) -> bool:
        """The first list was processed, or a single change came before any list."""
        with self._condition:
            return self._populated and self._initial is None

    def __len__(self) -> int:
        with self._condition:
            return len(self._changes)

    def pop(self, process: Callable[[list[Change]], None]) -> bool:
        """Wait for changes and process up to BATCH_SIZE of them, in order, outside the lock.

        False when the queue was closed: what is left in it is dropped.
        """
        with self._condition:
            while not self._changes and not self._closed:
                self._condition.wait()
            if self._closed:
                return False
            if len(self._changes) <= BATCH_SIZE:
                batch = [*self._changes]
                self._changes.clear()
            else:
                batch = [self._changes.popleft() for _ in range(BATCH_SIZE)]
            initial = self._initial
        process(batch)
        if initial is not None and any(change is initial for change in batch):
            with self._condition:
                self._initial = None
        return True

    def close(self) -> None:
        """End pop(). Idempotent; changes that come later are ignored."""
        with self._condition:
            self._closed = True
            self._changes.clear()
            self._condition.notify_all()

    def _transformed(self, obj: Object) -> Object:
        return obj if self._transform is None else self._transform(obj)

    def _put(self, change: Change) -> None:
        with self._condition:
            self._put_locked(change)

    def _put_locked(self, change: Change) -> None:
        self._populated = True
        if not self._closed:
            self._changes.append(change)
            self._condition.notify()
