"""Common writes of reconcilers (controller-runtime: pkg/controller/controllerutil).

All of them are based on an object that was read, contain its version, and write only differences. A write that is based
on an old version fails with a Conflict, and the key is retried.
"""

import copy
from collections.abc import Callable
from typing import Any

from informers import Client, NotFound, Resource

Object = dict[str, Any]


def create_or_update(
    client: Client, resource: Resource, wanted: Object, present: Object | None, change: Callable[[Object], None]
) -> Object:
    """Create or update an object with `change`; returns the stored object.

    wanted: metadata (name, namespace) of the object if it has to be created. present: the object as it was read, for
    example from a cache, or None; it is not changed. change: sets the desired fields in a copy; other fields stay.
    Raises informers.AlreadyExists, Conflict and other ApiErrors.
    """
    base: Object = wanted if present is None else present
    obj = copy.deepcopy(base) | {"apiVersion": resource.api_version, "kind": resource.kind}
    change(obj)
    if present is None:
        return client.create(resource, obj)
    return present if _same(obj, present) else client.update(resource, obj)


def add_finalizer(client: Client, resource: Resource, obj: Object, finalizer: str) -> Object:
    """Prevent the deletion of `obj` before `remove_finalizer`; returns the stored object.

    Call it before anything is created that has to be cleaned up, and not for an object that is being deleted: the API
    server refuses that.
    """
    if finalizer in _finalizers(obj):
        return obj
    return _set_finalizers(client, resource, obj, [*_finalizers(obj), finalizer])


def remove_finalizer(client: Client, resource: Resource, obj: Object, finalizer: str) -> None:
    """Allow the deletion of `obj` after the cleanup. An object that is already deleted is not an error."""
    if finalizer not in _finalizers(obj):
        return
    try:
        _set_finalizers(client, resource, obj, [each for each in _finalizers(obj) if each != finalizer])
    except NotFound:
        return


def is_being_deleted(obj: Object) -> bool:
    """It was deleted, and it still exists because of its finalizers."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def _finalizers(obj: Object) -> list[str]:
    return obj["metadata"].get("finalizers") or []


def _set_finalizers(client: Client, resource: Resource, obj: Object, finalizers: list[str]) -> Object:
    """Replace the whole list with the version that was read, so that no finalizer of others is lost."""
    metadata = obj["metadata"]
    patch = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
    return client.patch(resource, metadata["name"], patch, namespace=metadata.get("namespace"))


def _same(obj: Object, present: Object) -> bool:
    """Objects in a list have no apiVersion and kind, and neither have cached ones."""
    return all(obj.get(key) == present.get(key) for key in (obj.keys() | present.keys()) - {"apiVersion", "kind"})
