"""Writes that reconcilers do again and again (controller-runtime: pkg/controller/controllerutil).

All of them start from what was read, name its version, and write only what differs. So a write that is based on an old
state is refused with a Conflict, and the key comes back.
"""

import copy
from collections.abc import Callable
from typing import Any

from informers import Client, NotFound, Resource

Object = dict[str, Any]


def create_or_update(
    client: Client, resource: Resource, wanted: Object, present: Object | None, change: Callable[[Object], None]
) -> Object:
    """Make an object as ``change`` wants it; gives it as it is then.

    wanted: metadata (name, namespace) of the object when it has to be created. present: the object as it was read, say
    from a cache, or None; it is not changed itself. change: what is to hold, applied to a copy; what it does not touch
    stays as others have made it. Raises informers.AlreadyExists, Conflict and other ApiErrors.
    """
    base: Object = wanted if present is None else present
    obj = copy.deepcopy(base) | {"apiVersion": resource.api_version, "kind": resource.kind}
    change(obj)
    if present is None:
        return client.create(resource, obj)
    return present if _same(obj, present) else client.update(resource, obj)


def add_finalizer(client: Client, resource: Resource, obj: Object, finalizer: str) -> Object:
    """Keep ``obj`` from going away before ``remove_finalizer``; gives it as it is then.

    To be called before anything is made that has to be cleaned up, and not for an object that is being deleted: the API
    server refuses that.
    """
    if finalizer in _finalizers(obj):
        return obj
    return _set_finalizers(client, resource, obj, [*_finalizers(obj), finalizer])


def remove_finalizer(client: Client, resource: Resource, obj: Object, finalizer: str) -> None:
    """Let ``obj`` go, once all is cleaned up. One that is gone already is fine."""
    if finalizer not in _finalizers(obj):
        return
    try:
        _set_finalizers(client, resource, obj, [each for each in _finalizers(obj) if each != finalizer])
    except NotFound:
        return


def is_being_deleted(obj: Object) -> bool:
    """Somebody has deleted it, and it is still there because of its finalizers."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def _finalizers(obj: Object) -> list[str]:
    return obj["metadata"].get("finalizers") or []


def _set_finalizers(client: Client, resource: Resource, obj: Object, finalizers: list[str]) -> Object:
    """The list as a whole, with the version that was read: somebody else's finalizer is never lost."""
    metadata = obj["metadata"]
    patch = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
    return client.patch(resource, metadata["name"], patch, namespace=metadata.get("namespace"))


def _same(obj: Object, present: Object) -> bool:
    """apiVersion and kind are not in objects of a list, and so not in every cache."""
    return all(obj.get(key) == present.get(key) for key in (obj.keys() | present.keys()) - {"apiVersion", "kind"})
