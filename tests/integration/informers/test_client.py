"""The client against a real API server."""

from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane import ControlPlane
from informers import (
    AlreadyExists,
    ApiError,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Resource,
)

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


def config_map(namespace: str, name: str = "a", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def test_life_of_an_object(admin: Client, namespace: str) -> None:
    """Create, read, update, patch, list, delete."""
    created = admin.create(CONFIG_MAPS, config_map(namespace, x="1"))
    assert admin.get(CONFIG_MAPS, "a", namespace=namespace) == created
    updated = admin.update(CONFIG_MAPS, created | {"data": {"x": "2"}})
    assert updated["data"] == {"x": "2"}
    merged = admin.patch(CONFIG_MAPS, "a", {"data": {"y": "3"}}, namespace=namespace)
    assert merged["data"] == {"x": "2", "y": "3"}
    patched = admin.patch(CONFIG_MAPS, "a", {"data": {"x": None}}, namespace=namespace)
    assert patched["data"] == {"y": "3"}
    assert [one["metadata"]["name"] for one in admin.list(CONFIG_MAPS, namespace=namespace)["items"]] == ["a"]
    admin.delete(CONFIG_MAPS, "a", namespace=namespace, uid=patched["metadata"]["uid"])
    with pytest.raises(NotFound):
        admin.get(CONFIG_MAPS, "a", namespace=namespace)


def test_errors(admin: Client, namespace: str, control_plane: ControlPlane, tmp_path: Path) -> None:
    """The real server's refusals have their types and reasons."""
    first = admin.create(CONFIG_MAPS, config_map(namespace))

    def refused(error_type: type[ApiError], reason: str, method: str, *arguments: Any, **keywords: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            getattr(admin, method)(*arguments, **keywords)
        assert (type(caught.value), caught.value.reason) == (error_type, reason)
        return caught.value

    refused(AlreadyExists, "AlreadyExists", "create", CONFIG_MAPS, config_map(namespace))
    admin.update(CONFIG_MAPS, first | {"data": {"x": "2"}})
    refused(Conflict, "Conflict", "update", CONFIG_MAPS, first | {"data": {"x": "3"}})
    refused(Conflict, "Conflict", "delete", CONFIG_MAPS, "a", namespace=namespace, uid="another")
    invalid = refused(Invalid, "Invalid", "create", CONFIG_MAPS, config_map(namespace, "No Such Name"))
    assert invalid.details["causes"][0]["field"] == "metadata.name"
    missing = Resource("nowhere.example.com", "v1", "things", "Thing")
    assert "CRD" in str(refused(NotFound, "NotFound", "list", missing))
    nobody = Client.load(str(control_plane.write_kubeconfig(tmp_path / "nobody", user="nobody", groups=())))
    with pytest.raises(Forbidden, match='User "nobody" cannot list resource "configmaps"'):
        nobody.list(CONFIG_MAPS)
