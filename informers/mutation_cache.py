"""A view of a cache that includes own writes until the watch delivers them.

Between a write and its watch event the cache has the old object, and a reconciler that reads it would repeat its work.
client-go (tools/cache/mutation_cache.go) compares resourceVersions by size. Here they stay opaque: a write is stored
together with the version that it was based on, and is valid as long as the cache has that version.
"""

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from informers.errors import NotFound
from informers.lister import Lister
from informers.resource import object_key
from workqueue.clock import REAL_CLOCK, Clock

Object = dict[str, Any]
Objects = list[Object]

# An event takes milliseconds, and a broken watch is resumed well within this time.
TTL = 60.0

_Identity = tuple[str, str] | None  # uid and resourceVersion; None: there is no object


@dataclass(frozen=True, slots=True)
class _Entry:
    obj: Object | None  # None: deleted
    bases: frozenset[_Identity]  # the versions that the cache may have while this entry is newer
    expires: float


@dataclass(frozen=True, slots=True)
class _Gone:
    key: str
    expires: float


_Expiring = TypeVar("_Expiring", _Entry, _Gone)


class MutationCache:
    """A lister's view that includes own writes. Thread-safe; all objects are shared and read-only.

    An entry ends when the cache has a version that it was not based on (the write itself or a later change of another
    client), when the cache has observed the deletion of its object, and after `ttl` seconds at the latest.
    """

    def __init__(self, lister: Lister, *, ttl: float = TTL, clock: Clock = REAL_CLOCK) -> None:
        self._indexer = lister.indexer
        self._key = lister.key
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        # Both are guarded by _lock, and in the order in which their items expire.
        self._entries: dict[str, _Entry] = {}
        # uids of objects whose deletion the cache has observed: their absence is not a state from before their
        # creation.
        self._gone: dict[str, _Gone] = {}
        # Reads alone would miss a change of the cache that returns to absence.
        self._indexer.observe(self._cache_moved)

    def mutated(self, obj: Object, base: Object | None) -> None:
        """A create, update or patch returned `obj`; it was based on `base` as read here, None for a create."""
        self._remember(object_key(obj), obj, base)

    def deleted(self, name: str, namespace: str | None, base: Object | None) -> None:
        """The deletion of the object read as `base` was accepted and is complete (it has no finalizers)."""
        self._remember(self._key(name, namespace), None, base)

    def refresh(self, name: str, namespace: str | None, fetch: Callable[[], Object]) -> Object | None:
        """Read the object from the API server, for example after a refused write; `fetch` returns it or raises
        NotFound.

        The result is newer than earlier results here, and is returned until the cache changes, so a write that is based
        on it works too. Raises the errors of `fetch`, except NotFound.
        """
        key = self._key(name, namespace)
        with self._lock:
            shown = self._get_locked(key)
            # A cache with a label selector may have observed the deletion of an object that still exists.
            self._gone = {uid: gone for uid, gone in self._gone.items() if gone.key != key}
        try:
            live: Object | None = fetch()
        except NotFound:
            live = None
        with self._lock:
            if _identity(self._get_locked(key)) == _identity(shown):  # else a newer version is known already
                self._remember_locked(key, live, shown)
        return live

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        """The object, including own writes."""
        with self._lock:
            return self._get_locked(self._key(name, namespace))

    def by_index(self, index: str, value: str) -> Objects:
        """The objects with this value of an index function, including own writes. Raises KeyError."""
        # One state of the cache for all, so that an ended entry is only replaced by a newer version.
        with self._lock, self._indexer.unchanged():
            cached = {object_key(obj): obj for obj in self._indexer.by_index(index, value)}
            function = self._indexer.index_functions[index]
            for key, entry in [*self._entries.items()]:
                if not self._holds_locked(key, entry, self._indexer.get(key)):
                    continue
                cached.pop(key, None)
                if entry.obj is not None and value in function(entry.obj):
                    cached[key] = entry.obj
            return [*cached.values()]

    def _remember(self, key: str, obj: Object | None, base: Object | None) -> None:
        with self._lock:
            self._remember_locked(key, obj, base)

    def _remember_locked(self, key: str, obj: Object | None, base: Object | None) -> None:
        bases = frozenset((_identity(base),))
        previous = self._entries.get(key)
        if previous is not None and _identity(previous.obj) in bases:
            # A write on top of a write that the cache has not observed: it may still have the version of the first one.
            bases |= previous.bases
        self._forget_expired_locked()
        entry = _Entry(obj, bases, self._clock.monotonic() + self._ttl)
        self._entries.pop(key, None)
        self._entries[key] = entry
        self._holds_locked(key, entry, self._indexer.get(key))

    def _get_locked(self, key: str) -> Object | None:
        entry = self._entries.get(key)
        cached: Object | None = self._indexer.get(key)
        return entry.obj if entry is not None and self._holds_locked(key, entry, cached) else cached

    def _holds_locked(self, key: str, entry: _Entry, cached: Object | None) -> bool:
        seen_to_go = cached is None and entry.obj is not None and _uid(entry.obj) in self._gone
        if _identity(cached) in entry.bases and not seen_to_go and self._clock.monotonic() < entry.expires:
            return True
        del self._entries[key]
        return False

    def _cache_moved(self, before: Mapping[str, Object | None]) -> None:
        with self._lock:
            self._forget_expired_locked()
            expires = self._clock.monotonic() + self._ttl
            for key, old in before.items():
                cached = self._indexer.get(key)
                if old is not None and (cached is None or _uid(cached) != _uid(old)):
                    self._gone.pop(_uid(old), None)
                    self._gone[_uid(old)] = _Gone(key, expires)
                entry = self._entries.get(key)
                if entry is not None:
                    self._holds_locked(key, entry, cached)

    def _forget_expired_locked(self) -> None:
        now = self._clock.monotonic()
        _drop_expired(self._entries, now)
        _drop_expired(self._gone, now)


def _drop_expired(items: dict[str, _Expiring], now: float) -> None:
    """They are in the order in which they expire."""
    expired = [key for key, _ in itertools.takewhile(lambda item: item[1].expires <= now, items.items())]
    for key in expired:
        del items[key]


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def _identity(obj: Object | None) -> _Identity:
    if obj is None:
        return None
    return _uid(obj), str(obj["metadata"].get("resourceVersion", ""))
