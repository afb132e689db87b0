"""The wheel has the kubectl plugin, and kubectl completes its command line."""

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from e2e.controlplane import find_assets
from release.manifests import ROOT


def test_the_wheel_has_the_plugin_and_its_commands(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entries,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(entries).decode())
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "kubectl_compass").rglob("*.py")} <= names
    assert dict(scripts["console_scripts"]) == {
        "compass-runtime-agent": "controller.__main__:main",
        "kubectl-compass": "kubectl_compass.__main__:main",
        "kubectl_complete-compass": "kubectl_compass.completion:main",
    }


@pytest.mark.parametrize(
    ("words", "candidates"),
    [(["res"], ["resync"]), (["status", "--out"], ["--output"]), (["status", "-o", "y"], ["yaml"])],
)
def test_kubectl_completes_its_commands_and_options(words: list[str], candidates: list[str], tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(
        [str(find_assets().kubectl), "__complete", "compass", *words],
        env={"PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines() == [*candidates, ":4"]
