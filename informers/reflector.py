"""Keeps a store equal to the objects of one kind on an API server (client-go tools/cache/reflector.go).

- A round is a list and the watches after it. Each round is followed by a wait with exponential back-off.
- A list is a consistent read of the latest state, in pages, so no list is older than what the server had accepted
  before. (client-go lists a version that any server's cache may answer, which cannot be paged.)
- A watch that ends is resumed from its last resourceVersion, without a list and without a wait.
- A list follows where events may be missing: after a failure, after a 410 (Expired), after two silent watches in a row,
  and if the server has gone back in time, because it was restored from a backup. It then accepts a watch from a version
  that it has not reached yet, and sends no events. (client-go resumes the watch.)
- stop() and relist() have an immediate effect in every phase: waiting, listing, connecting, reading.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

from informers.errors import (
    ApiError,
    ConnectionFailed,
    Expired,
    KubernetesError,
    TooManyRequests,
    TransformFailed,
    WrongKind,
    error_from_status,
)
from informers.lister_watcher import PAGE_SIZE, ListerWatcher, Page, read_page, wrong_kind
from informers.metrics import InformerMetrics
from informers.resource import is_older, object_key
from informers.transport import Stop, Stopped
from informers.watch import ADDED, BOOKMARK, DELETED, ERROR, MODIFIED, WatchEvent, WatchStream
from workqueue.clock import Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]

# A watch ends after a random time between this and twice this, so that many clients do not reconnect at the same time,
# and so that clients are distributed over several servers again.
MIN_WATCH_TIMEOUT = 300.0
# A watch that ends earlier without an event made no progress. A list with a wait is better than a tight loop.
SHORT_WATCH = 1.0
# A server sends a bookmark about every minute. Two watches or more that have brought nothing in this time together are
# silent: a proxy may hold back their bodies, or the server may have been restored to an older state.
SILENCE = 120.0
# A streamed list that takes longer than this is slow, which is logged. One without an answer or an event in this time
# makes no progress: a server that ignores sendInitialEvents would never complete it.
BOOKMARK_WARNING_PERIOD = 10.0
# Limit of a streamed list. With frequent changes, their events look like the objects of a list.
STREAMED_LIST_TIMEOUT = 300.0
# After a server has not streamed a list, LIST is used for this time. The cause may have been a short stall.
NO_STREAMED_LISTS = 3600.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
# client-go tools/cache/reflector.go: with the jitter the waits are 0.8 s to just under a minute, which protects a
# server with many clients.
INITIAL_WAIT = 0.8
WAIT_FACTOR = 2.0
MAX_WAIT = 30.0
WAIT_JITTER = 1.0
WAITS_RESET_AFTER = 120.0


Transform = Callable[[Object], Object]
"""Returns the object to store for the object as sent, which it may change; often it drops managedFields."""


class ReflectorStore(Protocol):
    """The store that a reflector fills, with transformed objects. An error of a method ends the reflector."""

    def put(self, key: str, obj: Object) -> None:
        """The object was added or changed. The store knows which of the two better than the server's event."""

    def delete(self, key: str, obj: Object) -> None:
        """The object was deleted; `obj` is its last state."""

    def replace(self, objects: dict[str, Object], kept: Set[str], version: str, listed_at: float) -> None:
        """Exactly these objects exist at `version`, of a list that began at `listed_at` (monotonic seconds).

        kept: those that exist too, but could not be transformed: their earlier states stay.
        """

    def bookmark(self, version: str) -> None:
        """There is no change up to `version`."""


@dataclass(slots=True)
class _Stream:
    watcher: WatchStream
    events: Iterator[WatchEvent]
    started: float  # monotonic seconds
    received: int = 0  # events of objects of this kind, and bookmarks


class _ShortWatch(KubernetesError):
    """The server closed the watch within SHORT_WATCH and without an event."""


class _WentBack(KubernetesError):
    """The server has sent an older version than before."""


