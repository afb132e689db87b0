"""One reflector, one cache, any number of handlers (client-go tools/cache/shared_informer.go)."""

import logging
import random as randomness
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from informers.errors import KubernetesError
from informers.fifo import Bookmark, Change, RealFIFO, Removal, ReplacedAll, Transform, Upsert, guarded
from informers.handlers import (
    Added,
    Deleted,
    DeletedFinalStateUnknown,
    EventHandlers,
    Notification,
    Registration,
    Updated,
)
from informers.indexer import Indexer, IndexFunction, Lister
from informers.lister_watcher import ListerWatcher
from informers.metrics import InformerMetrics
from informers.mutation_detector import MutationDetector
from informers.reflector import Reflector
from workqueue.clock import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]

# Time for which threads may continue after a run() that has failed. Polling is most of the CPU of an idle informer.
FAILURE_POLL_PERIOD = 1.0
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
        self._lister_watcher = lister_watcher
        self._random = random
        self._watch_list = watch_list
        self._name = name
        self._clock = clock
        self._metrics = metrics or InformerMetrics()
        self._indexer = Indexer(indexers, on_distrust=self._distrust)
        self._transform = guarded(transform) if transform is not None else None
        self._fifo = RealFIFO(self._transform)
        self._reflector: Reflector | None = None
        self._detector = MutationDetector.from_environment()
        self._failure: BaseException | None = None
        # Held while a batch is written to the store and the buffers, and while a handler is added. So the initial
        # objects of a late handler and its later notifications have neither a gap nor an overlap.
        self._distribution = threading.Lock()
        # All below are guarded by _distribution.
        self._registrations: list[Registration] = []
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

    def lister(self) -> Lister:
        """The lister of the cache."""
        return Lister(self._indexer, self._lister_watcher.resource)

    @property
    def has_synced(self) -> bool:
        """The cache has the content of the first list. Handlers may not have processed it: see
        Registration.has_synced.
        """
        return self._fifo.has_synced

    @property
    def is_watching(self) -> bool:
        """Whether a watch is open, so that the cache is at most moments behind the server."""
        return self._reflector is not None and self._reflector.is_watching

    @property
    def last_error(self) -> KubernetesError | None:
        """The current error of list or watch; None if there is none."""
        return self._reflector.last_error if self._reflector else None

    def relist(self, *, since: float | None = None) -> None:
        """List again at once, because events may be late or lost, or the cause of failures gone. From any thread.

        since: a list that began later than this (monotonic seconds), and its watch, continue.
        """
        if self._reflector is not None:
            self._reflector.relist(since=since)

    def _distrust(self) -> None:
        if self._reflector is not None:
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
        with self._distribution:
            if self._stopped:
                raise RuntimeError(f"informer {self._name} has stopped: no handler can be added")
            self._registrations.append(registration)
            if self._started:
                registration.notify([Added(obj, True) for obj in self._indexer.list()])
                registration.start()
        return registration

    def remove_event_handler(self, registration: Registration) -> None:
        """Remove a handler after its call in progress. Idempotent; does not wait. Ignores handlers of another
        informer.
        """
        with self._distribution:
            if registration not in self._registrations:
                return
            self._registrations.remove(registration)
        registration.stop()

    def run(self, stop: threading.Event) -> None:
        """Maintain the cache until `stop` is set. Returns when all threads have ended, except abandoned LISTs.

        Raises RuntimeError when called twice, and errors of an index function or the mutation detector.
        """
        with self._distribution:
            if self._started:
                raise RuntimeError(f"informer {self._name} cannot be run twice")
            self._started = True
            reflector = self._reflector = self._new_reflector_locked()
            for registration in self._registrations:
                registration.start()
        over = threading.Event()
        helpers = [
            self._thread("reflector", reflector.run),
            self._thread("stop", lambda: self._close_on(stop, over)),
        ]
        if self._detector is not None:
            detector = self._detector
            helpers.append(self._thread("mutation-detector", lambda: detector.run(over)))
        try:
            for helper in helpers:
                helper.start()
            while self._fifo.pop(self._process):
                pass
        finally:
            over.set()
            reflector.stop()
            self._fifo.close()
            for helper in helpers:
                if helper.ident is not None:  # started
                    helper.join()
            self._end_registrations()
        if self._failure is not None:
            raise self._failure

    def _end_registrations(self) -> None:
        with self._distribution:
            self._stopped = True
            registrations = [*self._registrations]
        for registration in registrations:
            registration.stop()
        for registration in registrations:
            registration.join()

    def _new_reflector_locked(self) -> Reflector:
        return Reflector(
            self._lister_watcher,
            self._fifo,
            name=self._name,
            clock=self._clock,
            random=self._random,
            metrics=self._metrics,
            watch_list=self._watch_list,
            transform=self._transform,
        )

    def _thread(self, role: str, work: Callable[[], None]) -> threading.Thread:
        """A thread whose exception ends run(), which raises it."""

        def guarded_work() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised by run()
                self._failure = self._failure or error
                self._fifo.close()

        return threading.Thread(target=guarded_work, name=f"{self._name}-{role}", daemon=True)

    def _close_on(self, stop: threading.Event, over: threading.Event) -> None:
        # A thread cannot wait for two events. `stop` has an immediate effect; after a failure it may never be set.
        while not stop.wait(FAILURE_POLL_PERIOD) and not over.is_set():
            pass
        self._fifo.close()

    # ---- consumer of the queue

    def _process(self, changes: list[Change]) -> None:
        started = self._clock.monotonic()
        with self._distribution:
            news: list[Notification] = []
            for change in changes:
                match change:
                    case Upsert(key, obj):
                        self._upsert_locked(key, obj, news)
                    case Removal(key, obj):
                        if self._indexer.remove(key, obj["metadata"].get("resourceVersion", "")) is not None:
                            news.append(Deleted(obj))
                    case Bookmark(version):
                        self._indexer.caught_up(version)
                    case ReplacedAll():
                        self._replace_locked(change, news)
            if news:
                for registration in self._registrations:
                    registration.notify(news)
        self._metrics.processed(self._name, seconds=self._clock.monotonic() - started, items=len(changes))
        self._metrics.queued(self._name, len(self._fifo))

    def _upsert_locked(self, key: str, obj: Object, news: list[Notification]) -> None:
        old = self._indexer.put(key, obj, obj["metadata"].get("resourceVersion", ""))
        self._watch_over(obj)
        if old is None:
            news.append(Added(obj, False))
        elif not _is_same(old, obj):
            news.append(Updated(old, obj))

    def _replace_locked(self, change: ReplacedAll, news: list[Notification]) -> None:
        for key in change.kept:
            known = self._indexer.get(key)
            if known is not None:
                change.objects[key] = known
        before = self._indexer.replace(change.objects, change.version, listed_at=change.listed_at)
        for key, old in before.items():
            if key not in change.objects:
                news.append(Deleted(DeletedFinalStateUnknown(key, old)))
        for key, obj in change.objects.items():
            self._watch_over(obj)
            known = before.get(key)
            if known is None:
                news.append(Added(obj, change.initial))
            elif not _is_same(known, obj):
                news.append(Updated(known, obj))

    def _watch_over(self, obj: Object) -> None:
        if self._detector is not None:
            self._detector.add(obj)


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
