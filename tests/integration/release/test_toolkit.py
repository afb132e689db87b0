"""The wheel with workqueue, informers and the runtime works without the agent and without Compass's dependencies."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from release.manifests import ROOT

OURS = {"controller", "informers", "workqueue"}

#: Runs in a process that finds the wheel first, and no cryptography.
USE_IT = """
import sys

sys.modules["cryptography"] = None
sys.path.insert(0, sys.argv[1])
import controller.runtime, informers, workqueue

for module in (controller.runtime, informers, workqueue):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
    for name in module.__all__:
        getattr(module, name)
queue = workqueue.Queue()
queue.add("key")
assert queue.get() == "key"
try:
    import controller.agent
except ModuleNotFoundError:
    print("works")
"""


def project(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files."""
    folder = tmp_path_factory.mktemp("toolkit")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT / "toolkit", check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "files")
    return folder / "files"


def imported(folder: Path) -> Iterator[str]:
    """Top-level names of all packages that modules in the folder import."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield (node.module or "").partition(".")[0]


def test_it_has_no_agent_in_it(wheel: Path) -> None:
    """Four packages with their types, and the licence; of the package controller only the runtime and text."""
    found = {str(path.relative_to(wheel)) for path in wheel.rglob("*") if path.is_file()}
    expected = {
        str(path.relative_to(ROOT))
        for folder in ("workqueue", "informers", "controller/runtime")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {"controller/__init__.py", "controller/py.typed", "controller/text.py"}
    assert {name for name in found if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in found)


def test_it_declares_what_it_imports(wheel: Path) -> None:
    needed = set(imported(wheel)) - OURS - sys.stdlib_module_names
    distributions = packages_distributions()
    names = {name.lower().replace("_", "-") for package in needed for name in distributions[package]}
    assert names == {requirement.split(">")[0] for requirement in project(ROOT / "toolkit")["dependencies"]}


def test_its_dependencies_are_those_of_the_agent_but_for_compass() -> None:
    """With the same lower bounds."""
    agent, toolkit = (set(project(folder)["dependencies"]) for folder in (ROOT, ROOT / "toolkit"))
    assert toolkit < agent
    assert {requirement.split(">")[0] for requirement in agent - toolkit} == {"cryptography", "msgspec", "requests"}


def test_it_works_alone(wheel: Path) -> None:
    """Every public name can be imported in a process that has neither the agent nor cryptography.

    The package kubernetes brings and imports requests; our modules do not.
    """
    command = [sys.executable, "-c", USE_IT, str(wheel)]
    told = subprocess.run(command, cwd=wheel, capture_output=True, text=True, check=False)
    assert told.stdout == "works\n", told.stderr