class Reflector:
    """Runs once, in one thread; stop(), relist() and the properties are thread-safe.

    watch_list: request the list as the first events of a watch, if the server supports it.
    """

    def __init__(
        self,
        lister_watcher: ListerWatcher,
        store: ReflectorStore,
        *,
        name: str,
        clock: Clock,
        random: Callable[[], float],
        metrics: InformerMetrics,
        watch_list: bool = True,
        transform: Transform | None = None,
    ) -> None:
        self._lister_watcher = lister_watcher
        self._store = store
        self._name = name
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._watch_list = watch_list
        self._transform = transform
        self._lock = threading.Lock()
        # Guarded by _lock: the current round, and its watch or the one before.
        self._stopped = False
        self._round = Stop()
        self._round_began = 0.0
        self._waiting = False
        self._is_distrusted = False  # the current watch
        self._watcher: WatchStream | None = None
        self._backoff = Backoff(clock, random)
        self._version = ""
        self._streams_lists_from = 0.0  # monotonic seconds
        self._silent_watches: list[float] = []  # the seconds of each, in a row
        self._last_error: KubernetesError | None = None
        self._silence: ApiError | None = None
        self._watching = False

    @property
    def is_watching(self) -> bool:
        """Whether a watch is open and keeps the store up to date. False between two watches."""
        return self._watching

    @property
    def last_error(self) -> KubernetesError | None:
        """The current error of list or watch; None if there is none."""
        return self._last_error or self._silence

    def run(self) -> None:
        """List and watch until stop(). Raises only errors in the store's code, not those of the server."""
        while self._begin_round():
            with suppress(Stopped):
                try:
                    self._list_and_watch()
                except KubernetesError as error:
                    self._last_error = error
                    self._log_error(error)
                    _forget_frames(error)
                self._wait()

    def relist(self, *, since: float | None = None) -> None:
        """End the current wait or round, and list again at once, because events may be late or lost. From any thread.

        since: a round in progress that began later than this (monotonic seconds) continues. Waits start anew from
        the shortest, because the cause of the failures may be gone.
        """
        with self._lock:
            if since is not None and self._round_began > since and not self._waiting:
                return
            self._backoff = Backoff(self._clock, self._random)
            self._end_round_locked()

    def distrust(self) -> None:
        """List again, with back-off: an answer of the API server contradicts what it has sent here. From any thread.

        A list in progress goes on. It is of the latest state.
        """
        with self._lock:
            watcher = self._watcher if self._watching else None
            self._is_distrusted = watcher is not None
        if watcher is not None:
            watcher.stop()

    def stop(self) -> None:
        """End run(). Idempotent; does not wait."""
        with self._lock:
            self._stopped = True
            self._end_round_locked()

    def _begin_round(self) -> bool:
        with self._lock:
            if self._stopped:
                return False
            self._round = Stop()
            self._round_began = self._clock.monotonic()
        return True

    def _end_round_locked(self) -> None:
        self._round.set()
        if self._watcher is not None:
            self._watcher.stop()

    def _list_and_watch(self) -> None:
        stream = None
        if self._watch_list and self._clock.monotonic() >= self._streams_lists_from:
            stream = self._streamed_list()
        if stream is None:
            self._list()
        self._watch(stream)

    # ---- list

    def _list(self) -> None:
        """Fill the store from the latest state, in pages, so that no single answer keeps the interpreter busy for long.

        If a continue token expires, the list is read again, without pages. Its version is that of the first page, so
        that no later change is missed.
        """
        started = self._clock.monotonic()
        objects: dict[str, Object] = {}
        failures: dict[str, TransformFailed] = {}
        version, continue_ = "", ""
        limit: int | None = PAGE_SIZE
        while True:
            try:
                page = self._page(limit, continue_)
            except Expired:
                if not continue_:
                    raise
                log.info("Paged list expired, listing without pages", extra={"informer": self._name})
                objects, failures, version, continue_, limit = {}, {}, "", "", None
                continue
            version = version or page.resource_version
            for obj in page.items:
                key = object_key(obj)
                try:
                    objects[key] = self._transformed(obj)
                except TransformFailed as error:
                    failures[key] = error
            continue_ = page.continue_
            if not continue_:
                break
        self._last_error = None
        self._replace(objects, failures, version, started)

    def _page(self, limit: int | None, continue_: str) -> Page:
        self._check_stop()
        try:
            answer = self._lister_watcher.list(limit=limit, continue_=continue_, stop=self._round)
        finally:
            self._check_stop()  # the result of a request that was ended with its round is ignored
        return read_page(answer, self._lister_watcher.resource)

    def _replace(
        self, objects: dict[str, Object], failures: dict[str, TransformFailed], version: str, started: float
    ) -> None:
        if failures:
            # One line and one traceback, because a transform that fails for one object often fails for thousands.
            first = next(iter(failures))
            extra = {"informer": self._name, "objects": len(failures), "first": first}
            log.error("Cannot transform listed objects, skipping them", extra=extra, exc_info=failures[first])
        self._metrics.listed(self._name, seconds=self._clock.monotonic() - started, items=len(objects))
        if is_older(version, self._version):
            log.warning("The API server has older data than before: it was restored", extra={"informer": self._name})
        self._store.replace(objects, failures.keys(), version, started)
        self._publish(version)

    # ---- list by streaming (client-go: watchList)

    def _streamed_list(self) -> _Stream | None:
        """Fill the store from the first events of a watch; returns that watch, or None if a LIST has to be used."""
        while True:
            gathered = _Gathered()
            try:
                with self._patience(gathered):
                    gathered.stream = stream = self._open("", send_initial_events=True)
                    complete = self._consume(stream, gathered)
            except WrongKind:
                raise
            except KubernetesError as error:
                if not _is_retriable(error):
                    log.info("Streamed list failed, using LIST", extra={"informer": self._name, "error": str(error)})
                    return None
                self._last_error = _forget_frames(error)
                complete = False
            if complete:
                break
            if gathered.is_abandoned:
                log.warning("Streamed list makes no progress, using LIST", extra={"informer": self._name})
                return None
            # client-go retries at once. With a server that cuts each stream short, this would request everything in a
            # tight loop.
            self._wait()
        try:
            self._replace(gathered.objects, gathered.failures, gathered.version, stream.started)
        except BaseException:
            stream.watcher.close()
            raise
        return stream

    @contextmanager
    def _patience(self, gathered: "_Gathered") -> Iterator[None]:
        """Warn while the streamed list is slow, and abandon it if it makes no progress.

        Lists are not streamed for a while only if there was an answer: without one, the cause may be the network.
        """
        started = self._clock.monotonic()
        seen: int | None = None

        def look() -> None:
            nonlocal seen
            now = self._clock.monotonic()
            stream = gathered.stream
            received = None if stream is None else stream.received
            if received == seen or now - started >= STREAMED_LIST_TIMEOUT:
                gathered.is_abandoned = True
                if stream is not None:
                    self._streams_lists_from = now + NO_STREAMED_LISTS
                with self._lock:
                    watcher = self._watcher
                if watcher is not None:
                    watcher.stop()
                return
            seen = received
            extra = {"informer": self._name, "waitedSeconds": round(now - started), "objects": len(gathered.objects)}
            log.warning("Streamed list is not complete yet", extra=extra)

        def look_again_and_again(over: threading.Event) -> None:
            while not self._clock.sleep(BOOKMARK_WARNING_PERIOD, over):
                look()

        with in_parallel(look_again_and_again, name=f"{self._name}-timer", on_failure=self.stop):
            yield

    # ---- watch

    def _watch(self, stream: _Stream | None) -> None:
        """Watch until only a new list can help. Raises the error of a refused watch request."""
        while True:
            # Without a version the first events are the existing objects in any order, so the watch cannot be resumed
            # from them.
            in_order = stream is not None or self._version not in ("", "0")
            if stream is None:
                try:
                    stream = self._open(self._version)
                except TooManyRequests as error:
                    # No event was missed, so there is no list, which would add load to the server.
                    self._last_error = _forget_frames(error)
                    self._wait()
                    continue
            try:
                with self._lock:
                    self._watching, self._is_distrusted = True, False
                try:
                    self._consume(stream, self._store, in_order=in_order)
                finally:
                    self._watching = False
            except _ShortWatch:
                log.info("Watch was closed immediately", extra={"informer": self._name})
                return
            except _WentBack as error:
                log.warning("Listing again", extra={"informer": self._name, "error": str(error)})
                return
            except Expired:
                log.info("Watch expired", extra={"informer": self._name})
                return
            except TooManyRequests as error:
                self._last_error = _forget_frames(error)
                self._wait()
            except ApiError as error:
                self._last_error = _forget_frames(error)
                log.warning("Watch ended with an error", extra={"informer": self._name, "error": str(error)})
                return
            if self._is_distrusted:
                log.warning("An answer is older than the cache: listing again", extra={"informer": self._name})
                return
            if self._is_silent():
                log.warning("Listing again", extra={"informer": self._name, "error": str(self._silence)})
                return
            stream = None

    def _open(self, version: str, *, send_initial_events: bool = False) -> _Stream:
        """Open a watch. Raises ApiError when it is refused, Stopped when stopped."""
        self._check_stop()
        # Before the request, because some proxies send the headers only with the first event.
        started = self._clock.monotonic()
        watcher = self._lister_watcher.watch(
            resource_version=version,
            timeout_seconds=int(MIN_WATCH_TIMEOUT * (1.0 + self._random())),
            send_initial_events=send_initial_events,
        )
        with self._lock:
            self._watcher = watcher
        # _end_round_locked() sets the flag first: either it sees this watcher, or this thread sees the flag.
        self._check_stop()
        self._metrics.watch_started(self._name)
        try:
            watcher.open()
        finally:
            # The result of a request that was ended with its round is ignored.
            if self._round.is_set():
                watcher.close()
                raise Stopped
        self._last_error = None
        return _Stream(watcher, iter(watcher), started)

    def _consume(self, stream: _Stream, store: "ReflectorStore | _Gathered", *, in_order: bool = True) -> bool:
        """Write the events to `store` until the stream ends; True if it is a list that is complete.

        - A watch publishes each event's version: from the first event with `in_order`, else from the first that is not
          ADDED.
        - A list ends with the initial events, and leaves the stream open.

        Raises the ApiError of an ERROR event, _ShortWatch, _WentBack, or Stopped.
        """
        is_list = isinstance(store, _Gathered)
        resource = self._lister_watcher.resource
        kind, api_version = resource.kind, resource.api_version
        silent = True
        keep_open = False
        try:
            for event_type, obj in stream.events:
                if silent:
                    silent = False
                    self._silent_watches.clear()
                    self._silence = None
                if event_type == ERROR:
                    raise error_from_status(obj)
                metadata = obj.get("metadata")
                version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
                is_of_kind = obj.get("kind") == kind and obj.get("apiVersion") == api_version
                if event_type == BOOKMARK and obj.get("kind") not in (kind, None):
                    # Its events would be skipped, one by one, and the store would look empty.
                    raise wrong_kind(resource, obj.get("kind"))
                if not is_of_kind or not version or not isinstance(version, str):
                    self._log_skipped("Skipped a watch event without an object of this kind", event_type)
                    continue
                stream.received += 1
                in_order = in_order or event_type != ADDED
                if not is_list and in_order and is_older(version, self._version):
                    raise _WentBack(f"the server was at version {self._version} and has sent {version}")
                if event_type == BOOKMARK:
                    store.bookmark(version)
                else:
                    self._apply(event_type, obj, store)
                if not is_list and in_order:
                    self._publish(version)
                if is_list and event_type == BOOKMARK and _ends_initial_events(metadata):
                    keep_open = True
                    return True
            self._check_stop()
            seconds = self._clock.monotonic() - stream.started
            if not stream.received and seconds < SHORT_WATCH:
                raise _ShortWatch("the server closed the watch at once")
            if silent and not is_list:
                self._silent_watches.append(seconds)
            return False
        finally:
            if not keep_open:
                stream.watcher.close()
                seconds = self._clock.monotonic() - stream.started
                events = stream.received
                short = not events and seconds < SHORT_WATCH
                self._metrics.watch_ended(self._name, seconds=seconds, events=events, short=short)

    def _apply(self, event_type: str, obj: Object, store: "ReflectorStore | _Gathered") -> None:
        """Write a change to `store`. What makes no sense is logged and skipped."""
        try:
            key = object_key(obj)
        except ValueError as error:
            self._log_skipped("Cannot store an object, skipping it", event_type, error)
            return
        try:
            obj = self._transformed(obj)
        except TransformFailed as error:
            if event_type != DELETED and isinstance(store, _Gathered):
                store.fail(key, error)
                return
            self._log_skipped("Cannot transform an object", event_type, error)
            if event_type != DELETED:  # which it is in any case
                return
        if event_type in (ADDED, MODIFIED):
            store.put(key, obj)
        elif event_type == DELETED:
            store.delete(key, obj)
        else:
            self._log_skipped("Skipped a watch event of an unknown type", event_type)

    def _transformed(self, obj: Object) -> Object:
        """Raises TransformFailed, also for a result that is not an object."""
        if self._transform is None:
            return obj
        try:
            result: Any = self._transform(obj)
        except Exception as error:
            raise TransformFailed(f"the transform function failed: {type(error).__name__}") from error
        if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
            raise TransformFailed(f"the transform function returned no object but {type(result).__name__}")
        return cast("Object", result)

    def _is_silent(self) -> bool:
        """Whether two watches or more in a row have brought nothing for too long. They are counted anew then."""
        number, seconds = len(self._silent_watches), sum(self._silent_watches)
        if number < 2 or seconds < SILENCE:
            return False
        self._silent_watches.clear()
        self._silence = ApiError(
            f"watches are silent: {number} in a row ended without an event or a bookmark in {seconds:.0f} s, so a "
            "proxy may hold back what the API server sends. Everything is listed again every few minutes instead. Let "
            "the proxy pass responses on without buffering",
            reason="WatchesSilent",
        )
        return True

    # ---- helpers

    def _publish(self, version: str) -> None:
        self._version = version
        self._metrics.resource_version(self._name, version)

    def _wait(self) -> None:
        with self._lock:
            self._check_stop()
            self._waiting = True
            seconds = self._backoff.next()
        self._clock.sleep(seconds, self._round)
        with self._lock:
            self._waiting = False
            self._check_stop()

    def _check_stop(self) -> None:
        self._round.check()

    def _log_error(self, error: KubernetesError) -> None:
        reason = error.reason if isinstance(error, ApiError) else type(error).__name__
        log.warning("Cannot list or watch", extra={"informer": self._name, "reason": reason, "error": str(error)})

    def _log_skipped(self, message: str, event_type: object, error: Exception | None = None) -> None:
        extra = {"informer": self._name, "eventType": str(event_type)[:20]}
        if isinstance(error, TransformFailed):  # a programming error; all others are errors in the data
            log.error(message, extra=extra, exc_info=error)
        else:
            log.error(message, extra=extra | ({"error": str(error)} if error else {}))


