"""Workflows run only what is pinned, and what exists; a job that builds has no right to publish."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.manifests import ROOT

FOLDER = ROOT / ".github"
FILES = sorted([*FOLDER.glob("workflows/*.yaml"), *FOLDER.glob("actions/*/action.yaml")])
WORKFLOWS = [file for file in FILES if file.parent.name == "workflows"]
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
MAKE = r"^(?:.*\| )?make (?:[A-Z_]+=\S+ )*([a-z][a-z0-9-]*)"

PUBLISH = {"push-image", "sign-image", "sign-release"}
"""The targets of make that send away what another job has built."""


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["jobs"]
    return found


def commands(job: dict[str, Any]) -> Iterator[str]:
    for step in job.get("steps", ()):
        yield from filter(None, step.get("run", "").splitlines())


def make_targets(file: Path) -> set[str]:
    """What a workflow runs with make."""
    run = [command for job in jobs(file).values() for command in commands(job)]
    return {target for command in run for target in re.findall(MAKE, command)}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_run_targets_that_exist(file: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert make_targets(file)
    assert make_targets(file) <= targets


def test_ci_runs_what_the_script_runs() -> None:
    """.ci/run and the workflow call the same targets; `setup` is part of each."""
    script = set(re.findall(r"^ *part \S+ make ([a-z0-9-]+)", (ROOT / ".ci/run").read_text(), re.MULTILINE))
    assert script - {"setup"} <= make_targets(FOLDER / "workflows/ci.yaml")


def test_every_python_that_is_promised_is_tested() -> None:
    """The classifiers of the wheel, and the matrix of the workflow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = jobs(FOLDER / "workflows/ci.yaml")["test"]["strategy"]["matrix"]["python"]
    assert [name.rpartition(" ")[2] for name in project["classifiers"] if "Python :: 3." in name] == tested
    assert project["requires-python"] == f">={tested[0]}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_actions_are_pinned_by_commit(file: Path) -> None:
    """With the version in a comment, which Dependabot keeps right. Those of this repository are of the same commit."""
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    assert [action for action in used if not action.startswith("./") and not PINNED.fullmatch(action)] == []


def test_one_version_of_each_action_is_used() -> None:
    used = {action for file in FILES for action in re.findall(r"uses: ([^.].*)", file.read_text())}
    assert len(used) == len({action.partition("@")[0] for action in used})


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_each_job_states_its_permissions(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["permissions"] == {}
    for name, job in jobs(file).items():
        assert job.get("permissions"), name


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_job_that_may_write_builds_nothing(file: Path) -> None:
    for name, job in jobs(file).items():
        if "write" in job["permissions"].values():
            for command in commands(job):
                made = re.match(r"make ([a-z-]+)", command)
                assert made[1] in PUBLISH if made else command.startswith("gh release create "), (name, command)


def test_images_of_workflows_have_a_base_named_by_digest() -> None:
    for file in WORKFLOWS:
        for name, job in jobs(file).items():
            run = "\n".join(commands(job))
            assert "make image-multiarch" not in run or "$(make base-image)" in run, (file.name, name)


def test_tools_are_installed_by_hash() -> None:
    """All but Go's, which come with checksums of their own."""
    installs = re.findall(r"pip install (.*)", (ROOT / "Makefile").read_text())
    assert len(installs) >= 3
    assert [
        options for options in installs if "--require-hashes" not in options and "--editable ." not in options
    ] == []
