"""A ListerWatcher for a Cluster, without HTTP: for tests of the layers above the transport."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from informers import ApiError, KubernetesError, ListerWatcher, Stop, WatchEvent, WatchStream
from informers.errors import error_from_status
from tests.fake_api_server.cluster import Cluster, Event, Refused

Object = dict[str, Any]


class InProcess(ListerWatcher):
    """Lists and watches a Cluster. `list_faults` and `watch_faults` are for the next requests, one for each.

    A fault of a list is an error to raise. A fault of a watch is an error to raise, or WatchEvents to send before the
    stream ends, which may include ERROR.

    hanging_watches: so many get no answer, as in an outage of the network. held: the next page comes after this is set.
    ignores_initial_events: a streamed list is taken for a plain watch, as by a server that does not know it.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.list_faults: deque[KubernetesError] = deque()
        self.watch_faults: deque[KubernetesError | list[WatchEvent]] = deque()
        self.hanging_watches = 0
        self.held: threading.Event | None = None
        self.ignores_initial_events = False
        self.lists = self.watches = self.streamed_lists = 0
        self.tokens: list[str] = []  # of the pages that were requested
        self.sent = 0  # events, and taken by their reader
        self._open: set[_Watch] = set()
        self.resource = cluster.resource

    def list(self, *, limit: int | None, continue_: str, stop: Stop) -> Object:
        self.lists += 1
        self.tokens.append(continue_)
        if self.list_faults:
            raise self.list_faults.popleft()
        held, self.held = self.held, None
        try:
            page = self.cluster.list(limit=limit, continue_=continue_)
        except Refused as refused:
            raise error_from_status(refused.body) from refused
        if held is not None:
            stop.add(held.set)
            assert held.wait(30)
            stop.check()
        return page

    def watch(
        self,
        *,
        resource_version: str,
        timeout_seconds: int,
        send_initial_events: bool = False,
    ) -> "_Watch":
        self.watches += 1
        self.streamed_lists += send_initial_events
        hangs = self.hanging_watches > 0
        self.hanging_watches -= hangs
        return _Watch(self, resource_version, send_initial_events and not self.ignores_initial_events, hangs)

    @property
    def is_watched(self) -> bool:
        """Whether a stream is open."""
        return bool(self._open)

    def end_watches(self) -> None:
        """Close all streams as a server does."""
        for watch in list(self._open):
            watch.stop()


class _Watch(WatchStream):
    def __init__(self, owner: InProcess, version: str, initial: bool, hangs: bool) -> None:
        self._owner = owner
        self._version = version
        self._initial = initial
        self._hangs = hangs
        self._first: list[Event] = []
        self._since = 0
        self._stopped = threading.Event()
        self._fault: list[WatchEvent] | None = None

    def open(self) -> None:
        if self._hangs:
            self._stopped.wait()
            return
        if self._owner.watch_faults:
            fault = self._owner.watch_faults.popleft()
            if isinstance(fault, KubernetesError):
                raise fault
            self._fault = fault
        try:
            self._first, self._since = self._owner.cluster.start_of_watch(self._version, self._initial)
        except Refused as refused:
            raise error_from_status(refused.body) from refused
        self._owner._open.add(self)

    def __iter__(self) -> Iterator[WatchEvent]:
        if self._fault is not None:
            yield from self._fault
            return
        for event in self._first:
            yield WatchEvent(event.type, event.object)
            self._owner.sent += 1
        cluster = self._owner.cluster
        while not self._stopped.is_set():
            # Nothing is yielded with the lock held: the reader may keep the iterator as it is for as long as it likes.
            with cluster.changed:
                try:
                    events = cluster.events_after_locked(self._since)
                except Refused as refused:
                    status = refused.body
                    break
                if not events:
                    cluster.changed.wait()
                    continue
            for event in events:
                if self._stopped.is_set():
                    return
                yield WatchEvent(event.type, event.object)
                self._owner.sent += 1
            self._since = events[-1].version
        else:
            return
        yield WatchEvent("ERROR", status)

    def stop(self) -> None:
        self._stopped.set()
        self._owner._open.discard(self)
        with self._owner.cluster.changed:
            self._owner.cluster.changed.notify_all()

    close = stop


def api_error(error_type: type[ApiError], reason: str, code: int) -> ApiError:
    """An error for list_faults and watch_faults."""
    return error_type(f"{reason} it is", status=code, reason=reason)
