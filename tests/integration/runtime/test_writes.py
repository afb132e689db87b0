"""create_or_update and finalizers on a real API server."""

from typing import Any

import pytest

from controller.runtime import add_finalizer, create_or_update, is_being_deleted, remove_finalizer
from informers import AlreadyExists, Client, Conflict, NotFound, Resource

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
FINALIZER = "example.com/test"

Object = dict[str, Any]


def say(text: str) -> Any:
    return lambda obj: obj.setdefault("data", {}).update(say=text)


@pytest.fixture
def wanted(namespace: str) -> Object:
    return {"metadata": {"name": "shop", "namespace": namespace}}


def test_an_object_that_is_not_there_is_created(admin: Client, wanted: Any) -> None:
    """With what the change makes of it."""
    created = create_or_update(admin, CONFIG_MAPS, wanted, None, say("hello"))
    assert created["data"] == {"say": "hello"}
    assert "data" not in wanted


def test_what_differs_is_written_and_the_rest_stays(admin: Client, wanted: Any, namespace: str) -> None:
    """Keys and labels of others are not touched; what was read is not changed."""
    other = {"metadata": {**wanted["metadata"], "labels": {"of": "others"}}, "data": {"kept": "yes"}}
    present = admin.create(CONFIG_MAPS, other)
    written = create_or_update(admin, CONFIG_MAPS, wanted, present, say("hello"))
    assert written["data"] == {"kept": "yes", "say": "hello"}
    assert written["metadata"]["labels"] == {"of": "others"}
    assert present["data"] == {"kept": "yes"}
    assert admin.get(CONFIG_MAPS, "shop", namespace=namespace) == written


def test_nothing_is_written_when_nothing_differs(admin: Client, wanted: Any, namespace: str) -> None:
    """The version stays; also when the object came out of a list, without apiVersion and kind."""
    create_or_update(admin, CONFIG_MAPS, wanted, None, say("hello"))
    (listed,) = [
        obj for obj in admin.list(CONFIG_MAPS, namespace=namespace)["items"] if obj["metadata"]["name"] == "shop"
    ]
    assert "kind" not in listed
    assert create_or_update(admin, CONFIG_MAPS, wanted, listed, say("hello")) is listed
    version = admin.get(CONFIG_MAPS, "shop", namespace=namespace)["metadata"]["resourceVersion"]
    assert version == listed["metadata"]["resourceVersion"]


def test_a_write_on_top_of_an_old_state_is_refused(admin: Client, wanted: Any) -> None:
    """Nobody's change is lost: the key comes back and is reconciled with fresh data."""
    old = create_or_update(admin, CONFIG_MAPS, wanted, None, say("hello"))
    create_or_update(admin, CONFIG_MAPS, wanted, old, say("of another"))
    with pytest.raises(Conflict):
        create_or_update(admin, CONFIG_MAPS, wanted, old, say("mine"))
    with pytest.raises(AlreadyExists):
        create_or_update(admin, CONFIG_MAPS, wanted, None, say("mine"))


def test_a_finalizer_keeps_an_object_until_it_is_removed(admin: Client, wanted: Any, namespace: str) -> None:
    """Added and removed once; others' finalizers stay."""
    obj = admin.create(CONFIG_MAPS, {"metadata": {**wanted["metadata"], "finalizers": ["example.com/other"]}})
    kept = add_finalizer(admin, CONFIG_MAPS, obj, FINALIZER)
    assert add_finalizer(admin, CONFIG_MAPS, kept, FINALIZER) is kept
    assert not is_being_deleted(kept)
    admin.delete(CONFIG_MAPS, "shop", namespace=namespace)
    leaving = admin.get(CONFIG_MAPS, "shop", namespace=namespace)
    assert is_being_deleted(leaving)
    remove_finalizer(admin, CONFIG_MAPS, leaving, FINALIZER)
    leaving = admin.get(CONFIG_MAPS, "shop", namespace=namespace)
    assert leaving["metadata"]["finalizers"] == ["example.com/other"]
    remove_finalizer(admin, CONFIG_MAPS, leaving, FINALIZER)
    remove_finalizer(admin, CONFIG_MAPS, leaving, "example.com/other")
    with pytest.raises(NotFound):
        admin.get(CONFIG_MAPS, "shop", namespace=namespace)
    remove_finalizer(admin, CONFIG_MAPS, leaving, "example.com/other")  # gone is fine


def test_a_finalizer_on_top_of_an_old_state_is_refused(admin: Client, wanted: Any) -> None:
    """The list is written as a whole, so it must be the newest that is changed."""
    old = admin.create(CONFIG_MAPS, wanted)
    add_finalizer(admin, CONFIG_MAPS, old, "example.com/other")
    with pytest.raises(Conflict):
        add_finalizer(admin, CONFIG_MAPS, old, FINALIZER)
