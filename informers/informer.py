"""One reflector, one cache, any number of handlers (client-go tools/cache/shared_informer.go)."""

import random as randomness
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Protocol

from informers.errors import KubernetesError
from informers.handlers import (
    Added,
    Deleted,
    DeletedFinalStateUnknown,
    EventHandlers,
    Notification,
    Registration,
    Updated,
)
from informers.indexer import Indexer, IndexFunction
from informers.lister_watcher import ListerWatcher
from informers.metrics import InformerMetrics
from informers.mutation_detector import MutationDetector
from informers.reflector import Reflector, Transform, in_parallel
from informers.transport import Stop, Stopped
from workqueue.clock import REAL_CLOCK, Clock

Object = dict[str, Any]

# client-go syncedPollPeriod.
SYNC_POLL_PERIOD = 0.1


class SharedInformer:
    """A cache that is kept equal to the API server, and handlers for each change.

    - The cache is updated before a handler is called, so a handler never reads an object older than its notification.
    - For each handler and object: add, then updates, then delete. Changes may be merged while the watch was down. A
      deletion that was detected only by a list leads to a DeletedFinalStateUnknown.
    - Each handler has its own thread and buffer.
    - run() once; handlers may be added and removed before and during the run, not after.

    watch_list: see Reflector. A server that does not stream lists is detected.
    """

    def __init__(
        self,
        lister_watcher: ListerWatcher,
        *,
        name: str,
        indexers: Mapping[str, IndexFunction] | None = None,
        transform: Transform | None = None,
        clock: Clock = REAL_CLOCK,
        random: Callable[[], float] = randomness.random,
        metrics: InformerMetrics | None = None,
        watch_list: bool = True,
    ) -> None:
        self._name = name
        self._clock = clock
        metrics = metrics or InformerMetrics()
        self._detector = MutationDetector.from_environment()
        self._indexer = Indexer(lister_watcher.resource, indexers, on_distrust=self._distrust)
        self._store = _Store(self._indexer, name=name, clock=clock, metrics=metrics, detector=self._detector)
        self._reflector = Reflector(
            lister_watcher,
            self._store,
            name=name,
            clock=clock,
            random=random,
            metrics=metrics,
            watch_list=watch_list,
            transform=transform,
        )
        # Both are guarded by _store.lock.
        self._started = False
        self._stopped = False

    @property
    def name(self) -> str:
        """For logs and metrics."""
        return self._name

    @property
    def indexer(self) -> Indexer:
        """The cache."""
        return self._indexer

    @property
    def has_synced(self) -> bool:
        """The cache has the content of the first list. Handlers may not have processed it: see
        Registration.has_synced.
        """
        return self._store.has_synced

    @property
    def is_watching(self) -> bool:
        """Whether a watch is open, so that the cache is at most moments behind the server."""
        return self._reflector.is_watching

    @property
    def last_error(self) -> KubernetesError | None:
        """The current error of list or watch; None if there is none."""
        return self._reflector.last_error

    def relist(self, *, since: float | None = None) -> None:
        """List again at once, because events may be late or lost, or the cause of failures gone. From any thread.

        since: a list that began later than this (monotonic seconds), and its watch, continue.
        """
        self._reflector.relist(since=since)

    def _distrust(self) -> None:
        self._reflector.distrust()

    def add_event_handler(self, handlers: EventHandlers) -> Registration:
        """Add handlers. They are first called for all objects in the cache.

        Raises RuntimeError after the informer has stopped.
        """
        registration = Registration(
            handlers,
            informer_name=self._name,
            informer_has_synced=lambda: self.has_synced,
            clock=self._clock,
        )
        with self._store.lock:
            if self._stopped:
                raise RuntimeError(f"informer {self._name} has stopped: no handler can be added")
            self._store.registrations.append(registration)
            if self._started:
                registration.notify([Added(obj, True) for obj in self._indexer.list()])
                registration.start()
        return registration

    def remove_event_handler(self, registration: Registration) -> None:
        """Remove a handler after its call in progress. Idempotent; does not wait. Ignores handlers of another
        informer.
        """
        with self._store.lock:
            if registration not in self._store.registrations:
                return
            self._store.registrations.remove(registration)
        registration.stop()

    def run(self, stop: Stop) -> None:
        """Maintain the cache until `stop` is set. Returns when all threads have ended.

        Raises RuntimeError when called twice, and errors of an index function or the mutation detector.
        """
        with self._store.lock:
            if self._started:
                raise RuntimeError(f"informer {self._name} cannot be run twice")
            self._started = True
            for registration in self._store.registrations:
                registration.start()
        try:
            with self._detection(), suppress(Stopped):
                stop.add(self._reflector.stop)
                try:
                    self._reflector.run()
                finally:
                    stop.remove(self._reflector.stop)
        finally:
            self._end_registrations()

    def _detection(self) -> AbstractContextManager[None]:
        """Check in a thread that no cached object changes; a change ends the reflector, and is raised at the end."""
        if self._detector is None:
            return nullcontext()
        return in_parallel(self._detector.run, name=f"{self._name}-mutation-detector", on_failure=self._reflector.stop)

    def _end_registrations(self) -> None:
        with self._store.lock:
            self._stopped = True
            registrations = [*self._store.registrations]
        for registration in registrations:
            registration.stop()
        for registration in registrations:
            registration.join()


