"""Kubernetes Events about objects, written in the background (client-go: tools/record).

- `event` never blocks and never fails. It adds the event to a bounded buffer; a full buffer drops it and logs that.
- A repeated event increases the count of the existing Event.
- Frequent events are dropped: 25 Events of one reason for an object, then one every 5 minutes. Each reason has its own
  budget, so that many events of one reason never suppress another. (client-go has one budget for each object.)
- Events about cluster-scoped objects go to namespace `default`.
- A refusal by the API server is logged once until it changes. Only a server that does not answer leads to a retry.

Everyone who may read Events can read the text of an event, so the caller must not put secrets into it.
"""

import logging
import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from controller.text import clean
from informers import AlreadyExists, ConnectionFailed, KubernetesError, NotFound, Resource
from workqueue import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

EVENTS = Resource("", "v1", "events", "Event")
EventType = Literal["Normal", "Warning"]

# client-go's numbers: the broadcaster's queue, the size of the caches, the spam filter, and the retries.
_BUFFER = 1000
_CACHE_SIZE = 4096
_SPAM_BURST = 25
_SPAM_REFILL_PER_SECOND = 1 / 300
_TRIES = 12
_RETRY_SECONDS = 10.0
# The API server deletes an Event an hour after the last write (--event-ttl); a new one is created then.
_WINDOW_SECONDS = 3600.0
# The limit of the note in events.k8s.io, where core Events can be read too.
_MESSAGE_LIMIT = 1024
_DEFAULT_NAMESPACE = "default"
# A name has at most 253 characters, 17 of them are the dot and 16 hexadecimal digits of the time.
_NAME_LIMIT = 253 - 17
# Events are for people, so a delay of a quarter of a second is acceptable, and it needs only four wake-ups a second.
_POLL_SECONDS = 0.25
_REQUEST_TIMEOUT = 5.0
# At the stop, the buffer is written for at most this time, including requests that hang. It is shorter than the grace
# period.
_FLUSH_SECONDS = 5.0

_MERGE_PATCH = "application/merge-patch+json"

KT = TypeVar("KT")
VT = TypeVar("VT")


