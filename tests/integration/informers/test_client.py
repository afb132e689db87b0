"""The client against a real API server."""

import base64
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import pki
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
    Unauthorized,
)
from informers.configuration import load
from tests.clock import VirtualClock

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


def config_map(namespace: str, name: str = "a", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def test_life_of_an_object(admin: Client, namespace: str) -> None:
    """Create, read, update, patch, list in pages, delete."""
    created = admin.create(CONFIG_MAPS, config_map(namespace, x="1"))
    assert admin.get(CONFIG_MAPS, "a", namespace=namespace) == created
    updated = admin.update(CONFIG_MAPS, created | {"data": {"x": "2"}})
    assert updated["data"] == {"x": "2"}
    merged = admin.patch(CONFIG_MAPS, "a", {"data": {"y": "3"}}, namespace=namespace)
    assert merged["data"] == {"x": "2", "y": "3"}
    patched = admin.patch(CONFIG_MAPS, "a", {"data": {"x": None}}, namespace=namespace)
    assert patched["data"] == {"y": "3"}
    admin.create(CONFIG_MAPS, config_map(namespace, "b"))
    first = admin.list(CONFIG_MAPS, namespace=namespace, limit=1)
    second = admin.list(CONFIG_MAPS, namespace=namespace, limit=1, continue_=first["metadata"]["continue"])
    assert [one["metadata"]["name"] for page in (first, second) for one in page["items"]] == ["a", "b"]
    admin.delete(CONFIG_MAPS, "a", namespace=namespace, uid=patched["metadata"]["uid"])
    with pytest.raises(NotFound):
        admin.get(CONFIG_MAPS, "a", namespace=namespace)


def test_a_name_cannot_delete_more_than_its_object(admin: Client, namespace: str) -> None:
    """The API server takes DELETE .../secrets/. for the collection, and DELETE .../secrets/.. for the namespace."""
    admin.create(SECRETS, {"metadata": {"name": "a", "namespace": namespace}})
    for name in (".", "..", "./", "%2e", "%2E%2e", "../configmaps"):
        with pytest.raises(ValueError, match="cannot be in a URL"):
            admin.delete(SECRETS, name, namespace=namespace)
        with pytest.raises(ValueError, match="cannot be in a URL"):
            admin.get(SECRETS, "a", namespace=name)
    assert [one["metadata"]["name"] for one in admin.list(SECRETS, namespace=namespace)["items"]] == ["a"]
    assert admin.get(NAMESPACES, namespace)["status"]["phase"] == "Active"


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
    for stale in ({"uid": "another"}, {"resource_version": first["metadata"]["resourceVersion"]}):
        refused(Conflict, "Conflict", "delete", CONFIG_MAPS, "a", namespace=namespace, **stale)
    invalid = refused(Invalid, "Invalid", "create", CONFIG_MAPS, config_map(namespace, "No Such Name"))
    assert invalid.details["causes"][0]["field"] == "metadata.name"
    missing = Resource("nowhere.example.com", "v1", "things", "Thing")
    assert "CRD" in str(refused(NotFound, "NotFound", "list", missing))
    nobody = Client.load(str(control_plane.write_kubeconfig(tmp_path / "nobody", user="nobody", groups=())))
    with pytest.raises(Forbidden, match='User "nobody" cannot list resource "configmaps"'):
        nobody.list(CONFIG_MAPS)


def who(client: Client) -> dict[str, Any]:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = client.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
    info: dict[str, Any] = answer["status"]["userInfo"]
    return info


def test_rotated_certificate_files(control_plane: ControlPlane, tmp_path: Path) -> None:
    """Are used within a second, and at once after a 401; the idle connection of the old ones is not used again."""
    config = yaml.safe_load(control_plane.kubeconfig())
    config["users"][0]["user"] = {"client-certificate": "client.crt", "client-key": "client.key"}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))

    def write(pair: pki.KeyPair) -> None:
        (tmp_path / "client.crt").write_bytes(pair.certificate_pem)
        (tmp_path / "client.key").write_bytes(pair.key_pem)

    def issued(name: str) -> pki.KeyPair:
        user = yaml.safe_load(control_plane.kubeconfig(name, ()))["users"][0]["user"]
        return pki.KeyPair(*(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))

    write(issued("one"))
    clock = VirtualClock()
    with closing(Client(*load(str(path), clock=clock), clock=clock)) as client:
        assert who(client)["username"] == "one"
        write(issued("two"))
        assert who(client)["username"] == "one"
        clock.advance(1)
        assert who(client)["username"] == "two"
        write(pki.Authority("another").client("nobody", ()))
        clock.advance(1)
        with pytest.raises(Unauthorized):
            who(client)
        write(issued("three"))
        assert who(client)["username"] == "three"
