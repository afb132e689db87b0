"""The package as others see it."""

import ast
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


def test_knows_nothing_of_compass() -> None:
    """Of ours it imports only the clock; HTTP is the affair of few modules."""
    http = {"urllib3", "kubernetes", "requests"}
    allowed = {
        "client.py",
        "configuration.py",
        "credentials.py",
        "kubeconfig.py",
        "watch.py",
    }
    for path in ROOT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root = name.split(".")[0]
                assert root not in {"controller", "e2e", "tests"}, path
                assert root != "workqueue" or name == "workqueue.clock", path
                assert root not in http or path.name in allowed, path


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
