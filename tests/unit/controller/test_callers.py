"""Public code has a caller in the product or in the example."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("workqueue", "informers", "controller", "kubectl_compass")


@cache
def files() -> dict[str, ast.Module]:
    """The syntax trees of all modules by path. Made by the process that runs the test, not by each that collects it."""
    paths = [path for folder in (*PACKAGES, "examples") for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


# Without a caller, for a reason.
ALLOWED = {
    "workqueue: RateLimitingQueue.shutting_down": "client-go's ShuttingDown; the tests wait for it",
}

Definition = ast.FunctionDef | ast.ClassDef


def uses(tree: ast.AST) -> Iterator[str]:
    """Names that code uses. Imports and `__all__` are no uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        annotation = getattr(node, "returns" if isinstance(node, ast.FunctionDef) else "annotation", None)
        for part in ast.walk(annotation) if annotation else ():
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield from uses(ast.parse(part.value))


def definitions(path: str) -> Iterator[tuple[str, Definition, str]]:
    """Public functions, classes and methods: name, definition, name of the class of a method."""
    for node in files()[path].body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        yield node.name, node, ""
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, node.name


def overrides(path: str, class_name: str, method: str) -> bool:
    """Whether a library calls the method: it has one of this name in a base class."""
    module = importlib.import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    bases = inspect.getmro(getattr(module, class_name))
    return any(method in vars(base) for base in bases if base.__module__.partition(".")[0] not in PACKAGES)


def without_caller(path: str, everywhere: dict[str, int]) -> Iterator[str]:
    for name, node, class_name in definitions(path):
        own = sum(used == node.name for used in uses(node))
        if everywhere.get(node.name, 0) > own or (class_name and overrides(path, class_name, node.name)):
            continue
        yield f"{path.partition('/')[0]}: {name}"


@pytest.fixture(scope="module")
def unused() -> set[str]:
    everywhere: dict[str, int] = {}
    for tree in files().values():
        for name in uses(tree):
            everywhere[name] = everywhere.get(name, 0) + 1
    return {name for path in files() if path.partition("/")[0] in PACKAGES for name in without_caller(path, everywhere)}


def test_public_code_has_a_caller(unused: set[str]) -> None:
    assert sorted(unused - ALLOWED.keys()) == []


def test_each_exception_is_needed(unused: set[str]) -> None:
    assert sorted(ALLOWED.keys() - unused) == []
