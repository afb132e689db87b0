"""Kubernetes Events about objects, written in the background (client-go: tools/record, events_cache.go).

- `event` never blocks and never fails. It adds the event to a bounded buffer; a full buffer drops it and logs that.
- A repeated event increases the count of the existing Event.
- Similar events have the same object, type and reason, and different messages. The tenth within ten minutes and all
  later ones become one Event that counts, and has the last message.
- Frequent events are not written: 25 writes for an object, then one every 5 minutes.
- Events about cluster-scoped objects go to namespace `default`.
- A refusal by the API server is logged once until it changes. Only a server that does not answer leads to a retry.

Everyone who may read Events can read the text of an event, so the caller must not put secrets into it.
"""

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from controller.text import clean
from informers import AlreadyExists, Client, ConnectionFailed, KubernetesError, NotFound, Resource, Stop, Stopped
from workqueue import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

EVENTS = Resource("", "v1", "events", "Event")
EventType = Literal["Normal", "Warning"]

# client-go's numbers: the broadcaster's queue, the size of the caches, the aggregator, the spam filter, the retries.
_BUFFER = 1000
_CACHE_SIZE = 4096
_SIMILAR_LIMIT = 10
_SIMILAR_SECONDS = 600.0
_COMBINED_PREFIX = "(combined from similar events): "
_SPAM_BURST = 25
_SPAM_REFILL_SECONDS = 300.0
_TRIES = 12
_RETRY_SECONDS = 10.0
# The API server deletes an Event an hour after the last write (--event-ttl); a new one is created then.
_WINDOW_SECONDS = 3600.0
# The limit of the note in events.k8s.io, where core Events can be read too.
_MESSAGE_LIMIT = 1024
_DEFAULT_NAMESPACE = "default"
# A name has at most 253 characters, 17 of them are the dot and 16 hexadecimal digits of the time.
_NAME_LIMIT = 253 - 17
# Between an event and its write, so that equal ones that follow at once are counted in the same write.
_COUNT_SECONDS = 0.25
_REQUEST_TIMEOUT = 5.0
# At the stop, the buffer is written for at most this time, including requests that hang. It is shorter than the grace
# period.
_FLUSH_SECONDS = 5.0

_MERGE_PATCH = "application/merge-patch+json"

KT = TypeVar("KT")
VT = TypeVar("VT")


class _Subject(NamedTuple):
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @property
    def event_namespace(self) -> str:
        return self.namespace or _DEFAULT_NAMESPACE


class _Similar(NamedTuple):
    """What similar events have in common: all but the message."""

    subject: _Subject
    type: EventType
    reason: str


# Events with an equal key are written as one Event. The second part is the hash of the message, which may be long, or
# None for the Event that combines similar ones.
_Key = tuple[_Similar, int | None]


@dataclass(slots=True)
class _Messages:
    """Hashes of the messages of similar events, and the monotonic time of the last event."""

    hashes: set[int]
    last_at: float


@dataclass(slots=True)
class _Waiting:
    """An event that waits to be written, with its repetitions. Times are epoch seconds."""

    first_seen_at: float
    last_seen_at: float = 0.0
    message: str = ""
    resource_version: str = ""
    count: int = 0


@dataclass(slots=True)
class _Known:
    """An Event that was written: its name and count. `expires_at` is monotonic seconds."""

    name: str
    first_seen_at: float
    count: int
    expires_at: float = 0.0


class _LRU(OrderedDict[KT, VT], Generic[KT, VT]):
    """A cache that drops the least recently used entries."""

    def find(self, key: KT) -> VT | None:
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def put(self, key: KT, value: VT) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > _CACHE_SIZE:
            self.popitem(last=False)


