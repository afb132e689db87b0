"""One's own writes, and what they ran into, seen at once: laid over a cache until the watch catches up.

Between a write and its watch event the cache shows the state before, and a reconciler that reads it would do its work
twice. client-go (tools/cache/mutation_cache.go) compares resourceVersions by size. Here they stay opaque: a write is
remembered together with the version it was based on, and counts as long as the cache still shows that version.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from informers.errors import NotFound
from informers.lister import Lister
from informers.resource import make_key, object_key
from workqueue.clock import REAL_CLOCK, Clock

Object = dict[str, Any]
Objects = list[Object]

# An event takes milliseconds; a watch that is down is resumed well within this.
TTL = 60.0

_Identity = tuple[str, str] | None  # uid and resourceVersion; None: there is no object


@dataclass(frozen=True, slots=True)
class _Entry:
    obj: Object | None  # None: deleted
    bases: frozenset[_Identity]  # what the cache may show while this entry is ahead of it
    expires: float


class MutationCache:
    """A lister's view with own writes in it. Thread-safe; objects are shared and read-only, those given to it too.

    An entry ends as soon as the cache shows something it was not based on, be that the write itself or a later change
    of somebody else, and after `ttl` seconds at the latest.
    """

    def __init__(self, lister: Lister, *, ttl: float = TTL, clock: Clock = REAL_CLOCK) -> None:
        self._indexer = lister.indexer
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        # Reads alone would miss a cache that moves on and then returns to absence.
        self._indexer.observe(self._cache_moved)

    def mutated(self, obj: Object, base: Object | None) -> None:
        """A create, update or patch returned `obj`; it was based on `base` as read here, None for a create."""
        self._remember(object_key(obj), obj, base)

    def deleted(self, name: str, namespace: str | None, base: Object | None) -> None:
        """A delete of the object read as `base` was accepted and is complete (it has no finalizers)."""
        self._remember(make_key(name, namespace), None, base)

    def refresh(self, name: str, namespace: str | None, fetch: Callable[[], Object]) -> Object | None:
        """Ask the API server, as for a write that was refused; `fetch` gets the object from there or raises NotFound.

        What it has is newer than what was shown here before, and is seen here until the cache moves: so a write on top
        of it counts too. Raises what `fetch` raises, except NotFound.
        """
        key = make_key(name, namespace)
        shown = self.get(name, namespace)
        try:
            live: Object | None = fetch()
        except NotFound:
            live = None
        with self._lock:
            if _identity(self._get_locked(key)) == _identity(shown):  # else something newer is known by now
                self._remember_locked(key, live, shown)
        return live

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        """The object, own writes included."""
        with self._lock:
            return self._get_locked(make_key(name, namespace))

    def by_index(self, index: str, value: str) -> Objects:
        """The objects an index function gives that value for, own writes included. Raises KeyError."""
        with self._lock:
            function = self._indexer.index_functions.get(index)
            cached = {object_key(obj): obj for obj in self._indexer.by_index(index, value)}
            if function is None:
                return [*cached.values()]
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
            # A write on top of a write that the cache has not seen: it may still show what the first was based on.
            bases |= previous.bases
        entry = _Entry(obj, bases, self._clock.monotonic() + self._ttl)
        self._entries[key] = entry
        self._holds_locked(key, entry, self._indexer.get(key))

    def _get_locked(self, key: str) -> Object | None:
        entry = self._entries.get(key)
        cached: Object | None = self._indexer.get(key)
        return entry.obj if entry is not None and self._holds_locked(key, entry, cached) else cached

    def _holds_locked(self, key: str, entry: _Entry, cached: Object | None) -> bool:
        if _identity(cached) in entry.bases and self._clock.monotonic() < entry.expires:
            return True
        del self._entries[key]
        return False

    def _cache_moved(self, keys: Iterable[str]) -> None:
        if not self._entries:
            return
        with self._lock:
            for key in keys:
                entry = self._entries.get(key)
                if entry is not None:
                    self._holds_locked(key, entry, self._indexer.get(key))


def _identity(obj: Object | None) -> _Identity:
    if obj is None:
        return None
    metadata = obj["metadata"]
    return metadata.get("uid", ""), metadata.get("resourceVersion", "")
