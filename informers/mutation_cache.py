"""A view of a cache that includes own writes until the watch delivers them.

Between a write and its watch event the cache has the old object, and a reconciler that reads it would repeat its work.
As in client-go (tools/cache/mutation_cache.go), resourceVersions are compared by size: a write is shown as long as the
cache is older than it. Without versions that can be compared, own writes are not shown.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from informers.errors import NotFound
from informers.indexer import Indexer
from informers.resource import is_older, object_key
from workqueue.clock import REAL_CLOCK, Clock

Object = dict[str, Any]
Objects = list[Object]

_Identity = tuple[str, str] | None  # uid and resourceVersion; None: there is no object


@dataclass(frozen=True, slots=True)
class _Entry:
    """obj: None for a deletion, whose version is that of the deleted object.

    replaces_cached: it was read, not written. instead_of: what the cache had at that moment. As long as it has exactly
    that, obj is shown, even if the cache is at a later version: one with a selector never gets an object without the
    label.
    """

    obj: Object | None
    version: str
    answered_at: float  # monotonic seconds
    replaces_cached: bool = False
    instead_of: _Identity = None


class MutationCache:
    """A view of a cache that includes own writes. Thread-safe; all objects are shared and read-only.

    An own write is shown until the cache has reached its version, and an object that was read until the cache changes.
    Both end with a list that began after the answer. If an answer is older than what the cache has, the API server was
    restored from a backup: the cache is listed again.

    clock: that of the informer.
    """

    def __init__(self, indexer: Indexer, *, clock: Clock = REAL_CLOCK) -> None:
        self._indexer = indexer
        self._clock = clock
        self._lock = threading.Lock()
        # The latest last. Changes are guarded by _lock. An entry is replaced in one step: get() looks without the lock.
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._changes = 0  # of the entries

    def mutated(self, obj: Object, base: Object | None) -> None:
        """A create, update or patch returned `obj`; it was based on `base` as read here, None for a create."""
        key, version, now = object_key(obj), _version(obj), self._clock.monotonic()
        with self._lock, self._indexer.unchanged():
            self._put_locked(key, _Entry(obj, version, now))
            cached = self._indexer.by_key(key)
            self._indexer.expect(key, obj, version, now)
            went_back = base is not None and is_older(version, _version(base))
            is_missing = cached is None or _uid(cached) != _uid(obj) or is_older(_version(cached), version)
            contradicts = is_missing and is_older(version, self._indexer.resource_version)
        if went_back or contradicts:
            self._indexer.distrust()

    def deleted(self, name: str, namespace: str | None, base: Object | None) -> None:
        """The deletion of the object read as `base` was accepted and is complete (it has no finalizers)."""
        if base is not None:
            with self._lock, self._indexer.unchanged():
                self._put_locked(
                    self._indexer.key(name, namespace), _Entry(None, _version(base), self._clock.monotonic())
                )

    def refresh(self, name: str, namespace: str | None, fetch: Callable[[], Object]) -> Object | None:
        """Read the object from the API server, for example after a refused write; `fetch` returns it or raises
        NotFound.

        The result is newer than earlier results here, and is returned until the cache changes, so a write that is based
        on it works too. Raises the errors of `fetch`, except NotFound.
        """
        key = self._indexer.key(name, namespace)
        with self._lock, self._indexer.unchanged():
            shown = self._get_locked(key)
        try:
            live: Object | None = fetch()
        except NotFound:
            live = None
        with self._lock, self._indexer.unchanged():
            went_back = live is not None and shown is not None and is_older(_version(live), _version(shown))
            if went_back:
                self._forget_locked(key)
            if _identity(self._get_locked(key)) == _identity(shown) or went_back:  # else more is known by now
                self._put_live_locked(key, live, shown)
        if went_back:
            self._indexer.distrust()
        return live

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        """The object, including own writes."""
        key = self._indexer.key(name, namespace)
        if key not in self._entries:  # nearly always
            return self._indexer.by_key(key)
        with self._lock, self._indexer.unchanged():
            return self._get_locked(key)

    def changes(self) -> tuple[int, int]:
        """The number of changes of the cache, and of what is shown instead. If both are equal, so are all objects."""
        with self._lock, self._indexer.unchanged():
            for key, entry in [*self._entries.items()]:
                self._ends_locked(key, entry)
            return self._indexer.changes, self._changes

    def _put_live_locked(self, key: str, live: Object | None, shown: Object | None) -> None:
        now = self._clock.monotonic()
        instead_of = _identity(self._indexer.by_key(key))
        if instead_of == _identity(live):
            self._forget_locked(key)
        elif live is not None:
            self._put_locked(key, _Entry(live, _version(live), now, replaces_cached=True, instead_of=instead_of))
        elif shown is not None:
            self._put_locked(key, _Entry(None, _version(shown), now))

    def _put_locked(self, key: str, entry: _Entry) -> None:
        known = self._entries.get(key)
        if known is not None and not self._ends_locked(key, known) and is_older(entry.version, known.version):
            return  # another thread has written meanwhile
        self._entries[key] = entry
        self._entries.move_to_end(key)
        self._changes += 1
        for earlier, ended in [*self._entries.items()]:
            if not self._ends_locked(earlier, ended):
                break

    def _get_locked(self, key: str) -> Object | None:
        entry = self._entries.get(key)
        if entry is not None and not self._ends_locked(key, entry):
            return entry.obj
        return self._indexer.by_key(key)

    def _ends_locked(self, key: str, entry: _Entry) -> bool:
        """Whether the entry is no longer shown. It is forgotten then."""
        if self._is_newer_than_cache_locked(key, entry):
            return False
        self._forget_locked(key)
        return True

    def _forget_locked(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            self._changes += 1

    def _is_newer_than_cache_locked(self, key: str, entry: _Entry) -> bool:
        if self._indexer.listed_at > entry.answered_at:
            return False
        cached = self._indexer.by_key(key)
        if entry.obj is None and cached is not None:
            return _version(cached) == entry.version or is_older(_version(cached), entry.version)
        if is_older(self._indexer.resource_version, entry.version):
            return True
        return entry.replaces_cached and _identity(cached) == entry.instead_of


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))


def _identity(obj: Object | None) -> _Identity:
    return None if obj is None else (_uid(obj), _version(obj))
