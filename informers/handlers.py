"""Delivery of changes to handlers: one buffer and one thread for each handler.

A handler gets the changes of one object in order: add before update before delete. Handlers never wait for each other,
and a slow one never delays the store. Buffers are unbounded.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from informers.resource import object_key
from workqueue.clock import Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]

# After a handler has raised (apimachinery wait.UntilWithContext in processorListener.run).
PAUSE_AFTER_ERROR = 1.0


@dataclass(frozen=True, slots=True)
class DeletedFinalStateUnknown:
    """The object `key` was deleted, and the deletion was detected only by its absence from a list.

    obj is the last observed state, which may be old. Another object of that name may have existed since.
    """

    key: str
    obj: Object | None


@dataclass(frozen=True, slots=True)
class EventHandlers:
    """The callbacks. All objects are shared with the cache and must not be changed.

    - on_add(obj, is_initial_list): True for objects that existed when the informer, or this handler, was added.
    - on_update(old, new): the deletion and new creation of an object may arrive as one update: compare metadata.uid.
    - on_delete(obj): the last state, or a DeletedFinalStateUnknown.

    Any exception is logged, delays the handler by one second, and skips that one change.
    """

    on_add: Callable[[Object, bool], None] = lambda *_: None
    on_update: Callable[[Object, Object], None] = lambda *_: None
    on_delete: Callable[[Object | DeletedFinalStateUnknown], None] = lambda *_: None


class Added(NamedTuple):
    obj: Object
    is_initial_list: bool


class Updated(NamedTuple):
    old: Object
    new: Object


class Deleted(NamedTuple):
    obj: Object | DeletedFinalStateUnknown


Notification = Added | Updated | Deleted


class Registration:
    """One handler of an informer; returned by SharedInformer.add_event_handler."""

    def __init__(
        self,
        handlers: EventHandlers,
        *,
        informer_name: str,
        informer_has_synced: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._handlers = handlers
        self._informer_name = informer_name
        self._informer_has_synced = informer_has_synced
        self._clock = clock
        self._condition = threading.Condition()
        self._buffer: list[Notification] = []
        self._initial_pending = 0  # notifications of the initial list not yet handled
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def has_synced(self) -> bool:
        """The handler has returned from the calls for all objects of the informer's first list."""
        # In this order: the list is in the buffer before the informer reports that it is synced.
        if not self._informer_has_synced():
            return False
        with self._condition:
            return self._initial_pending == 0

    # ---- for the informer

    def start(self) -> None:
        """Start to call the handler."""
        self._thread = threading.Thread(target=self._run, name=f"{self._informer_name}-handler", daemon=True)
        self._thread.start()

    def notify(self, notifications: Sequence[Notification]) -> None:
        """Append them to the buffer."""
        initial = sum(1 for n in notifications if isinstance(n, Added) and n.is_initial_list)
        with self._condition:
            self._initial_pending += initial
            self._buffer.extend(notifications)
            self._condition.notify()

    def stop(self) -> None:
        """End after the call in progress and drop the buffer. Idempotent, does not wait."""
        with self._condition:
            self._stopped.set()
            self._condition.notify()

    def join(self) -> None:
        """Wait for the call in progress."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._deliver_all(self._next())  # in no variable, which would keep them until the next change

    def _next(self) -> list[Notification]:
        """What is in the buffer, as soon as there is something, or after stop()."""
        with self._condition:
            while not self._buffer and not self._stopped.is_set():
                self._condition.wait()
            batch, self._buffer = self._buffer, []
        return batch

    def _deliver_all(self, batch: list[Notification]) -> None:
        for notification in batch:
            if self._stopped.is_set():
                return
            self._deliver(notification)

    def _deliver(self, notification: Notification) -> None:
        match notification:
            case Added(obj):
                handler: Any = self._handlers.on_add
            case Updated(_, obj):
                handler = self._handlers.on_update
            case Deleted(obj):
                handler = self._handlers.on_delete
        try:
            handler(*notification)
        except BaseException:  # SystemExit, or a panic of an extension module, must not end the thread
            key = obj.key if isinstance(obj, DeletedFinalStateUnknown) else object_key(obj)
            name = f"{handler.__module__}.{handler.__qualname__}" if hasattr(handler, "__qualname__") else repr(handler)
            extra = {"informer": self._informer_name, "handler": name, "object": key}
            log.exception("Event handler failed, skipping the change", extra=extra)
            self._clock.sleep(PAUSE_AFTER_ERROR, self._stopped)
        finally:
            if isinstance(notification, Added) and notification.is_initial_list:
                with self._condition:
                    self._initial_pending -= 1
