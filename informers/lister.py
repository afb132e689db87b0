"""Reading an informer's cache by name, namespace and index."""

from typing import Any

from informers.indexer import NAMESPACE_INDEX, Indexer
from informers.resource import Resource

Object = dict[str, Any]
Objects = list[Object]


class Lister:
    """Read access to an indexer of one resource. The objects are shared: read them, never change them; copy.deepcopy
    first.
    """

    def __init__(self, indexer: Indexer, resource: Resource) -> None:
        self._indexer = indexer
        self._resource = resource

    @property
    def indexer(self) -> Indexer:
        """The indexer."""
        return self._indexer

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None if the cache has none. Raises ValueError as key()."""
        return self._indexer.get(self.key(name, namespace))

    def key(self, name: str, namespace: str | None = None) -> str:
        """The key in the indexer. Raises ValueError unless exactly namespaced objects have a namespace."""
        return self._resource.key(name, namespace)

    def list(self, namespace: str | None = None) -> Objects:
        """All objects (None or ""), or those of a namespace; with the index NAMESPACE_INDEX, not all objects are
        visited. Raises ValueError for a namespace of a cluster-scoped resource.
        """
        self._resource.check_names(namespace, None)
        if not namespace:
            return self._indexer.list()
        if NAMESPACE_INDEX in self._indexer.index_functions:
            return self._indexer.by_index(NAMESPACE_INDEX, namespace)
        return [obj for obj in self._indexer.list() if obj["metadata"].get("namespace") == namespace]

    def by_index(self, index: str, value: str) -> Objects:
        """The objects for which an index function returns this value. Raises KeyError for an unknown index."""
        return self._indexer.by_index(index, value)
