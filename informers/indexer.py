"""The cache of an informer: objects by key and by the values of index functions.

Contract: returned objects are shared and must not be changed. Reads never block for long and show the state after some
change of the server: it may be old, but it is never a mixture of two states of one object.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from informers.mutation_detector import CacheMutated
from informers.resource import Resource, is_older, object_key

Object = dict[str, Any]
Objects = list[Object]
Keys = list[str]
IndexFunction = Callable[[Object], Iterable[str]]
"""The values of an object in the index: none, one or several. Must be pure and must not raise: an error is a
programming error and ends the informer.
"""


class Indexer:
    """The objects of one resource, with indices. Thread-safe; index functions run with its lock held.

    client-go: threadSafeMap, and the listers.
    """

    def __init__(
        self,
        resource: Resource,
        index_functions: Mapping[str, IndexFunction] | None = None,
        *,
        on_distrust: Callable[[], None] = lambda: None,
    ) -> None:
        """on_distrust: see distrust()."""
        self._resource = resource
        self._lock = threading.RLock()
        self._objects: dict[str, Object] = {}
        self._functions: dict[str, IndexFunction] = dict(index_functions or {})
        # Index name -> value -> keys. The keys are in a dict for its order. No value has an empty set of keys.
        self._indices: dict[str, dict[str, dict[str, None]]] = {name: {} for name in self._functions}
        self._resource_version = ""
        self._listed_at = -math.inf
        self._changes = 0
        # Objects of own writes that the content does not have yet, and when they were answered.
        self._expected: dict[str, tuple[Object, float]] = {}
        self._on_distrust = on_distrust

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def resource_version(self) -> str:
        """The resourceVersion of the store; "" before the first list."""
        return self._resource_version

    @property
    def listed_at(self) -> float:
        """When the list began that the content is based on (monotonic seconds)."""
        return self._listed_at

    @property
    def changes(self) -> int:
        """How often the content was changed. With the same number it is the same content."""
        return self._changes

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None. Raises ValueError as key()."""
        return self.by_key(self.key(name, namespace))

    def key(self, name: str, namespace: str | None = None) -> str:
        """The key of the object. Raises ValueError unless exactly namespaced objects have a namespace."""
        return self._resource.key(name, namespace)

    def by_key(self, key: str) -> Object | None:
        """The object with this key, or None."""
        with self._lock:
            return self._objects.get(key)

    def list(self, namespace: str | None = None) -> Objects:
        """All objects (None or ""), or those of a namespace, in the order in which they were added. Raises ValueError
        for a namespace of a cluster-scoped resource.
        """
        self._resource.check_names(namespace, None)
        with self._lock:
            objects = [*self._objects.values()]
        return [obj for obj in objects if obj["metadata"].get("namespace") == namespace] if namespace else objects

    def keys(self) -> Keys:
        """All keys."""
        with self._lock:
            return [*self._objects]

    def by_index(self, index: str, value: str) -> Objects:
        """The objects for which the index function returns this value. Raises KeyError for an unknown index."""
        with self._lock:
            return [self._objects[key] for key in self._index_locked(index).get(value, ())]

    def index_values(self, index: str) -> Keys:
        """All values of the index. Raises KeyError for an unknown index."""
        with self._lock:
            return [*self._index_locked(index)]

    def distrust(self) -> None:
        """An answer of the API server contradicts the content, so the content has to be read again."""
        self._on_distrust()

    def unchanged(self) -> AbstractContextManager[object]:
        """Block writes, for several reads of one state. Keep it short."""
        return self._lock

    def expect(self, key: str, obj: Object, version: str, answered_at: float) -> None:
        """An own write was answered with this object. If neither the content nor the next list has it, it was deleted
        without an event: see missed(). What the content is later than was reported by an event.
        """
        with self._lock:
            if key not in self._objects and is_older(self._resource_version, version):
                self._expected[key] = obj, answered_at

    def missed(self) -> dict[str, Object]:
        """Expected objects that the list of the content does not have, although it began later. Each is returned once.

        They were deleted, or changed so that the selector does not select them any more, and no event reports it.
        """
        with self._lock:
            missed = {key: obj for key, (obj, answered_at) in self._expected.items() if answered_at < self._listed_at}
            for key in missed:
                del self._expected[key]
            return missed

    def put(self, key: str, obj: Object, version: str) -> Object | None:
        """Store the object; returns the replaced one."""
        with self._lock:
            old = self._objects.get(key)
            self._objects[key] = obj
            self._changes += 1
            self._expected.pop(key, None)
            self._reindex_locked(key, old, obj)
            self._resource_version = version
        return old

    def remove(self, key: str, version: str) -> Object | None:
        """Remove the object; returns it."""
        with self._lock:
            old = self._objects.pop(key, None)
            self._changes += 1
            self._expected.pop(key, None)
            self._reindex_locked(key, old, None)
            self._resource_version = version
        return old

    def replace(self, objects: dict[str, Object], version: str, *, listed_at: float = -math.inf) -> dict[str, Object]:
        """Replace the whole content by `objects`, in one step; returns the previous content."""
        with self._lock:
            before = self._objects
            self._objects = objects
            self._changes += 1
            self._expected = {key: new for key, new in self._expected.items() if key not in objects}
            indices = self._indices = {name: {} for name in self._functions}
            for name, function in self._functions.items():
                index = indices[name]
                for key, obj in objects.items():
                    for value in _values(name, function, obj):
                        index.setdefault(value, {})[key] = None
            self._resource_version = version
            self._listed_at = listed_at
        return before

    def caught_up(self, version: str) -> None:
        """The content is also correct for this later version (a bookmark)."""
        with self._lock:
            self._resource_version = version

    def _index_locked(self, index: str) -> dict[str, dict[str, None]]:
        try:
            return self._indices[index]
        except KeyError:
            raise KeyError(f"there is no index {index!r}; known: {', '.join(self._indices) or 'none'}") from None

    def _reindex_locked(self, key: str, old: Object | None, new: Object | None) -> None:
        for name, function in self._functions.items():
            index = self._indices[name]
            before = _values(name, function, old)
            after = _values(name, function, new)
            for value in before.keys() - after.keys():
                keys = index.get(value, {})
                if key not in keys:
                    raise CacheMutated(
                        f"cached {self._resource.kind} {key} was changed by its reader in what the index {name!r} is "
                        "made of: copy objects to change them"
                    )
                del keys[key]
                if not keys:
                    # Values without objects would accumulate if values never repeat.
                    del index[value]
            for value in after.keys() - before.keys():
                index.setdefault(value, {})[key] = None


def _values(index: str, function: IndexFunction, obj: Object | None) -> dict[str, None]:
    """The index values of the object, as keys. An error of the function names the object."""
    if obj is None:
        return {}
    try:
        values = function(obj)
        if isinstance(values, str):  # whose characters would become values
            raise TypeError(f"the index function returned the text {values!r}, not a collection of texts")  # noqa: TRY301
        return dict.fromkeys(values)
    except Exception as error:
        error.add_note(f"in the index function {index!r}, for {obj['kind']} {object_key(obj)}")
        raise
