"""Keeps a store equal to what an API server holds of one kind (client-go tools/cache/reflector.go).

- List, then watch from there, for ever. After every end of that, good or bad, one growing wait.
- A watch that ends is resumed from the last resourceVersion seen, without a list and without a wait.
- The store never goes back in time: a new list is asked to be not older than what was seen.
- resourceVersions are opaque: they are sent back, never compared by size.
- stop() takes effect at once in every phase: waiting, listing, connecting, reading.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from informers.backoff import Backoff, RetryWindow
from informers.errors import (
    ApiError,
    ConnectionFailed,
    Expired,
    KubernetesError,
    TooLargeResourceVersion,
    TooManyRequests,
    TransformFailed,
    error_from_status,
)
from informers.interrupt import Interrupt, Interrupted
from informers.lister_watcher import ListerWatcher, Watcher
from informers.metrics import InformerMetrics
from informers.pager import PAGE_SIZE, ListResult, list_all
from informers.resource import object_key
from informers.watch import ADDED, BOOKMARK, DELETED, ERROR, MODIFIED, WatchEvent
from workqueue.clock import Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]

# A watch ends by itself after a random time from this to twice this, so that the watches of many clients do not all
# come back at once, and none stays for ever on one of several servers.
MIN_WATCH_TIMEOUT = 300.0
# A watch that ends sooner than this without an event is no progress: listing with a wait is better than a tight loop.
SHORT_WATCH = 1.0
# A streamed list that still brings objects after this is slow, and an operator should hear of it; one that brings none
# is none: the server ignores sendInitialEvents, and would be waited for without end.
BOOKMARK_WARNING_PERIOD = 10.0
# So long may a streamed list take. Where changes come all the time, they look like the objects of a list.
STREAMED_LIST_TIMEOUT = 300.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
INTERNAL_ERROR = "InternalError"


class ReflectorStore(Protocol):
    """What a reflector fills. Methods raise KubernetesError or ValueError for an object they cannot take."""

    def add(self, obj: Object) -> None: ...
    def update(self, obj: Object) -> None: ...
    def delete(self, obj: Object) -> None: ...
    def replace(self, objs: Iterable[Object], version: str) -> None: ...
    def resync(self) -> None: ...
    def bookmark(self, version: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ReflectorOptions:
    """page_size: None lists in pages of 500 only where that does not keep the server's cache from answering.

    min_watch_timeout: seconds; less than five minutes is ignored. internal_error_seconds: how long a streak of
    InternalErrors in the stream is met with another watch before it is met with a list.
    """

    page_size: int | None = None
    min_watch_timeout: float = MIN_WATCH_TIMEOUT
    watch_list: bool = True
    internal_error_seconds: float = 0.0


DEFAULT_OPTIONS = ReflectorOptions()


@dataclass(frozen=True, slots=True)
class _Stream:
    watcher: Watcher
    events: Iterator[WatchEvent]
    started: float


class _ShortWatch(KubernetesError):
    """The server closed the watch within SHORT_WATCH and without an event."""


class Reflector:
    """Runs once, in one thread; stop() and the properties are for all threads.

    resync_period: seconds, 0 for never. watch_error_handler is called with each error that ends a round, before the
    wait; None logs it.
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
        options: ReflectorOptions = DEFAULT_OPTIONS,
        resync_period: float = 0.0,
        transform: Callable[[Object], Object] | None = None,
        should_resync: Callable[[], bool] = lambda: True,
        watch_error_handler: Callable[[KubernetesError], None] | None = None,
    ) -> None:
        self._lister_watcher = lister_watcher
        self._store = store
        self._name = name
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._options = options
        self._transform = transform
        self._resync_period = resync_period
        self._should_resync = should_resync
        self._watch_error_handler = watch_error_handler or self._log_error
        self._backoff = Backoff(clock, random)
        self._interrupt = Interrupt()
        self._wake = threading.Event()  # ends a wait after a failure
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None  # guarded by _lock: what stop() has to wake
        self._version = ""
        # The last list or watch at _version was told that the version is not to be had: ask for any, the latest.
        self._version_unavailable = False
        # The first list came in pages although the server's cache was asked: it has none, so later lists are paged too.
        self._paginated = False
        # Until a server turns out to take a streamed list for a plain watch.
        self._streams_lists = options.watch_list
        self._last_error: KubernetesError | None = None
        self._watching = False

    @property
    def is_watching(self) -> bool:
        """Whether a watch is open and keeps the store up to date just now. Between two watches it is not."""
        return self._watching

    @property
    def last_sync_resource_version(self) -> str:
        """The version the store was last given; "" before the first list."""
        return self._version

    @property
    def last_error(self) -> KubernetesError | None:
        """What listing or watching fails with just now; None when it works."""
        return self._last_error

    def run(self) -> None:
        """List and watch until stop(). Raises only what is no failure of the server: errors in the store's code."""
        try:
            while not self._interrupt.is_set():
                try:
                    self._list_and_watch()
                except KubernetesError as error:
                    self._last_error = error
                    self._watch_error_handler(error)
                    _forget_frames(error)
                self._wait()
        except Interrupted:
            return

    def retry_now(self) -> None:
        """End the wait after a failure, if there is one: its cause may be over. From any thread."""
        self._wake.set()

    def stop(self) -> None:
        """End run(). Idempotent; does not wait."""
        self._interrupt.set()
        self._wake.set()
        self._stop_watcher()

    def _stop_watcher(self) -> None:
        with self._lock:
            watcher = self._watcher
        if watcher is not None:
            watcher.stop()

    def _list_and_watch(self) -> None:
        stream = self._streamed_list() if self._streams_lists else None
        if stream is None:
            self._list()
        if self._resync_period > 0:
            with self._every(self._resync_period, self._resync_if_due):
                self._watch(stream)
        else:
            self._watch(stream)

    # ---- list

    def _list(self) -> None:
        version = "" if self._version_unavailable else self._version or "0"
        started = self._clock.monotonic()
        try:
            result = self._interrupt.call(partial(self._pages, version), thread_name=f"{self._name}-list")
        except (Expired, TooLargeResourceVersion):
            # At once and only once: without a version the list cannot fail for the same reason again.
            self._version_unavailable = True
            result = self._interrupt.call(partial(self._pages, ""), thread_name=f"{self._name}-list")
        if version == "0" and result.paginated:
            self._paginated = True
        self._version_unavailable = False
        self._last_error = None
        self._metrics.listed(self._name, seconds=self._clock.monotonic() - started, items=len(result.items))
        self._store.replace(result.items, result.resource_version)
        self._publish(result.resource_version)

    def _pages(self, version: str) -> ListResult:
        def page(*, limit: int | None, continue_: str, resource_version: str) -> dict[str, Any]:
            self._check_stop()
            return self._lister_watcher.list(
                limit=limit, continue_=continue_, resource_version=resource_version, interrupt=self._interrupt
            )

        limit = self._options.page_size
        if limit is None and (version in ("", "0") or self._paginated):
            limit = PAGE_SIZE
        return list_all(page, self._lister_watcher.resource, resource_version=version, limit=limit)

    # ---- list by streaming (client-go: watchList)

    def _streamed_list(self) -> _Stream | None:
        """Fill the store from the first events of a watch; returns that watch. None: the server cannot, use a LIST."""
        while True:
            gathered = _Gathered(self._transform)
            try:
                with self._patience(gathered):
                    stream = self._open(
                        "" if self._version_unavailable else self._version,
                        resource_version_match="NotOlderThan",
                        send_initial_events=True,
                    )
                    complete = self._consume(stream, gathered, until_initial_end=True)
            except (Expired, TooLargeResourceVersion) as error:
                if not self._version_unavailable:
                    self._version_unavailable = True
                    continue
                self._last_error = _forget_frames(error)
                complete = False
            except KubernetesError as error:
                if not _is_retriable(error):
                    log.info("Streamed list failed, using LIST", extra={"informer": self._name, "error": str(error)})
                    return None
                self._last_error = _forget_frames(error)
                complete = False
            if complete:
                break
            if not self._streams_lists:
                log.warning("The server does not stream lists, using LIST", extra={"informer": self._name})
                return None
            # client-go starts over at once; but a server that cuts each stream short would be asked for everything
            # again and again without a pause.
            self._wait()
        self._version_unavailable = False
        seconds = self._clock.monotonic() - stream.started
        self._metrics.listed(self._name, seconds=seconds, items=len(gathered.objects))
        try:
            self._store.replace(gathered.objects.values(), gathered.version)
        except BaseException:
            stream.watcher.close()
            raise
        self._publish(gathered.version)
        return stream

    @contextmanager
    def _patience(self, gathered: "_Gathered") -> Iterator[None]:
        """Warn while the streamed list takes long; end it, and all others to come, when it makes no progress."""
        started = self._clock.monotonic()
        seen = 0

        def look() -> None:
            nonlocal seen
            waited = self._clock.monotonic() - started
            if gathered.events == seen or waited >= STREAMED_LIST_TIMEOUT:
                self._streams_lists = False
                self._stop_watcher()
                return
            seen = gathered.events
            extra = {"informer": self._name, "waitedSeconds": round(waited), "objects": len(gathered.objects)}
            log.warning("Streamed list is not complete yet", extra=extra)

        with self._every(BOOKMARK_WARNING_PERIOD, look):
            yield

    # ---- watch

    def _watch(self, stream: _Stream | None) -> None:
        """Watch until only a new list can help. Raises the error that a refused watch request was answered with."""
        window = RetryWindow(self._clock, seconds=self._options.internal_error_seconds)
        while True:
            # With no version to start from, the first events tell what exists, in no order: do not resume from them.
            in_order = stream is not None or self._version not in ("", "0")
            if stream is None:
                try:
                    stream = self._open(self._version)
                except ApiError as error:
                    if not _is_retriable(error):
                        raise
                    # Most likely nothing was missed: no list, which would only add to the server's load.
                    self._last_error = _forget_frames(error)
                    self._wait()
                    continue
            try:
                self._watching = True
                try:
                    self._consume(stream, self._store, publish=self._publish, in_order=in_order)
                finally:
                    self._watching = False
            except _ShortWatch:
                log.info("Watch was closed immediately", extra={"informer": self._name})
                return
            except Expired:
                # The version is kept: "not older than" it is what the next list has to be.
                log.info("Watch expired", extra={"informer": self._name})
                return
            except TooManyRequests as error:
                self._last_error = _forget_frames(error)
                self._wait()
            except ApiError as error:
                if error.reason == INTERNAL_ERROR and window.should_retry():
                    stream = None
                    continue
                self._last_error = _forget_frames(error)
                log.warning("Watch ended with an error", extra={"informer": self._name, "error": str(error)})
                return
            stream = None

    def _open(
        self, version: str, *, resource_version_match: str | None = None, send_initial_events: bool | None = None
    ) -> _Stream:
        """An open watch. Raises ApiError when it is refused, Interrupted when stopped."""
        self._check_stop()
        # Before the request: some proxies send the headers only with the first event.
        started = self._clock.monotonic()
        timeout = max(self._options.min_watch_timeout, MIN_WATCH_TIMEOUT)
        watcher = self._lister_watcher.watch(
            resource_version=version,
            timeout_seconds=int(timeout * (1.0 + self._random())),
            resource_version_match=resource_version_match,
            send_initial_events=send_initial_events,
        )
        with self._lock:
            self._watcher = watcher
        # stop() sets the flag first: either it sees this watcher, or this thread sees the flag.
        self._check_stop()
        self._metrics.watch_started(self._name)
        try:
            watcher.open()
        finally:
            # Whatever comes of a request that stop() has cut off means nothing.
            if self._interrupt.is_set():
                watcher.close()
                raise Interrupted
        self._last_error = None
        return _Stream(watcher, iter(watcher), started)

    def _consume(
        self,
        stream: _Stream,
        store: "ReflectorStore | _Gathered",
        *,
        publish: Callable[[str], None] = lambda _: None,
        in_order: bool = True,
        until_initial_end: bool = False,
    ) -> bool:
        """Put the events into `store` until the stream ends; True if the end of the initial events was among them.

        `publish` is told each event's version: with `in_order` from the first on, else from the first not ADDED.
        With `until_initial_end` it returns right after that end and leaves the stream open. Raises the ApiError of an
        ERROR event, _ShortWatch, or Interrupted.
        """
        resource = self._lister_watcher.resource
        kind, api_version = resource.kind, resource.api_version
        publishing = in_order
        events = 0
        keep_open = False
        try:
            for event_type, obj in stream.events:
                if event_type == ERROR:
                    raise error_from_status(obj)
                metadata = obj.get("metadata")
                version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
                is_of_kind = obj.get("kind") == kind and obj.get("apiVersion") == api_version
                if not is_of_kind or not version or not isinstance(version, str):
                    self._log_skipped("Skipped a watch event without an object of this kind", event_type)
                    continue
                try:
                    if event_type == ADDED:
                        store.add(obj)
                    elif event_type == MODIFIED:
                        store.update(obj)
                    elif event_type == DELETED:
                        store.delete(obj)
                    elif event_type == BOOKMARK:
                        store.bookmark(version)
                    else:
                        self._log_skipped("Skipped a watch event of an unknown type", event_type)
                except (KubernetesError, ValueError) as error:
                    self._log_skipped("Cannot store an object, skipping it", event_type, error)
                publishing = publishing or event_type != ADDED
                if publishing:
                    publish(version)
                events += 1
                if until_initial_end and event_type == BOOKMARK and _ends_initial_events(metadata):
                    keep_open = True
                    return True
            self._check_stop()
            if not events and self._clock.monotonic() - stream.started < SHORT_WATCH:
                raise _ShortWatch("the server closed the watch at once")
            return False
        finally:
            if not keep_open:
                stream.watcher.close()
                seconds = self._clock.monotonic() - stream.started
                short = not events and seconds < SHORT_WATCH
                self._metrics.watch_ended(self._name, seconds=seconds, events=events, short=short)

    # ---- helpers

    def _publish(self, version: str) -> None:
        self._version = version
        self._metrics.resource_version(self._name, version)

    def _resync_if_due(self) -> None:
        if self._should_resync():
            self._store.resync()

    def _wait(self) -> None:
        self._wake.clear()
        self._check_stop()  # after clear(): either it sees the flag of stop(), or the sleep is ended by it
        self._clock.sleep(self._backoff.next(), self._wake)
        self._check_stop()

    def _check_stop(self) -> None:
        if self._interrupt.is_set():
            raise Interrupted

    @contextmanager
    def _every(self, seconds: float, action: Callable[[], None]) -> Iterator[None]:
        """Call `action` from another thread each `seconds` while the block runs, which may well block."""
        over = threading.Event()
        failures: list[BaseException] = []

        def loop() -> None:
            try:
                while not self._clock.sleep(seconds, over):
                    action()
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.append(error)
                self.stop()

        thread = threading.Thread(target=loop, name=f"{self._name}-timer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            if failures:
                raise failures.pop()

    def _log_error(self, error: KubernetesError) -> None:
        reason = error.reason if isinstance(error, ApiError) else type(error).__name__
        log.warning("Cannot list or watch", extra={"informer": self._name, "reason": reason, "error": str(error)})

    def _log_skipped(self, message: str, event_type: object, error: Exception | None = None) -> None:
        extra = {"informer": self._name, "eventType": str(event_type)[:20]}
        if isinstance(error, TransformFailed):  # a mistake in the program; all else is one in the data
            log.error(message, extra=extra, exc_info=error)
        else:
            log.error(message, extra=extra | ({"error": str(error)} if error else {}))


class _Gathered:
    """The objects of a streamed list until it is complete."""

    def __init__(self, transform: Callable[[Object], Object] | None) -> None:
        self._transform = transform
        self.objects: dict[str, Object] = {}
        self.version = ""
        self.events = 0

    def add(self, obj: Object) -> None:
        # Transformed here, and again by the store, to hold less while the list is gathered. What that fails for is left
        # to the store: it exists, so it must not be missing here.
        with suppress(TransformFailed):
            obj = self._transform(obj) if self._transform else obj
        self.events += 1
        self.objects[object_key(obj)] = obj

    update = add

    def delete(self, obj: Object) -> None:
        self.events += 1
        self.objects.pop(object_key(obj), None)

    def bookmark(self, version: str) -> None:
        self.version = version


def _forget_frames(error: KubernetesError) -> KubernetesError:
    """`error` without its traceback, whose frames hold streams and whole lists for as long as the error is kept."""
    return error.with_traceback(None)


def _ends_initial_events(metadata: Any) -> bool:
    annotations = metadata.get("annotations")
    return isinstance(annotations, dict) and annotations.get(INITIAL_EVENTS_END) == "true"


def _is_retriable(error: KubernetesError) -> bool:
    """The server is away or busy: the same request will do, later (client-go: isWatchErrorRetriable)."""
    return isinstance(error, TooManyRequests) or (
        isinstance(error, ConnectionFailed) and error.reason == ConnectionFailed.REFUSED
    )
