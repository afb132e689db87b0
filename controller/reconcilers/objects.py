"""Objects of one kind that the agent makes: read from a cache, written so that nothing unseen is overwritten.

Every write says which version it replaces: an update carries the resourceVersion, a deletion uid and resourceVersion.
When a write meets another version than the cache shows, the object is read from the API server, lies over the cache
from then on, and Stale is raised: the caller begins anew. So a cache that lags, even for minutes, costs a request and
no more. Every write is one line of the log.
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
    """A write met another version than the cache showed. ``cause`` is what the API server answered."""

    def __init__(self, cause: ApiError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Objects:
    """The objects of one kind in one namespace, or in the cluster when ``namespace`` is None.

    What it gives is shared and read-only. Writes raise Stale, or informers.KubernetesError.
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
        """The object as the cache has it, own writes included."""
        return self._cache.get(name, self._namespace)

    def read(self, name: str) -> Object | None:
        """The object as the API server has it; raises informers.ApiError."""
        try:
            return self._client.get(self._resource, name, namespace=self._namespace)
        except NotFound:
            return None

    def write(self, obj: Object, base: Object | None) -> Object:
        """Create the object (``base`` None), or replace ``base`` by it; gives it as stored."""
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
                raise  # not the object, but what it needs: its namespace is missing, say, or is going away
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
        """Delete the object if it is still as it was read; ``reason`` is for the log."""
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
