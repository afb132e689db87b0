"""Objects of one kind that the agent writes: read from a cache, and never overwritten with outdated data.

Every write contains the version that it replaces: an update has the resourceVersion, a deletion uid and
resourceVersion. If the API server has another version than the cache, the object is read from the API server and put
over the cache, and Stale is raised; the caller starts again. So an outdated cache, even for minutes, leads only to one
more request. Each write is one log line.
"""

import logging
from typing import Any

from controller.metrics import AgentMetrics
from controller.model.differences import changed_fields
from informers.client import Client
from informers.errors import AlreadyExists, ApiError, Conflict, NotFound
from informers.lister import Lister
from informers.mutation_cache import MutationCache
from informers.resource import Resource
from workqueue.clock import Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]


class Stale(Exception):
    """A write was based on an outdated version. `cause` is the answer of the API server."""

    def __init__(self, cause: ApiError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Objects:
    """The objects of one kind in one namespace, or in the cluster if `namespace` is None.

    The returned objects are shared and read-only. Writes raise Stale, or informers.KubernetesError.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        lister: Lister,
        *,
        namespace: str | None,
        metrics: AgentMetrics,
        clock: Clock,
    ) -> None:
        self._client = client
        self._resource = resource
        self._cache = MutationCache(lister, clock=clock)
        self._namespace = namespace
        self._metrics = metrics
        self.lister = lister

    def get(self, name: str) -> Object | None:
        """The object in the cache, including own writes."""
        return self._cache.get(name, self._namespace)

    def read(self, name: str) -> Object | None:
        """The object in the API server; raises informers.ApiError."""
        try:
            return self._client.get(self._resource, name, namespace=self._namespace)
        except NotFound:
            return None

    def write(self, obj: Object, base: Object | None) -> Object:
        """Create the object (`base` None), or replace `base`; returns the stored object."""
        name = obj["metadata"]["name"]
        try:
            if base is None:
                written = self._client.create(self._resource, obj)
            else:
                written = self._client.update(self._resource, obj)
        except AlreadyExists as error:
            self._read_again(name)
            raise Stale(error) from error
        except (Conflict, NotFound) as error:
            if base is None:
                raise  # not the object is missing, but for example its namespace
            self._read_again(name)
            raise Stale(error) from error
        self._cache.mutated(written, base=base)
        if base is None:
            self._log_write("Created", name, reason="Compass assigns it, and it does not exist")
        else:
            fields = changed_fields(base, obj)
            self._log_write("Updated", name, reason="it differs from what Compass assigns", fields=fields)
        return written

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
            self._read_again(name)
            raise Stale(error) from error
        else:
            self._log_write("Deleted", name, reason=reason)
        self._cache.deleted(name, self._namespace, base=base)

    def _read_again(self, name: str) -> None:
        """Put the object of the API server over the cache, which is behind or has no objects without labels."""
        self._cache.refresh(
            name, self._namespace, lambda: self._client.get(self._resource, name, namespace=self._namespace)
        )

    def _log_write(self, what: str, name: str, **about: object) -> None:
        shown = f"{self._namespace}/{name}" if self._namespace else name
        log.info(what, extra={"kind": self._resource.kind, "object": shown, **about})
        self._metrics.written(self._resource.kind, what.lower().removesuffix("d"))
