"""The queue between reflector and informer: changes in the order in which the server told them.

The model is client-go's RealFIFO with atomic replaces (the default since 1.36), not DeltaFIFO: nothing is merged per
key, and a list is one entry that takes the place of the whole store in one step.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from informers.errors import TransformFailed
from informers.resource import object_key

log = logging.getLogger(__name__)

Object = dict[str, Any]
Transform = Callable[[Object], Object]
"""Makes the object to store out of the object as sent, which it may change; often it drops managedFields. It must be
idempotent: an object that came in a streamed list goes through it twice."""

# client-go the_real_fifo.go: long enough to spread the cost of locks, short enough to let others have their turn.
BATCH_SIZE = 1000


def guarded(transform: Transform) -> Transform:
    """`transform`, its errors turned into TransformFailed; so is a result that is no object."""

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
    """The object was added or changed. Which of the two, the store knows better than the server's event."""

    key: str
    obj: Object


class Removal(NamedTuple):
    """The object was deleted; `obj` is its last state."""

    key: str
    obj: Object


class ReplacedAll(NamedTuple):
    """These objects by key, and no others, exist at `version`. `initial`: the first thing ever to come.

    `kept`: keys of objects that exist too, but could not be transformed: what the store has of them stays.
    """

    objects: dict[str, Object]
    version: str
    initial: bool
    kept: frozenset[str] = frozenset()


class SyncAll(NamedTuple):
    """Show all stored objects to the handlers that are due for a resync."""


class Bookmark(NamedTuple):
    """Nothing has changed up to `version`."""

    version: str


Change = Upsert | Removal | ReplacedAll | SyncAll | Bookmark


class RealFIFO:
    """An unbounded queue of changes with one consumer. Thread-safe.

    The transform, a guarded() one, runs once for each object, before it is queued. add() and update() raise its
    TransformFailed, and all that take objects ValueError for one without a name; then nothing is queued.
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
        key = object_key(obj)
        try:
            obj = self._transformed(obj)
        except TransformFailed:
            # It is gone all the same.
            log.exception("Cannot transform a deleted object, passing it on unchanged", extra={"key": key})
        self._put(Removal(key, obj))

    def replace(self, objs: Iterable[Object], version: str) -> None:
        """Queue a whole list. An object that cannot be transformed is left as the store has it, and logged."""
        objects: dict[str, Object] = {}
        failures: dict[str, TransformFailed] = {}
        for obj in objs:
            key = object_key(obj)
            try:
                objects[key] = self._transformed(obj)
            except TransformFailed as error:
                failures[key] = error
        if failures:
            # One line and one traceback: a transform that fails for one often fails for thousands.
            first = next(iter(failures))
            extra = {"objects": len(failures), "first": first}
            log.error("Cannot transform listed objects, skipping them", extra=extra, exc_info=failures[first])
        with self._condition:
            change = ReplacedAll(objects, version, initial=not self._populated, kept=frozenset(failures))
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
