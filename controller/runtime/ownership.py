"""Owner references: from an object to the keys of its owners, and back (controller-runtime: pkg/handler).

Kubernetes deletes an object when its last owner is gone. An owner is in the same namespace, or cluster-scoped.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.runtime.reconcile import TerminalError
from informers import Resource, make_key

Object = dict[str, Any]


def keys_of_owners(owner: Resource, *, controller_only: bool = True) -> Callable[[Object], Iterable[str]]:
    """A mapping for Controller.watches: the keys of an object's owners of this kind.

    Group and kind are compared, versions are not. controller_only: only the owner that is its controller.
    """

    def keys(obj: Object) -> Iterable[str]:
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") if owner.namespaced else None
        for reference in metadata.get("ownerReferences") or ():
            group = reference.get("apiVersion", "").rpartition("/")[0]
            if (group, reference.get("kind")) != (owner.group, owner.kind):
                continue
            if reference.get("controller") or not controller_only:
                yield make_key(reference["name"], namespace)

    return keys


def set_controller(obj: Object, owner: Mapping[str, Any]) -> None:
    """Set `owner`, an object from the API server, as the controller of `obj`, which is changed.

    Raises TerminalError when `obj` has another controller.
    """
    metadata = owner["metadata"]
    wanted = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    references = obj["metadata"].get("ownerReferences") or []
    for reference in references:
        if reference.get("controller") and reference["uid"] != metadata["uid"]:
            name = obj["metadata"]["name"]
            raise TerminalError(f"{name} is controlled by the {reference['kind']} {reference['name']} already")
    others = [reference for reference in references if reference["uid"] != metadata["uid"]]
    obj["metadata"]["ownerReferences"] = [*others, wanted]
