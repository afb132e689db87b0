"""Files about the repository agree with each other: locks, metadata, versions."""

import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: A path that leaves the repository from its root, and the folder that some machines have beside it.
_OUTSIDE = re.compile(r"(?:^|[\s\"'=(])\.\./shared\b|\bparents\[\d\] / \"shared\"")


def test_a_package_needed_with_extras_is_locked_with_them() -> None:
    """pip 23.2, which Python 3.11 brings, takes no other pin for it: it fails when the next release of it is out."""
    needed = [
        requirement
        for distribution in distributions()
        for requirement in map(Requirement, distribution.requires or ())
        if requirement.extras and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
    ]
    assert needed
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        pins = dict(re.findall(r"^([\w.-]+)(?:\[([\w,-]+)\])?==", lock.read_text(), re.MULTILINE))
        for requirement in needed:
            if requirement.name in pins:
                assert requirement.extras <= set(pins[requirement.name].split(",")), (lock.name, str(requirement))


def test_the_changelog_has_the_version() -> None:
    assert re.search(rf"^## {re.escape(PROJECT['version'])}(, |$)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_nothing_refers_to_a_folder_outside() -> None:
    """A clone alone has all that it needs; only .ci/run may look beside it."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".yaml", ".md", ".toml"} or name in {"Makefile", "Dockerfile"}:
            assert not _OUTSIDE.search(path.read_text()), name
