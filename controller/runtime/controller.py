"""A controller: watches add keys to a queue, and workers reconcile each key one at a time.

- The queue never gives a key to two workers and has one entry for each key, so a reconcile sees all earlier events.
- Workers start when each handler has processed the whole initial list, so a reconcile never reads a partial cache.
- A reconcile that raises is logged, counted and retried with exponential back-off. It ends no worker.
- A retry keeps the priority of its key and waits behind new keys of this priority. A key that keeps failing gets the
  lowest priority, so failing keys never starve the others.
- After a stop no reconcile begins. Running reconciles finish, and `run` returns after the last one.

Rules and their order are those of controller-runtime (pkg/internal/controller/controller.go). A reconciler gets the key
of an object, never a change (level-triggered). That the object does not exist is no error.
"""

import logging
import math
import threading
import uuid
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from controller.runtime import logs
from controller.runtime.metrics import Metrics
from informers import (
    DeletedFinalStateUnknown,
    EventHandlers,
    KubernetesError,
    Registration,
    Stop,
    Stopped,
    split_key,
    wait_for_sync,
)
from workqueue import REAL_CLOCK, Clock, RateLimitingQueue, ShutDown
from workqueue.queue import RETRY_CAP_SECONDS

log = logging.getLogger(__name__)

K = TypeVar("K")
Object = dict[str, Any]

# Keys of the initial list have a lower priority than changes (controller-runtime: handler.LowPriority).
LOW_PRIORITY = -100

# A key keeps its priority for this number of retries, which is enough for conflicts and short failures. A key that
# fails more often gets the lowest priority until it succeeds; otherwise slow failures of a high priority would occupy
# all workers.
_RETRIES_WITH_PRIORITY = 3


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

# Failures that a correct program can have: one log line is enough. Any other exception is a programming error, like a
# panic in Go, so it is counted separately and logged with its traceback.
_EXPECTED_ERRORS = (KubernetesError, OSError, ReconcileFailed)


@dataclass(slots=True)
class _Running(Generic[K]):
    """A reconcile in progress. `since`: its start, or its last answer from the API server; monotonic seconds."""

    key: K
    clock: Clock
    since: float


_current: ContextVar[_Running[Any] | None] = ContextVar("reconcile", default=None)


def answered(*_: object) -> None:
    """Record that the API server has answered the reconcile in this thread. Elsewhere it has no effect.

    A reconcile with many requests may take long, and is not stuck while they are answered.
    """
    running = _current.get()
    if running is not None:
        running.since = running.clock.monotonic()


class Informer(Protocol):
    """What a controller needs of a SharedInformer."""

    def add_event_handler(self, handlers: EventHandlers) -> Registration: ...
    def remove_event_handler(self, registration: Registration) -> None: ...


Predicate = Callable[[Object | None, Object | None], bool]
"""Whether a change leads to a reconcile. Gets the objects before and after it: None before an add, after a delete."""


