"""A ListerWatcher for a Cluster, without HTTP: for tests of the layers above the transport."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from informers import ApiError, KubernetesError, ListerWatcher, Stop, WatchEvent, WatchStream
from informers.errors import error_from_status
from tests.fake_api_server.cluster import Cluster, Refused

Object = dict[str, Any]


class InProcess(ListerWatcher):
    """Lists and watches a Cluster. `list_faults` and `watch_faults` are for the next requests, one for each.

    A fault of a list is an error to raise. A fault of a watch is an error to raise, or WatchEvents to send before the
    stream ends, which may include ERROR.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.list_faults: deque[KubernetesError] = deque()
        self.watch_faults: deque[KubernetesError | list[WatchEvent]] = deque()
        self.lists = 0
        self.sent = 0  # events, and taken by their reader
        self._open: set[_Watch] = set()
        self.resource = cluster.resource

    def list(self, *, limit: int | None, continue_: str, stop: Stop) -> Object:
        self.lists += 1
        if self.list_faults:
            raise self.list_faults.popleft()
        try:
            return self.cluster.list(limit=limit, continue_=continue_)
        except Refused as refused:
            raise error_from_status(refused.body) from refused

    def watch(
        self,
        *,
        resource_version: str,
        timeout_seconds: int,
        send_initial_events: bool = False,
    ) -> "_Watch":
        return _Watch(self, resource_version, send_initial_events)

    @property
    def is_watched(self) -> bool:
        """Whether a stream is open."""
        return bool(self._open)

    def end_watches(self) -> None:
        """Close all streams as a server does."""
        for watch in list(self._open):
            watch.stop()


class _Watch(WatchStream):
    def __init__(self, owner: InProcess, version: str, initial: bool) -> None:
        self._owner = owner
        self._version = version
        self._initial = initial
        self._stopped = threading.Event()
        self._fault: list[WatchEvent] | None = None

    def open(self) -> None:
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
