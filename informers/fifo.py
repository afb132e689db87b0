"""The queue between reflector and informer: changes in the order of the server.

The model is client-go's RealFIFO with atomic replaces (the default since 1.36), not DeltaFIFO: changes of a key are not
merged, and a list is one entry that replaces the whole store in one step.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from informers.errors import TransformFailed
from informers.resource import object_key

log = logging.getLogger(__name__)

Object = dict[str, Any]
Transform = Callable[[Object], Object]
"""Returns the object to store for the object as sent, which it may change; often it drops managedFields. It must be
idempotent: it is called twice for an object of a streamed list.
"""

# client-go the_real_fifo.go: large enough to amortise locks, small enough to let other threads run.
BATCH_SIZE = 1000


def guarded(transform: Transform) -> Transform:
    """`transform` with its errors converted to TransformFailed, also for a result that is not an object."""

    def transformed(obj: Object) -> Object:
        try:
            result: Any = transform(obj)
        except Exception as error:
            raise TransformFailed(f"the transform function failed: {type(error).__name__}") from error
        if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
            raise TransformFailed(f"the transform function returned no object but {type(result).__name__}")
        return cast("Object", result)

    return transformed


class Upsert(NamedTuple):
    """The object was added or changed. The store knows which of the two better than the server's event."""

    key: str
    obj: Object


class Removal(NamedTuple):
    """The object was deleted; `obj` is its last state."""

    key: str
    obj: Object


class ReplacedAll(NamedTuple):
    """Exactly these objects, by key, exist at `version`. `initial`: the first change of all.

    `listed_at`: when the list began (monotonic seconds).
    `kept`: keys of objects that exist too, but could not be transformed: their stored versions stay.
    """

    objects: dict[str, Object]
    version: str
    initial: bool
    kept: frozenset[str] = frozenset()
    listed_at: float = -math.inf


class Bookmark(NamedTuple):
    """There is no change up to `version`."""

    version: str


Change = Upsert | Removal | ReplacedAll | Bookmark


class RealFIFO:
    """An unbounded queue of changes with one consumer. Thread-safe.

    The transform, a guarded() one, runs once for each object, before it is queued. add() and update() raise its
    TransformFailed, and all methods with objects raise ValueError for one without a name; then nothing is queued.
    """

    def __init__(self, transform: Transform | None = None) -> None:
        self._transform = transform
        self._condition = threading.Condition()
        self._changes: deque[Change] = deque()
        self._closed = False
        # Set by the first change; if that is a list, has_synced waits for its keys.
        self._populated = False
        self._initial: ReplacedAll | None = None

    def add(self, obj: Object) -> None:
        """Queue an object that is new on the server."""
        self._put(Upsert(object_key(obj), self._transformed(obj)))

    update = add

    def delete(self, obj: Object) -> None:
        """Queue the deletion of an object, given in its last state."""
        key = object_key(obj)
        try:
            obj = self._transformed(obj)
        except TransformFailed:
            # It is deleted in any case.
            log.exception("Cannot transform a deleted object, passing it on unchanged", extra={"key": key})
        self._put(Removal(key, obj))

    def replace(self, objs: Iterable[Object], version: str, listed_at: float = -math.inf) -> None:
        """Queue a whole list, which began at `listed_at` (monotonic seconds).

        If an object cannot be transformed, its stored version stays, and the failure is logged.
        """
        objects: dict[str, Object] = {}
        failures: dict[str, TransformFailed] = {}
        for obj in objs:
            key = object_key(obj)
            try:
                objects[key] = self._transformed(obj)
            except TransformFailed as error:
                failures[key] = error
        if failures:
            # One line and one traceback, because a transform that fails for one object often fails for thousands.
            first = next(iter(failures))
            extra = {"objects": len(failures), "first": first}
            log.error("Cannot transform listed objects, skipping them", extra=extra, exc_info=failures[first])
        with self._condition:
            initial, kept = not self._populated, frozenset(failures)
            change = ReplacedAll(objects, version, initial, kept, listed_at)
            if change.initial:
                self._initial = change
            self._put_locked(change)

    def bookmark(self, version: str) -> None:
        """Queue a new `version` without a change for this kind."""
        with self._condition:
            self._changes.append(Bookmark(version))
            self._condition.notify()

    @property
    def has_synced(self) -> bool:
        """The first list was processed, or a single change before any list."""
        with self._condition:
            return self._populated and self._initial is None

    def __len__(self) -> int:
        with self._condition:
            return len(self._changes)

    def pop(self, process: Callable[[list[Change]], None]) -> bool:
        """Wait for changes and process up to BATCH_SIZE of them, in order, outside the lock.

        False when the queue is closed; the rest of its content is dropped.
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
        """End pop(). Idempotent; later changes are ignored."""
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
