"""Files about the repository agree with each other: workflows, metadata, versions."""

import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
#: A path that leaves the repository from its root, and the folder that some machines have beside it.
_OUTSIDE = re.compile(r"(?:^|[\s\"'=(])\.\./shared\b|\bparents\[\d\] / \"shared\"")
MAKE = re.compile(r"^(?:.*\| )?make (?:[A-Z_]+=\S+ )*([a-z][a-z0-9-]*)", re.MULTILINE)


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())
    return found


def make_targets(file: Path) -> set[str]:
    """What a workflow runs with make."""
    jobs = yaml.safe_load(file.read_text())["jobs"].values()
    commands = [step["run"] for job in jobs for step in job.get("steps", ()) if "run" in step]
    return {target for command in commands for target in MAKE.findall(command)}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_run_targets_that_exist(file: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert make_targets(file)
    assert make_targets(file) <= targets


def test_ci_runs_what_the_script_runs() -> None:
    """.ci/run and the workflow call the same targets; `setup` is part of each."""
    script = set(re.findall(r"^ *part \S+ make ([a-z0-9-]+)", (ROOT / ".ci/run").read_text(), re.MULTILINE))
    assert script - {"setup"} <= make_targets(ROOT / ".github/workflows/ci.yaml")


def test_every_python_that_is_promised_is_tested() -> None:
    """The classifiers of the wheel, and the matrix of the workflow."""
    tested = workflow("ci.yaml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name] == tested
    assert PROJECT["requires-python"] == f">={tested[0]}"


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
