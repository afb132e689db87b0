"""The data source of a reflector: any source that can list and watch one kind of object."""

from collections.abc import Iterator
from typing import Any, Protocol

from informers.client import LIST_TIMEOUT, Client
from informers.resource import Resource
from informers.transport import Stop
from informers.watch import WatchEvent


class Watcher(Protocol):
    """One watch; see informers.watch.WatchStream for the rules."""

    def open(self) -> None:
        """Send the request. Raises ApiError."""

    def __iter__(self) -> Iterator[WatchEvent]: ...

    def stop(self) -> None:
        """End the watch, and the blocked open or read. From any thread, idempotent."""

    def close(self) -> None:
        """stop(), and release the connection. Called by the thread that opens and reads; idempotent."""


class ListerWatcher(Protocol):
    """The two requests of a reflector. list() may block for long: it runs in a thread that a stop abandons."""

    @property
    def resource(self) -> Resource:
        """The kind that is listed; events about objects of another kind are skipped."""

    def list(self, *, limit: int | None, continue_: str, stop: Stop) -> dict[str, Any]:
        """One page of the latest state, as the API sends it. Raises ApiError. After `stop` is set, the result is
        ignored.
        """

    def watch(
        self,
        *,
        resource_version: str,
        timeout_seconds: int,
        resource_version_match: str | None = None,
        send_initial_events: bool | None = None,
    ) -> Watcher:
        """A watch with bookmarks, not yet opened."""


class ResourceListerWatcher:
    """The objects of a resource on an API server: of one namespace or all, and those that the selectors match.

    list_timeout: seconds for each page of a list.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        list_timeout: float = LIST_TIMEOUT,
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._list_timeout = list_timeout

    @property
    def resource(self) -> Resource:
        """See ListerWatcher."""
        return self._resource

    def list(self, *, limit: int | None, continue_: str, stop: Stop) -> dict[str, Any]:
        """See ListerWatcher."""
        return self._client.list(
            self._resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            limit=limit,
            continue_=continue_,
            timeout=self._list_timeout,
            stop=stop,
        )

    def watch(
        self,
        *,
        resource_version: str,
        timeout_seconds: int,
        resource_version_match: str | None = None,
        send_initial_events: bool | None = None,
    ) -> Watcher:
        """See ListerWatcher."""
        return self._client.watch(
            self._resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            resource_version=resource_version,
            resource_version_match=resource_version_match,
            timeout_seconds=timeout_seconds,
            send_initial_events=send_initial_events,
        )
