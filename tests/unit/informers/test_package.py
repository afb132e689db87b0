"""The package as others see it."""

import re
from pathlib import Path

import pytest

import informers
from informers import Resource, make_key, object_key, split_key

ROOT = Path(informers.__file__).parent
README = ROOT / "README.md"


def test_exports_are_sorted_and_exist() -> None:
    """Every public name is there, once."""
    assert len(set(informers.__all__)) == len(informers.__all__)
    for name in informers.__all__:
        assert hasattr(informers, name)


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


def test_readme_example_is_short() -> None:
    """Thirty lines are enough for a controller."""
    assert len(_examples()[0].strip().splitlines()) <= 30


def _examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
