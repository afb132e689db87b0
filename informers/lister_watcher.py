"""The source of a reflector: lists in pages, and watches, of one kind of object."""

import logging
from typing import Any, NamedTuple

from informers.client import Client
from informers.errors import ApiError, WrongKind
from informers.resource import Resource, object_key
from informers.transport import Stop
from informers.watch import WatchStream

log = logging.getLogger(__name__)

# client-go tools/pager, defaultPageSize.
PAGE_SIZE = 500


class ListerWatcher:
    """The two requests of a reflector, for the objects of `resource` that the selectors match, in one namespace or all.

    Tests replace it by a subclass.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self._client = client
        self._selected: dict[str, Any] = {
            "namespace": namespace,
            "label_selector": label_selector,
            "field_selector": field_selector,
        }

    def list(self, *, limit: int | None, continue_: str, stop: Stop) -> dict[str, Any]:
        """One page of the latest state, as the API sends it. Raises ApiError, and Stopped as soon as `stop` is set."""
        return self._client.list(self.resource, limit=limit, continue_=continue_, stop=stop, **self._selected)

    def watch(self, *, resource_version: str, timeout_seconds: int, send_initial_events: bool = False) -> WatchStream:
        """A watch with bookmarks, not yet opened. See Client.watch."""
        return self._client.watch(
            self.resource,
            resource_version=resource_version,
            timeout_seconds=timeout_seconds,
            send_initial_events=send_initial_events,
            **self._selected,
        )


class Page(NamedTuple):
    """A page of a list. continue_: of the next one, "" if it is the last."""

    items: list[dict[str, Any]]
    resource_version: str
    continue_: str


def read_page(answer: dict[str, Any], resource: Resource) -> Page:
    """The usable items of an answer to a list. Raises ApiError if it is none, and WrongKind."""
    metadata = answer.get("metadata")
    items = answer.get("items")
    # Go sends null for an empty slice.
    items = [] if items is None and "items" in answer else items
    if not isinstance(metadata, dict) or not isinstance(items, list) or answer.get("kind") == "Table":
        raise ApiError(
            f"the answer to a list of {resource.plural} is no list but a {answer.get('kind') or 'nameless thing'}",
            reason="UnexpectedServerResponse",
        )
    _check_kind(items, answer.get("kind"), resource)
    return Page(
        [item for item in items if _is_usable(item, resource)],
        str(metadata.get("resourceVersion") or ""),
        str(metadata.get("continue") or ""),
    )


def wrong_kind(resource: Resource, kind: object) -> WrongKind:
    """The error for a Resource whose objects have this kind on the server."""
    return WrongKind(
        f"{resource.plural} of {resource.api_version} have the kind {str(kind)!r} on the server, but the Resource of "
        f"this program has the kind {resource.kind!r}: correct the Resource",
        reason="WrongKind",
    )


def _check_kind(items: list[Any], list_kind: object, resource: Resource) -> None:
    """Raise WrongKind if no item is of the resource's kind: skipping all of them would leave an empty cache.

    Lists of built-in kinds omit the kind of their items. Their own kind is that of the items with the suffix List.
    """
    stem = list_kind.removesuffix("List") if isinstance(list_kind, str) else ""
    kinds = [item.get("kind") or stem or resource.kind for item in items if isinstance(item, dict)]
    if kinds and resource.kind not in kinds:
        raise wrong_kind(resource, kinds[0])


def _is_usable(item: object, resource: Resource) -> bool:
    """Set the type of an item, which lists of built-in kinds omit; False for an item that is not an object of this
    kind.

    One such item must not affect the others.
    """
    if isinstance(item, dict) and item.setdefault("kind", resource.kind) == resource.kind:
        try:
            object_key(item)
        except ValueError as error:
            fault = str(error)
        else:
            item.setdefault("apiVersion", resource.api_version)
            return True
    else:
        fault = f"it is no {resource.kind}"
    log.error("Skipped an object in a list", extra={"resource": resource.plural, "error": fault})
    return False
