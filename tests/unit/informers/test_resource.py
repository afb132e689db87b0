"""Paths and keys of objects."""

import pytest

from informers import Resource, make_key, object_key, split_key


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (Resource("", "v1", "secrets", "Secret"), (), "/api/v1/secrets"),
        (Resource("", "v1", "secrets", "Secret"), ("ns",), "/api/v1/namespaces/ns/secrets"),
        (Resource("", "v1", "secrets", "Secret"), ("ns", "a"), "/api/v1/namespaces/ns/secrets/a"),
        (Resource("apps", "v1", "deployments", "Deployment"), ("n", "a", "scale"), None),
        (Resource("g.io", "v1", "things", "Thing", namespaced=False), (None, "a"), "/apis/g.io/v1/things/a"),
    ],
)
def test_paths(resource: Resource, arguments: tuple[str, ...], path: str | None) -> None:
    """Core and named groups, collections, objects, subresources."""
    assert resource.path(*arguments) == (path or "/apis/apps/v1/namespaces/n/deployments/a/scale")


def test_keys() -> None:
    """A key is namespace/name, or the name alone; both ways."""
    assert object_key({"metadata": {"namespace": "ns", "name": "a"}}) == "ns/a" == make_key("a", "ns")
    assert object_key({"metadata": {"name": "a"}}) == "a" == make_key("a")
    assert split_key("ns/a") == ("ns", "a")
    assert split_key("a") == ("", "a")
    with pytest.raises(ValueError, match="has no key"):
        object_key({})