class Backoff:
    """Exponential back-off: 0.8 s, doubled at each step up to 30 s, each increased by up to 100 % at random.

    Reset when two minutes have passed since the last step (apimachinery wait.NewExponentialBackoffManager). Not
    thread-safe: it belongs to one loop.
    """

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._base = INITIAL_WAIT
        self._last_step: float | None = None

    def next(self) -> float:
        """Seconds to wait now."""
        now = self._clock.monotonic()
        if self._last_step is not None and now - self._last_step > WAITS_RESET_AFTER:
            self._base = INITIAL_WAIT
        self._last_step = now
        base = self._base
        self._base = min(base * WAIT_FACTOR, MAX_WAIT)
        return base + self._random() * WAIT_JITTER * base


class _Gathered:
    """The objects of a streamed list until it is complete."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.failures: dict[str, TransformFailed] = {}
        self.version = ""
        self.stream: _Stream | None = None
        self.is_abandoned = False

    def put(self, key: str, obj: Object) -> None:
        self.objects[key] = obj
        self.failures.pop(key, None)

    def fail(self, key: str, error: TransformFailed) -> None:
        """The object exists, and cannot be transformed."""
        self.objects.pop(key, None)
        self.failures[key] = error

    def delete(self, key: str, obj: Object) -> None:  # noqa: ARG002 - as a ReflectorStore
        self.objects.pop(key, None)
        self.failures.pop(key, None)

    def bookmark(self, version: str) -> None:
        self.version = version


@contextmanager
def in_parallel(
    work: Callable[[threading.Event], None], *, name: str, on_failure: Callable[[], None]
) -> Iterator[None]:
    """Run `work(over)` in a thread while the block runs. Its error calls `on_failure`, and is raised at the end."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(over)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)
            on_failure()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if failures:
            raise failures.pop()


def _forget_frames(error: KubernetesError) -> KubernetesError:
    """`error` without its traceback, whose frames would keep streams and whole lists in memory."""
    return error.with_traceback(None)


def _ends_initial_events(metadata: Any) -> bool:
    annotations = metadata.get("annotations")
    return isinstance(annotations, dict) and annotations.get(INITIAL_EVENTS_END) == "true"


def _is_retriable(error: KubernetesError) -> bool:
    """The server is unavailable or busy, and the same request can be retried (client-go: isWatchErrorRetriable)."""
    return isinstance(error, TooManyRequests) or (
        isinstance(error, ConnectionFailed) and error.reason == ConnectionFailed.REFUSED
    )
