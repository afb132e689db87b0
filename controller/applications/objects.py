"""Objects of one kind that the agent writes: read from a cache, and never overwritten with outdated data.

* Every write contains the version that it replaces: an update has the resourceVersion, a deletion uid and
  resourceVersion. If the API server has another version than the cache, the object is read from the API server and put
  over the cache, and Stale is raised; the caller starts again. So an outdated cache, even for minutes, leads only to
  one more request.
* The stored object is compared with the desired content. If it differs, or if others change it back again and again,
  Overridden is raised, and the same content is written again only after a pause.
* Each write is one log line.

Equal values of cached objects are in memory once: thousands of objects of a kind have the same status and labels.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from controller import fields
from controller.metrics import AgentMetrics
from controller.runtime.controller import ReconcileFailed
from informers.client import Client
from informers.errors import AlreadyExists, ApiError, Conflict, NotFound
from informers.indexer import Indexer
from informers.mutation_cache import MutationCache
from informers.resource import Resource
from workqueue.clock import Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]

#: Writes of the same content without a pause, if each comes within _REPEATED_WITHIN seconds after the one before. For
#: people who edit an object this is enough; two controllers that disagree need ten within a second.
_FREE_WRITES = 10
_REPEATED_WITHIN = 60.0

#: Pauses between writes that do not hold: they double from the first to the last, in seconds. The cause is often a
#: policy, which people change within minutes.
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 300.0

#: The answers for an object over the limit of etcd: internal errors (500), with the text of etcd or gRPC.
_TOO_LARGE = ("request is too large", "message larger than max")

#: Levels of an object that are compared. An API server accepts thousands, and an Application has eight.
_LEVELS = 12

_ABSENT = object()

#: Maximum number of paths in one log line. An Application with a hundred changed APIs has too many.
MAX_PATHS = 20


class Stale(Exception):
    """A write was based on an outdated version. The cause is the answer of the API server."""


class NotApplied(ReconcileFailed):
    """An object is not as assigned. `retry_after`: seconds, None for the back-off of the queue."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overridden(NotApplied):
    """The cluster does not keep what the agent writes. The text has the names of the fields, and no values.

    `stored`: the answer of the write, None if nothing was sent because of the pause.
    """

    def __init__(self, message: str, *, retry_after: float, stored: Object | None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.stored = stored


@dataclass(frozen=True, slots=True)
class _Written:
    """The last write of an object. `holds`: the cluster has stored it as it was written. `times`: how often the same
    content was written; `at`: monotonic seconds.
    """

    content: object
    holds: bool
    times: int
    at: float
    pause: float

    def is_forgotten(self, now: float) -> bool:
        """Whether the next write of the same content counts as the first one."""
        return now - self.at > self.pause + _REPEATED_WITHIN


class Objects:
    """The objects of one kind in one namespace, or in the cluster if `namespace` is None.

    The returned objects are shared and read-only. Writes raise Stale, or informers.KubernetesError.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        indexer: Indexer,
        *,
        namespace: str | None,
        metrics: AgentMetrics,
        clock: Clock,
    ) -> None:
        self._client = client
        self._resource = resource
        self.cache = MutationCache(indexer, clock=clock)
        self._namespace = namespace
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        # By name and type of the content; guarded by _lock, and in the order of the writes.
        self._written: dict[tuple[str, type], _Written] = {}
        self.indexer = indexer

    def get(self, name: str) -> Object | None:
        """The object in the cache, including own writes."""
        return self.cache.get(name, self._namespace)

    def read(self, name: str) -> Object | None:
        """The object in the API server; raises informers.ApiError."""
        try:
            return self._client.get(self._resource, name, namespace=self._namespace)
        except NotFound:
            return None

    def refresh(self, name: str) -> Object | None:
        """The object in the API server, which is put over the cache."""
        return self.cache.refresh(
            name, self._namespace, lambda: self._client.get(self._resource, name, namespace=self._namespace)
        )

    def write(
        self, obj: Object, base: Object | None, *, content: object, correct: Callable[[Object], Object | None]
    ) -> Object:
        """Create the object (`base` None), or replace `base`; returns the stored object.

        `content` identifies what is written into `base`. `correct` returns what would have to be written over a stored
        object; None if it has the content. Raises Stale, NotApplied or informers.KubernetesError.
        """
        name = obj["metadata"]["name"]
        self._check_pause(name, content, base, obj)
        try:
            if base is None:
                stored = self._client.create(self._resource, obj)
            else:
                stored = self._client.update(self._resource, obj)
        except AlreadyExists as error:
            self.refresh(name)
            raise Stale from error
        except (Conflict, NotFound) as error:
            if base is None:
                raise  # not the object is missing, but for example its namespace
            self.refresh(name)
            raise Stale from error
        except ApiError as error:
            if error.status == 413 or any(text in error.message for text in _TOO_LARGE):
                raise NotApplied(_too_large(obj, self._resource.kind)) from error
            raise
        self.cache.mutated(stored, base=base)
        if base is None:
            self._log_write("Created", name, reason="Compass assigns it, and it does not exist")
        else:
            differing = changed_fields(base, obj)
            self._log_write("Updated", name, reason="it differs from what Compass assigns", fields=differing)
        remaining = correct(stored)
        pause = self._note_write(name, content, holds=remaining is None)
        if remaining is not None:
            raise Overridden(_override_text(stored, remaining, self._resource.kind), retry_after=pause, stored=stored)
        return stored

    def delete(self, base: Object, reason: str) -> None:
        """Delete the object if it is still as it was read; `reason` is for the log."""
        metadata = base["metadata"]
        name = metadata["name"]
        try:
            self._client.delete(
                self._resource,
                name,
                namespace=self._namespace,
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )
        except NotFound:
            pass
        except Conflict as error:
            self.refresh(name)
            raise Stale from error
        else:
            self._log_write("Deleted", name, reason=reason)
        if metadata.get("finalizers"):
            self.refresh(name)  # it exists until they are removed
        else:
            self.cache.deleted(name, self._namespace, base=base)

    def is_overridden(self, name: str, content: object) -> bool:
        """Whether the last write of this content did not hold."""
        with self._lock:
            last = self._written.get((name, type(content)))
            return last is not None and not last.holds and last.content == content

    def _check_pause(self, name: str, content: object, base: Object | None, obj: Object) -> None:
        with self._lock:
            last = self._written.get((name, type(content)))
        if last is None or last.content != content:
            return
        wait = last.at + last.pause - self._clock.monotonic()
        if wait > 0:
            text = _override_text(base or {}, obj, self._resource.kind, fights=last.holds)
            raise Overridden(text, retry_after=wait, stored=None)

    def _note_write(self, name: str, content: object, *, holds: bool) -> float:
        """Returns the pause before the next write of the same content."""
        key, now = (name, type(content)), self._clock.monotonic()
        with self._lock:
            while self._written and self._written[first := next(iter(self._written))].is_forgotten(now):
                del self._written[first]
            last = self._written.pop(key, None)
            repeated = last is not None and last.content == content and not last.is_forgotten(now)
            # A write that holds after others that did not ends the count.
            times = last.times + 1 if last is not None and repeated and (last.holds or not holds) else 1
            if not holds:
                times = max(times, _FREE_WRITES)
            doubled = times - _FREE_WRITES
            pause = 0.0 if doubled < 0 else min(_LAST_PAUSE, _FIRST_PAUSE * 2.0 ** min(doubled, 16))
            self._written[key] = _Written(content, holds, times, now, pause)
            return pause

    def _log_write(self, what: str, name: str, **about: object) -> None:
        shown = f"{self._namespace}/{name}" if self._namespace else name
        log.info(what, extra={"kind": self._resource.kind, "object": shown, **about})
        self._metrics.written(self._resource.kind, what.lower().removesuffix("d"))


def _override_text(stored: Object, wanted: Object, kind: str, *, fights: bool = False) -> str:
    """Field names, without values."""
    names = ", ".join(changed_fields(stored, wanted))
    if fights:
        return (
            f"another client changes {names} of the {kind} back after each write; its name is in "
            f"metadata.managedFields (kubectl get --show-managed-fields); exclude objects of Compass from its work"
        )
    return (
        f"the cluster changes {names} of the {kind} as it is written: an admission policy or webhook sets it, or the "
        f"CRD does not have it; exclude objects of Compass from the policy, or apply the CRD of this release"
    )


def _too_large(obj: Object, kind: str) -> str:
    return (
        f"TooLarge: the {kind} has {len(orjson.dumps(obj))} bytes, more than this cluster stores (etcd: 1.5 MiB unless "
        f"--max-request-bytes is raised); shorten it in Compass, or raise the limit of etcd"
    )


def changed_fields(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Paths of the fields in which two versions of an object differ, such as "spec.services[ID].entries[ID].name".

    Items of a list are named by their ids if all have one. An absent field and an empty one are equal. Only the number
    of paths after MAX_PATHS is included.
    """
    paths = [
        path
        for name in sorted({*actual, *wanted} - {"apiVersion", "kind"})
        for path in _changed(actual.get(name), wanted.get(name), name)
    ]
    more = len(paths) - MAX_PATHS
    return [*paths[:MAX_PATHS], f"and {more} more"] if more > 0 else paths


def _changed(actual: Any, wanted: Any, path: str) -> Iterator[str]:
    if actual == wanted or (fields.is_empty(actual) and fields.is_empty(wanted)):
        return
    if isinstance(actual, Mapping) and isinstance(wanted, Mapping):
        for name in sorted({*actual, *wanted}):
            yield from _changed(actual.get(name), wanted.get(name), f"{path}.{name}")
        return
    before, after = _by_id(actual), _by_id(wanted)
    if before is None or after is None:
        yield path
    elif before.keys() == after.keys() and list(before) != list(after):
        yield f"{path} (order)"
    else:
        for identifier in sorted({*before, *after}):
            yield from _changed(before.get(identifier), after.get(identifier), f"{path}[{identifier}]")


def _by_id(value: Any) -> Mapping[str, Any] | None:
    """Items of a list by their ids; None if it is not a list, or if the items have no unique ids."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    items = {item["id"]: item for item in value if isinstance(item, Mapping) and isinstance(item.get("id"), str)}
    return items if len(items) == len(value) > 0 else None


class CacheTransform:
    """A transform for caches. Removes what the agent does not read, and replaces parts of an object by equal parts of
    the object before it.

    `known` may be replaced. It returns fields of the object with this name that are in memory already, {} if there are
    none. Equal parts of these are taken first.
    """

    def __init__(self) -> None:
        self.known: Callable[[str], Object] = lambda _: {}
        self._before: Object = {}

    def __call__(self, obj: Object) -> Object:
        """`obj`, which is changed."""
        obj["metadata"].pop("managedFields", None)  # a third of an object
        intern_values(obj, {**self._before, **self.known(obj["metadata"].get("name", ""))})
        # The values of a Secret would otherwise stay after its deletion.
        self._before = {field: value for field, value in obj.items() if field != "data"}
        return obj


def intern_values(value: Any, like: Any, levels: int = _LEVELS) -> Any:
    """The same value, with parts of `like` where they are equal at the same place. Changes `value`, and not `like`."""
    kind = type(value)
    if kind is not type(like):  # for ==, 1 is true
        return value
    if kind is str:
        return like if value == like else value
    if not levels or kind not in (dict, list):
        return value
    is_like = len(value) == len(like)
    for place, part in value.items() if kind is dict else enumerate(value[: len(like)]):
        there = like.get(place, _ABSENT) if kind is dict else like[place]
        if part is not there:
            value[place] = interned = intern_values(part, there, levels - 1)
            is_like = is_like and interned is there
    return like if is_like else value


def is_being_deleted(obj: Object) -> bool:
    """Whether it exists only until its finalizers are removed."""
    return bool(obj["metadata"].get("deletionTimestamp"))
