"""Owner references, read and written."""

import copy
from typing import Any

import pytest

from controller.runtime import TerminalError, keys_of_owners, set_controller
from informers import Resource

SHOP = Resource("shops.example", "v1", "shops", "Shop")
MALL = Resource("shops.example", "v1", "malls", "Mall", namespaced=False)
OWNER = {"apiVersion": "shops.example/v1", "kind": "Shop", "metadata": {"name": "bakery", "uid": "u-1"}}


def owned_by(*references: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "a", "namespace": "ns", "ownerReferences": list(references)}}


def reference(kind: str = "Shop", api_version: str = "shops.example/v1", **more: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "name": "bakery", "uid": "u-1", "controller": True, **more}


@pytest.mark.parametrize(
    ("references", "owner", "controller_only", "keys"),
    [
        ([reference()], SHOP, True, ["ns/bakery"]),
        ([reference(api_version="shops.example/v2")], SHOP, True, ["ns/bakery"]),
        ([reference(api_version="other.example/v1")], SHOP, True, []),
        ([reference(api_version="v1")], SHOP, True, []),
        ([reference(kind="Stall")], SHOP, True, []),
        ([reference(controller=False)], SHOP, True, []),
        ([reference(controller=False)], SHOP, False, ["ns/bakery"]),
        ([reference(kind="Mall")], MALL, True, ["bakery"]),
        ([reference(name="a"), reference(name="b")], SHOP, False, ["ns/a", "ns/b"]),
        ([], SHOP, False, []),
    ],
)
def test_keys_of_owners(references: Any, owner: Any, controller_only: Any, keys: Any) -> None:
    """Group and kind count, the version does not; a cluster-scoped owner has no namespace."""
    assert [*keys_of_owners(owner, controller_only=controller_only)(owned_by(*references))] == keys


@pytest.mark.parametrize("metadata", [{"name": "a"}, {"name": "a", "ownerReferences": None}])
def test_an_object_without_owners_has_no_keys(metadata: Any) -> None:
    """Most objects are nobody's."""
    assert [*keys_of_owners(SHOP)({"metadata": metadata})] == []


@pytest.mark.parametrize("before", [None, [], [reference(controller=False)], [reference()]], ids=str)
def test_set_controller(before: Any) -> None:
    """There is one reference to the owner, and it says that the owner is the controller; twice is as once."""
    obj: dict[str, Any] = {"metadata": {"name": "a", "ownerReferences": before}}
    for _ in range(2):
        set_controller(obj, OWNER)
        assert obj["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "shops.example/v1",
                "kind": "Shop",
                "name": "bakery",
                "uid": "u-1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]


def test_other_owners_stay() -> None:
    """They keep the object alive as before."""
    other = reference(name="other", uid="u-2", controller=False)
    obj = owned_by(other)
    set_controller(obj, OWNER)
    assert obj["metadata"]["ownerReferences"][0] == other


def test_another_controller_is_a_terminal_error() -> None:
    """Two controllers would fight for the object for ever."""
    obj = owned_by(reference(name="other", uid="u-2"))
    before = copy.deepcopy(obj)
    with pytest.raises(TerminalError, match="a is controlled by the Shop other already"):
        set_controller(obj, OWNER)
    assert obj == before
