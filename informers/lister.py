"""Reading an informer's cache by name, namespace and index."""

from typing import Any

from informers.indexer import NAMESPACE_INDEX, Indexer
from informers.resource import make_key

Object = dict[str, Any]
Objects = list[Object]


class Lister:
    """Read access to an indexer. The objects are shared: read them, never change them; copy.deepcopy first."""

    def __init__(self, indexer: Indexer) -> None:
        self._indexer = indexer

    @property
    def indexer(self) -> Indexer:
        """The indexer."""
        return self._indexer

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None if the cache has none."""
        return self._indexer.get(make_key(name, namespace))

    def list(self, namespace: str | None = None) -> Objects:
        """All objects (None or ""), or those of a namespace; with the index NAMESPACE_INDEX, not all objects are
        visited.
        """
        if not namespace:
            return self._indexer.list()
        if NAMESPACE_INDEX in self._indexer.index_functions:
            return self._indexer.by_index(NAMESPACE_INDEX, namespace)
        return [obj for obj in self._indexer.list() if obj["metadata"].get("namespace") == namespace]

    def by_index(self, index: str, value: str) -> Objects:
        """The objects for which an index function returns this value. Raises KeyError for an unknown index."""
        return self._indexer.by_index(index, value)
