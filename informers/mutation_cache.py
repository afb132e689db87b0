"""One's own writes, and what they ran into, seen at once: laid over a cache until the watch catches up.

Between a write and its watch event the cache shows the state before, and a reconciler that reads it would do its work
twice. client-go (tools/cache/mutation_cache.go) compares resourceVersions by size. Here they stay opaque: a write is
remembered together with the version it was based on, and counts as long as the cache still shows that version.
"""

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

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


@dataclass(frozen=True, slots=True)
class _Gone:
    key: str
    expires: float


_Expiring = TypeVar("_Expiring", _Entry, _Gone)


class MutationCache:
    """A lister's view with own writes in it. Thread-safe; objects are shared and read-only, those given to it too.

    An entry ends as soon as the cache shows something it was not based on, be that the write itself or a later change
    of somebody else, when the cache has seen its object go, and after `ttl` seconds at the latest.
    """

    def __init__(self, lister: Lister, *, ttl: float = TTL, clock: Clock = REAL_CLOCK) -> None:
        self._indexer = lister.indexer
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        # Both are guarded by _lock, and in the order in which their items expire.
        self._entries: dict[str, _Entry] = {}
        # Objects that the cache has seen go, by uid: their absence is then no state from before their creation.
        self._gone: dict[str, _Gone] = {}
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
        with self._lock:
            shown = self._get_locked(key)
            # A cache of some objects only, chosen by a label, may have seen one go that is still there.
            self._gone = {uid: gone for uid, gone in self._gone.items() if gone.key != key}
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
        # One state of the cache for all: an entry that ends here may only give way to what is newer.
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
            # A write on top of a write that the cache has not seen: it may still show what the first was based on.
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