class EventRecorder:
    """Records events under the name of a component. Add `run` to the manager as a runnable."""

    def __init__(self, client: Client, component: str, *, clock: Clock = REAL_CLOCK) -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._changed = threading.Condition()
        self._buffer: dict[_Key, _Waiting] = {}  # in the order of the first event
        self._messages: _LRU[_Similar, _Messages] = _LRU()
        self._dropped = 0
        # The attributes below are used only by the writing thread.
        self._known: _LRU[_Key, _Known] = _LRU()
        self._full_at: _LRU[_Subject, float] = _LRU()
        self._last_stamp = 0
        self._flush_until = math.inf  # monotonic
        self._unwritten = 0  # those whose request failed during the stop
        self._reported = ""

    def event(self, obj: Mapping[str, Any], type: EventType, reason: str, message: str) -> None:  # noqa: A002
        """Record an event about obj, a Kubernetes object with apiVersion, kind and metadata.

        reason: one word in UpperCamelCase, for machines; message: a sentence for people, truncated after 1024
        characters.
        """
        metadata = obj.get("metadata") or {}
        if not (obj.get("apiVersion") and obj.get("kind") and metadata.get("name")):
            log.error("Cannot write an Event for an object without apiVersion, kind or name", extra={"reason": reason})
            return
        subject = _Subject(
            obj["apiVersion"], obj["kind"], metadata.get("namespace") or "", metadata["name"], metadata.get("uid") or ""
        )
        similar = _Similar(subject, type, reason)
        message = clean(message, _MESSAGE_LIMIT)
        now = self._clock.time()
        with self._changed:
            key: _Key = similar, hash(message)
            if self._is_combined_locked(similar, hash(message)):
                key = similar, None
                message = clean(_COMBINED_PREFIX + message, _MESSAGE_LIMIT)
            waiting = self._buffer.get(key)
            if waiting is None:
                if len(self._buffer) >= _BUFFER:
                    self._dropped += 1
                    return
                waiting = self._buffer[key] = _Waiting(first_seen_at=now)
            waiting.last_seen_at = now
            waiting.message = message
            waiting.resource_version = metadata.get("resourceVersion") or ""
            waiting.count += 1
            self._changed.notify()

    def _is_combined_locked(self, similar: _Similar, message: int) -> bool:
        now = self._clock.monotonic()
        known = self._messages.find(similar)
        if known is None or now - known.last_at > _SIMILAR_SECONDS:
            known = _Messages(set(), now)
            self._messages.put(similar, known)
        known.last_at = now
        if message not in known.hashes and len(known.hashes) + 1 >= _SIMILAR_LIMIT:
            return True
        known.hashes.add(message)
        return False

    def run(self, stop: Stop) -> None:
        """Write events until stop is set, then the rest of the buffer, within five seconds. Blocks."""
        with suppress(Stopped):
            stop.add(self._wake)
        while not (self._wait_for_event(stop) or self._clock.sleep(_COUNT_SECONDS, stop)):
            while not stop.is_set() and (item := self._next()) is not None:
                self._record(*item, stop)
        self._flush_until = self._clock.monotonic() + _FLUSH_SECONDS
        while self._clock.monotonic() < self._flush_until and (item := self._next()) is not None:
            self._record(*item, stop)
        if unwritten := len(self._buffer) + self._unwritten:
            log.warning("Events not written before the stop", extra={"count": unwritten})

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _wait_for_event(self, stop: Stop) -> bool:
        """Wait until the buffer has an event, or stop is set. True means that stop is set."""
        with self._changed:
            while not self._buffer and not stop.is_set():
                self._clock.wait(self._changed, None)
        return stop.is_set()

    def _next(self) -> tuple[_Key, _Waiting] | None:
        with self._changed:
            key = next(iter(self._buffer), None)
            item = None if key is None else (key, self._buffer.pop(key))
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning("Dropped Events because the buffer is full", extra={"count": dropped})
        return item

    def _record(self, key: _Key, waiting: _Waiting, stop: Stop) -> None:
        """Write one event if the budget of its object allows it; retry while the server does not answer."""
        similar = key[0]
        known = self._known.find(key)
        if known is not None and known.expires_at <= self._clock.monotonic():
            known = None
        if known is not None:
            # Count it before the filter, so that the next write that passes the filter has the right count.
            known.count += waiting.count
        if not self._allowed(similar.subject):
            return
        exists = known is not None
        if known is None:
            known = _Known(self._event_name(similar, waiting.first_seen_at), waiting.first_seen_at, waiting.count)
        for _ in range(_TRIES):
            try:
                self._write(similar, waiting, known, exists=exists)
            except ConnectionFailed as error:
                self._report(error, similar)
                if self._clock.sleep(_RETRY_SECONDS, stop):
                    self._unwritten += 1
                    return
            except KubernetesError as error:
                self._report(error, similar)
                return
            else:
                self._reported = ""
                known.expires_at = self._clock.monotonic() + _WINDOW_SECONDS
                self._known.put(key, known)
                return
        extra = {"object": similar.subject.name, "event": similar.reason, "tries": _TRIES}
        log.warning("Event not written, because the API server does not answer", extra=extra)

    def _allowed(self, subject: _Subject) -> bool:
        """Take a token of the object's bucket, which is stored as the monotonic time at which it is full again."""
        now = self._clock.monotonic()
        full_at = max(now, self._full_at.find(subject) or now) + _SPAM_REFILL_SECONDS
        if full_at - now > _SPAM_BURST * _SPAM_REFILL_SECONDS:
            return False
        self._full_at.put(subject, full_at)
        return True

    def _write(self, similar: _Similar, waiting: _Waiting, event: _Known, *, exists: bool) -> None:
        namespace = similar.subject.event_namespace
        body = self._body(similar, waiting, event)
        if exists:
            patch = {name: body[name] for name in ("message", "count", "lastTimestamp")}
            try:
                self._request("PATCH", EVENTS.path(namespace, event.name), patch, _MERGE_PATCH)
            except NotFound:
                # It expired or was deleted on the server: create a new one with the current count.
                event.name = self._event_name(similar, waiting.last_seen_at)
                body["metadata"]["name"] = event.name
            else:
                return
        try:
            self._request("POST", EVENTS.path(namespace), body)
        except AlreadyExists:
            # Names are unique, so an earlier attempt has reached the server.
            log.debug("The Event already exists", extra={"event": event.name})

    def _request(self, method: str, path: str, body: dict[str, Any], content_type: str = "application/json") -> None:
        left = self._flush_until - self._clock.monotonic()
        if left <= 0:
            raise ConnectionFailed("the process is stopping", reason=ConnectionFailed.TIMEOUT)
        timeout = min(_REQUEST_TIMEOUT, left)
        self._client.request(method, path, body=body, content_type=content_type, timeout=timeout)

    def _event_name(self, similar: _Similar, seen_at: float) -> str:
        """`<object>.<nanoseconds in hexadecimal>`, unique for each call."""
        self._last_stamp = max(int(seen_at * 1e9), self._last_stamp + 1)
        return f"{similar.subject.name[:_NAME_LIMIT]}.{self._last_stamp:x}"

    def _body(self, similar: _Similar, waiting: _Waiting, event: _Known) -> dict[str, Any]:
        subject = similar.subject
        involved = {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
            "resourceVersion": waiting.resource_version,
        }
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": event.name, "namespace": subject.event_namespace},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": similar.type,
            "reason": similar.reason,
            "message": waiting.message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": _timestamp(event.first_seen_at),
            "lastTimestamp": _timestamp(waiting.last_seen_at),
            "count": event.count,
        }

    def _report(self, error: KubernetesError, similar: _Similar) -> None:
        """Log a failure once, not for each event: without permission for Events all of them fail."""
        # The text of a refusal contains the name of the event, so failures are compared by type and reason.
        text = f"{type(error).__name__} {getattr(error, 'reason', '')}"
        if text != self._reported:
            self._reported = text
            extra = {"object": similar.subject.name, "event": similar.reason, "error": str(error)}
            log.warning("Cannot write an Event", extra=extra)


def _timestamp(epoch_seconds: float) -> str:
    """A metav1.Time: whole seconds."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