class _Store:
    """Writes what the reflector reads to the cache, and then to the buffers of the handlers.

    lock: held while both are written, and while a handler is added. So the initial objects of a late handler and its
    later notifications have neither a gap nor an overlap.
    """

    def __init__(
        self,
        indexer: Indexer,
        *,
        name: str,
        clock: Clock,
        metrics: InformerMetrics,
        detector: MutationDetector | None,
    ) -> None:
        self._indexer = indexer
        self._name = name
        self._clock = clock
        self._metrics = metrics
        self._detector = detector
        self.has_synced = False
        self.lock = threading.Lock()
        self.registrations: list[Registration] = []  # guarded by lock

    def put(self, key: str, obj: Object) -> None:
        with self._writing(1) as news:
            old = self._indexer.put(key, obj, obj["metadata"].get("resourceVersion", ""))
            if self._detector is not None:
                self._detector.add(obj)
            if old is None:
                news.append(Added(obj, False))
            elif not _is_same(old, obj):
                news.append(Updated(old, obj))

    def delete(self, key: str, obj: Object) -> None:
        with self._writing(1) as news:
            if self._indexer.remove(key, obj["metadata"].get("resourceVersion", "")) is not None:
                news.append(Deleted(obj))

    def replace(self, objects: dict[str, Object], kept: Set[str], version: str, listed_at: float) -> None:
        with self._writing(len(objects)) as news:
            for key in kept:
                known = self._indexer.by_key(key)
                if known is not None:
                    objects[key] = known
            before = self._indexer.replace(objects, version, listed_at=listed_at)
            for key, old in before.items():
                if key not in objects:
                    news.append(Deleted(DeletedFinalStateUnknown(key, old)))
            for key, written in self._indexer.missed().items():
                news += [Added(written, False), Deleted(DeletedFinalStateUnknown(key, written))]
            for key, obj in objects.items():
                if self._detector is not None:
                    self._detector.add(obj)
                known = before.get(key)
                if known is None:
                    news.append(Added(obj, not self.has_synced))
                elif not _is_same(known, obj):
                    news.append(Updated(known, obj))
        self.has_synced = True

    def bookmark(self, version: str) -> None:
        self._indexer.caught_up(version)

    @contextmanager
    def _writing(self, items: int) -> Iterator[list[Notification]]:
        """What the block appends is sent to the handlers."""
        started = self._clock.monotonic()
        news: list[Notification] = []
        with self.lock:
            yield news
            if news:
                for registration in self.registrations:
                    registration.notify(news)
        self._metrics.processed(self._name, seconds=self._clock.monotonic() - started, items=items)


class HasSynced(Protocol):
    """An informer, or a registration of one."""

    @property
    def has_synced(self) -> bool: ...


def wait_for_sync(synced: Iterable[HasSynced], stop: threading.Event, clock: Clock = REAL_CLOCK) -> bool:
    """Wait until all have synced; False when `stop` was set first. Polls every 100 ms."""
    waiting = [*synced]
    while True:
        waiting = [one for one in waiting if not one.has_synced]
        if not waiting:
            return True
        if clock.sleep(SYNC_POLL_PERIOD, stop):
            return False


def _is_same(old: Object, new: Object) -> bool:
    """Whether the object is unchanged. In a restored server, another state may have the same version."""
    return old["metadata"].get("resourceVersion") == new["metadata"].get("resourceVersion") and old == new
