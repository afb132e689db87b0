"""What is public of the toolkit: the table in docs/development.md, `__all__`, and what signatures need."""

import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import controller.runtime
import informers
import workqueue

PAGE = (Path(__file__).parents[3] / "docs/development.md").read_text()
PACKAGES = [workqueue, informers, controller.runtime]
OURS = tuple(package.__name__ for package in PACKAGES)

CALLED_BY_THE_PACKAGE = {
    "Client.__init__": "Client.load makes one",
    "HTTPServer.__init__": "the Manager makes the servers of health and metrics",
    "Registration.notify": "the informer calls it",
    "WatchStream.__init__": "Client.watch makes one",
}


def table(package: ModuleType) -> list[str]:
    """Names in the rows of a package."""
    section = PAGE.split("\n## Public Python API\n", 1)[1].split("\n## ", 1)[0]
    rows = [row for row in section.splitlines() if row.startswith(f"| `{package.__name__}` |")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[3])]


def callables(package: ModuleType) -> Iterator[tuple[str, object]]:
    """Public functions, and public methods and constructors of public classes."""
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                if method == "__init__" or not method.startswith("_"):
                    yield f"{name}.{method}", function
        elif inspect.isfunction(value):
            yield name, value


def classes(hint: object) -> Iterator[type]:
    """All classes in a type hint."""
    if inspect.isclass(hint) and not typing.get_args(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from classes(part)
    if isinstance(hint, list | tuple):
        for part in hint:
            yield from classes(part)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_table_has_each_public_name_once(package: ModuleType) -> None:
    assert sorted(table(package)) == sorted(package.__all__)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_signatures_need_public_names_only(package: ModuleType) -> None:
    """Whoever calls a public function can name the types of its arguments and of its answer; Protocols have no need."""
    public = {getattr(module, name) for module in PACKAGES for name in module.__all__ if name[0].isupper()}
    private = {
        f"{where}: {found.__module__}.{found.__name__}"
        for where, function in callables(package)
        if where not in CALLED_BY_THE_PACKAGE
        for hint in typing.get_type_hints(function).values()
        for found in classes(hint)
        if found.__module__.startswith(OURS) and found not in public and not getattr(found, "_is_protocol", False)
    }
    assert private == set()
