"""The package as others see it: its names, its dependencies, its README."""

import ast
import re
import sys
import threading
from pathlib import Path
from typing import Any

import workqueue
from tests.fake_api_server.waiting import eventually
from workqueue import RateLimitingQueue

PACKAGE = Path(workqueue.__file__).parent


def test_namespace_is_flat_and_complete() -> None:
    """Whatever a module defines without underscore is in __all__, and nothing else is."""
    defined = set()
    for path in PACKAGE.glob("[!_]*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                defined.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                defined.add(node.target.id)
    public = {name for name in defined if not name.startswith("_")}
    assert public == set(workqueue.__all__)
    assert all(hasattr(workqueue, name) for name in workqueue.__all__)


def test_needs_the_standard_library_only() -> None:
    """No module imports anything beyond it and the package itself."""
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            for name in names:
                root = name.split(".")[0]
                assert root == "workqueue" or root in sys.stdlib_module_names, f"{path.name} imports {name}"


def readme_example() -> str:
    text = (PACKAGE / "README.md").read_text()
    found = re.search(r"<!-- example: run by the tests -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found, "the README has no example"
    return found[1]


def test_readme_example_mirrors_a_directory(tmp_path: Path) -> None:
    """The example controller runs as printed: it starts up right, follows changes, retries failures and stops."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "kept").write_text("new")
    (target / "kept").write_text("old")
    (target / "gone").write_text("stale")
    scope: dict[str, Any] = {}
    exec(compile(readme_example(), "README.md", "exec"), scope)
    queue: RateLimitingQueue[str] = RateLimitingQueue(name="mirror")
    before = threading.active_count()
    scope["start"](source, target, queue)
    try:
        eventually(lambda: (target / "kept").read_text() == "new" and not (target / "gone").exists())

        (source / "added").write_text("1")
        queue.add("added")
        eventually(lambda: (target / "added").exists() and (target / "added").read_text() == "1")

        (target / "blocked").mkdir()  # copying onto a directory fails until it is gone
        (source / "blocked").write_text("2")
        queue.add("blocked")
        eventually(lambda: queue.num_requeues("blocked") >= 2)
        (target / "blocked").rmdir()
        eventually(lambda: (target / "blocked").is_file() and (target / "blocked").read_text() == "2")
        eventually(lambda: queue.num_requeues("blocked") == 0)
    finally:
        queue.shut_down()
    eventually(lambda: threading.active_count() == before)