class Client(Protocol):
    """The methods of the API client that the recorder needs."""

    def request(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        content_type: str = ...,
        timeout: float | None = None,
    ) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class _Observation:
    """The arguments of `event`. Equal observations are the same event; they do not include the time."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    type: EventType
    reason: str
    message: str
    resource_version: str = field(compare=False)
    seen_at: float = field(compare=False)  # epoch seconds

    @property
    def subject(self) -> tuple[str, ...]:
        """The unit that has its own budget."""
        return self.api_version, self.kind, self.namespace, self.name, self.uid, self.reason

    @property
    def event_namespace(self) -> str:
        return self.namespace or _DEFAULT_NAMESPACE


@dataclass(slots=True)
class _Known:
    """An Event that was written: its name and count. `expires_at` is monotonic seconds."""

    name: str
    first_seen_at: float
    count: int
    expires_at: float


@dataclass(slots=True)
class _Waiting:
    """An observation that waits to be written: its count, first and last time."""

    first: _Observation
    last: _Observation
    count: int = 1


@dataclass(slots=True)
class _Bucket:
    """Tokens of one subject at a moment (monotonic seconds)."""

    tokens: float
    at: float


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
        self._lock = threading.Lock()
        # In the order of the first observation. No subject has more entries here than its budget allows.
        self._buffer: dict[_Observation, _Waiting] = {}
        self._buffered: Counter[tuple[str, ...]] = Counter()  # number of entries here, by subject
        self._dropped = 0
        # The attributes below are used only by the writing thread.
        self._known: _LRU[_Observation, _Known] = _LRU()
        self._buckets: _LRU[tuple[str, ...], _Bucket] = _LRU()
        self._last_stamp = 0
        self._flush_until = math.inf  # monotonic
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
        observation = _Observation(
            api_version=obj["apiVersion"],
            kind=obj["kind"],
            namespace=metadata.get("namespace") or "",
            name=metadata["name"],
            uid=metadata.get("uid") or "",
            type=type,
            reason=reason,
            message=clean(message, _MESSAGE_LIMIT),
            resource_version=metadata.get("resourceVersion") or "",
            seen_at=self._clock.time(),
        )
        with self._lock:
            waiting = self._buffer.get(observation)
            if waiting is not None:
                waiting.last = observation
                waiting.count += 1
            elif len(self._buffer) < _BUFFER and self._buffered[observation.subject] < _SPAM_BURST:
                self._buffer[observation] = _Waiting(observation, observation)
                self._buffered[observation.subject] += 1
            else:
                self._dropped += 1

    def run(self, stop: threading.Event) -> None:
        """Write events until stop is set, then the rest of the buffer, within five seconds. Blocks."""
        while not self._clock.sleep(_POLL_SECONDS, stop):
            while not stop.is_set() and (waiting := self._next()) is not None:
                self._record(waiting, stop)
        self._flush_until = self._clock.monotonic() + _FLUSH_SECONDS
        while self._clock.monotonic() < self._flush_until and (waiting := self._next()) is not None:
            self._record(waiting, stop)
        if self._buffer:
            log.warning("Events not written before the stop", extra={"count": len(self._buffer)})

    def _next(self) -> _Waiting | None:
        with self._lock:
            waiting = None
            if self._buffer:
                waiting = self._buffer.pop(next(iter(self._buffer)))
                self._buffered[waiting.first.subject] -= 1
                if not self._buffered[waiting.first.subject]:
                    del self._buffered[waiting.first.subject]
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning("Dropped Events because the buffer is full", extra={"count": dropped})
        return waiting

    def _record(self, waiting: _Waiting, stop: threading.Event) -> None:
        """Write one event if its budget allows it; retry while the server does not answer."""
        observation = waiting.last
        known = self._known.find(observation)
        if known is not None:
            if known.expires_at <= self._clock.monotonic():
                known = None
            else:
                # Count it before the filter, so that the next write that passes the filter has the right count.
                known.count += waiting.count
        if not self._allowed(observation.subject):
            return
        event = known or _Known(self._event_name(waiting.first), waiting.first.seen_at, waiting.count, 0.0)
        exists = known is not None
        for _ in range(_TRIES):
            try:
                self._write(observation, event, exists=exists)
            except ConnectionFailed as error:
                self._report(error, observation)
                if self._clock.sleep(_RETRY_SECONDS, stop):
                    return
            except KubernetesError as error:
                self._report(error, observation)
                return
            else:
                self._reported = ""
                event.expires_at = self._clock.monotonic() + _WINDOW_SECONDS
                self._known.put(observation, event)
                return

    def _allowed(self, subject: tuple[str, ...]) -> bool:
        now = self._clock.monotonic()
        bucket = self._buckets.find(subject)
        if bucket is None:
            bucket = _Bucket(_SPAM_BURST, now)
            self._buckets.put(subject, bucket)
        bucket.tokens = min(_SPAM_BURST, bucket.tokens + (now - bucket.at) * _SPAM_REFILL_PER_SECOND)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _write(self, observation: _Observation, event: _Known, *, exists: bool) -> None:
        if exists:
            patch = {"count": event.count, "lastTimestamp": _timestamp(observation.seen_at)}
            path = EVENTS.path(observation.event_namespace, event.name)
            try:
                self._request("PATCH", path, patch, _MERGE_PATCH)
            except NotFound:
                # It expired or was deleted on the server: create a new one with the current count.
                event.name = self._event_name(observation)
            else:
                return
        try:
            self._request("POST", EVENTS.path(observation.event_namespace), self._body(observation, event))
        except AlreadyExists:
            # Names are unique, so an earlier attempt has reached the server.
            log.debug("The Event already exists", extra={"event": event.name})

    def _request(self, method: str, path: str, body: dict[str, Any], content_type: str = "application/json") -> None:
        left = self._flush_until - self._clock.monotonic()
        if left <= 0:
            raise ConnectionFailed("the process is stopping", reason=ConnectionFailed.TIMEOUT)
        timeout = min(_REQUEST_TIMEOUT, left)
        self._client.request(method, path, body=body, content_type=content_type, timeout=timeout)

    def _event_name(self, observation: _Observation) -> str:
        """`<object>.<nanoseconds in hexadecimal>`, unique for each call."""
        self._last_stamp = max(int(observation.seen_at * 1e9), self._last_stamp + 1)
        return f"{observation.name[:_NAME_LIMIT]}.{self._last_stamp:x}"

    def _body(self, observation: _Observation, event: _Known) -> dict[str, Any]:
        involved = {
            "apiVersion": observation.api_version,
            "kind": observation.kind,
            "namespace": observation.namespace,
            "name": observation.name,
            "uid": observation.uid,
            "resourceVersion": observation.resource_version,
        }
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": event.name, "namespace": observation.event_namespace},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "type": observation.type,
            "reason": observation.reason,
            "message": observation.message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": _timestamp(event.first_seen_at),
            "lastTimestamp": _timestamp(observation.seen_at),
            "count": event.count,
        }

    def _report(self, error: KubernetesError, observation: _Observation) -> None:
        """Log a failure once, not for each event: without permission for Events all of them fail."""
        # The text of a refusal contains the name of the event, so failures are compared by type and reason.
        text = f"{type(error).__name__} {getattr(error, 'reason', '')}"
        if text != self._reported:
            self._reported = text
            extra = {"object": observation.name, "event": observation.reason, "error": str(error)}
            log.warning("Cannot write an Event", extra=extra)


def _timestamp(epoch_seconds: float) -> str:
    """A metav1.Time: whole seconds."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