class Controller(Generic[K]):
    """Reconciles keys of type K with a number of worker threads.

    name: unique in the process; names the queue, the metrics and the log records.
    workers: how many different keys may be reconciled at the same time.
    retry_cap: the longest wait of a failed key, in seconds.
    kind: the Kubernetes kind that the keys name, for the log records only.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile[K],
        *,
        workers: int = 1,
        retry_cap: float = RETRY_CAP_SECONDS,
        clock: Clock = REAL_CLOCK,
        metrics: Metrics | None = None,
        kind: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self._reconcile = reconcile
        self.workers = workers
        self._clock = clock
        metrics = metrics if metrics is not None else Metrics()
        self._metrics = metrics.controller(name, workers=workers)
        self.queue: RateLimitingQueue[K] = RateLimitingQueue(
            name=name, retry_cap=retry_cap, clock=self._clock, metrics=metrics
        )
        self._watches: list[tuple[Informer, EventHandlers]] = []
        self._lock = threading.Lock()
        self._running: dict[str, _Running[K]] = {}  # by id of the reconcile; guarded by _lock
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []  # errors that ended a worker
        self._started = False

    def enqueue(self, key: K, *, priority: int = 0) -> None:
        """Enqueue the key for a reconcile by the next free worker."""
        self.queue.add(key, priority=priority)

    def retry_now(self) -> None:
        """Retry all keys that wait in back-off, because the cause of their failures may be gone."""
        self.queue.retry_now()

    def watches(
        self, informer: Informer, keys: Callable[[Object], Iterable[K]], *, predicate: Predicate | None = None
    ) -> None:
        """Reconcile the keys that an object maps to when it is added, changed or deleted, if the predicate accepts it.

        After a change, the keys of the old and of the new object are enqueued, so a key that it no longer maps to is
        included. Keys of the initial list have LOW_PRIORITY.
        Raises RuntimeError when the controller runs already.
        """
        if self._started:
            raise RuntimeError(f"controller {self.name}: watches() after run()")
        self._watches.append((informer, self._handlers(keys, predicate)))

    def run(self, stop: Stop) -> None:
        """Work until stop is set, in this thread and in those of the other workers. Blocks.

        Raises RuntimeError when called twice, and errors that end a worker; stop is set then.

        The watches begin here and not earlier: otherwise a standby would collect the keys of all objects until it
        leads.
        """
        if self._started:
            raise RuntimeError(f"controller {self.name}: run() called twice")
        self._started = True
        registrations: list[tuple[Informer, Registration]] = []
        try:
            for informer, handlers in self._watches:
                registrations.append((informer, informer.add_event_handler(handlers)))
            if wait_for_sync([registration for _, registration in registrations], stop, self._clock):
                self._work(stop)
        except Stopped:
            log.debug("Stopped before the first reconcile", extra={"controller": self.name})
        finally:
            self.queue.shut_down()
            for informer, registration in registrations:
                informer.remove_event_handler(registration)
            for thread in self._threads:
                thread.join()
        for failure in self._failures:
            raise failure
        log.info("Controller stopped", extra={"controller": self.name})

    def seconds_without_answer(self) -> dict[K, float]:
        """The keys that are being reconciled, and the seconds since each got an answer from the API server."""
        now = self._clock.monotonic()
        with self._lock:
            return {running.key: now - running.since for running in self._running.values()}

    def check(self, *, stuck_after: float) -> None:
        """Raise RuntimeError when a running reconcile has got no answer for more than stuck_after seconds."""
        for key, seconds in self.seconds_without_answer().items():
            if seconds > stuck_after:
                raise RuntimeError(f"controller {self.name}: reconcile of {key} is stuck for {seconds:.0f} s")

    def _handlers(self, keys: Callable[[Object], Iterable[K]], predicate: Predicate | None) -> EventHandlers:
        def keys_of(obj: Object) -> Iterable[K]:
            found = keys(obj)
            if isinstance(found, str):
                text = f"returned the text {found!r}, not a collection of keys"
                raise TypeError(f"the keys function of the controller {self.name} {text}")
            return found

        def take(old: Object | None, new: Object | None, *, priority: int = 0) -> None:
            try:
                if predicate is not None and not predicate(old, new):
                    return
                # A dict keeps the order and drops duplicates.
                for key in dict.fromkeys(key for obj in (old, new) if obj is not None for key in keys_of(obj)):
                    self.queue.add(key, priority=priority)
            except BaseException as error:
                self._metrics.panics.inc()
                error.add_note(f"in a watch of the controller {self.name}")
                raise  # the informer logs it and continues with the next change

        def on_add(obj: Object, is_initial_list: bool) -> None:
            take(None, obj, priority=LOW_PRIORITY if is_initial_list else 0)

        def on_update(old: Object, new: Object) -> None:
            take(old, new)

        def on_delete(obj: Object | DeletedFinalStateUnknown) -> None:
            # If the deletion was missed, often only the name is known, which is enough for a mapping that reads
            # metadata.
            take(obj.obj or _object_of_key(obj.key) if isinstance(obj, DeletedFinalStateUnknown) else obj, None)

        return EventHandlers(on_add=on_add, on_update=on_update, on_delete=on_delete)

    def _work(self, stop: Stop) -> None:
        log.info("Controller started", extra={"controller": self.name, "workers": self.workers})
        stop.add(self.queue.shut_down)
        try:
            for number in range(1, self.workers):
                name = f"{self.name}-{number}"
                self._threads.append(threading.Thread(target=self._run_worker, args=(stop,), name=name, daemon=True))
                self._threads[-1].start()
            self._run_worker(stop)
        finally:
            stop.remove(self.queue.shut_down)

    def _run_worker(self, stop: Stop) -> None:
        try:
            self._worker(stop)
        except BaseException as error:  # noqa: BLE001 - raised by run()
            self._failures.append(error)
            stop.set()

    def _worker(self, stop: Stop) -> None:
        while True:
            try:
                key, priority = self.queue.get_with_priority()
            except ShutDown:
                return
            try:
                # A queue that is shut down still returns its keys. The next leader reconciles them anyway.
                if not stop.is_set():
                    self._attempt(key, priority)
            except BaseException as error:  # noqa: BLE001 - outside of the reconcile: metrics, say, or the log
                self._failed(key, priority, error)
            finally:
                self.queue.done(key)

    def _attempt(self, key: K, priority: int) -> None:
        """Reconcile one key once, and decide when it is enqueued again."""
        reconcile_id = str(uuid.uuid4())
        context = {"controller": self.name, "controllerKind": self.kind, "key": str(key), "reconcileID": reconcile_id}
        began = self._clock.monotonic()
        running = _Running(key, self._clock, began)
        with self._lock:
            self._running[reconcile_id] = running
        token = _current.set(running)
        self._metrics.active_workers.inc()
        try:
            with logs.bind(**{name: value for name, value in context.items() if value}):
                self._reconcile_and_requeue(key, priority)
        finally:
            self._metrics.active_workers.dec()
            _current.reset(token)
            self._metrics.seconds.observe(self._clock.monotonic() - began)
            with self._lock:
                del self._running[reconcile_id]

    def _reconcile_and_requeue(self, key: K, priority: int) -> None:
        try:
            result: object = self._reconcile(key)
            if not isinstance(result, Result):
                raise TypeError(f"a reconciler returns a Result, not {type(result).__name__}")  # noqa: TRY301
        except Stopped:
            # Not a failure, and no retry: the next term starts with empty queues, maybe in another process.
            log.info("Reconcile aborted, because the process stops or its term of leadership has ended")
        except BaseException as error:  # noqa: BLE001 - SystemExit, or a panic of an extension module, ends no worker
            self._failed(key, priority, error)
        else:
            # Forget first, so that the next failure starts with the shortest back-off.
            self.queue.forget(key)
            log.debug("Reconciled", extra={"requeueAfter": result.requeue_after})
            if result.requeue_after is None:
                self._metrics.results["success"].inc()
            else:
                self.queue.add_after(key, result.requeue_after, priority=priority)
                self._metrics.results["requeue_after"].inc()

    def _failed(self, key: K, priority: int, error: BaseException) -> None:
        if self.queue.num_requeues(key) >= _RETRIES_WITH_PRIORITY:
            priority = min(priority, LOW_PRIORITY)
        self.queue.add_rate_limited(key, priority=priority)
        self._metrics.errors.inc()
        self._metrics.results["error"].inc()
        requeues = self.queue.num_requeues(key)
        if isinstance(error, _EXPECTED_ERRORS):
            reason = str(error) or type(error).__name__
            log.warning("Reconcile failed", extra={"error": reason, "requeues": requeues})
        else:
            self._metrics.panics.inc()
            log.error("Reconcile failed", exc_info=error, extra={"requeues": requeues})


def _object_of_key(key: str) -> Object:
    namespace, name = split_key(key)
    return {"metadata": {"name": name, "namespace": namespace} if namespace else {"name": name}}
