"""`python -m e2e.controlplane`, as a person and a Makefile use it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import pytest

from e2e.controlplane import ControlPlane, find_assets

WAIT_SECONDS = 20.0
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {kind: Gadget, listKind: GadgetList, plural: gadgets, singular: gadget}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
"""

Up = Callable[..., subprocess.Popen[str]]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "e2e.controlplane", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def up() -> Iterator[Up]:
    """Starts `up` with these arguments; what still runs at the end of the test is terminated."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "e2e.controlplane", "up", *map(str, arguments)]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as what a script starts in the background has it
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        finally:
            signal.signal(signal.SIGINT, before)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.terminate()
        process.communicate(timeout=WAIT_SECONDS)


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    for line in cast(IO[str], process.stdout):
        if line.startswith("kubectl is "):
            return
    pytest.fail(f"up ended: {process.communicate()[1]}")


def test_assets_prints_the_folder_last() -> None:
    """The last line of standard output is the folder, for `$(... | tail -1)`."""
    ended = run("assets")
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == str(find_assets().directory)


def test_up_serves_until_interrupted(up: Up, tmp_path: Path) -> None:
    """kubectl works with the kubeconfig that was asked for; Ctrl-C ends all with exit code 0."""
    kubeconfig = tmp_path / "kubeconfig"
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds" / "gadgets.yaml").write_text(CRD)
    process = up("--kubeconfig", kubeconfig, "--crds", tmp_path / "crds")
    wait_until_ready(process)
    kubectl = [str(find_assets().kubectl), f"--kubeconfig={kubeconfig}", "get", "crds", "-o", "name"]
    listed = subprocess.run(kubectl, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert listed.stdout == "customresourcedefinition.apiextensions.k8s.io/gadgets.example.com\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_SECONDS) == 0
    assert not kubeconfig.exists()


@pytest.mark.slow
def test_up_replaces_the_kubeconfig_of_an_earlier_run(up: Up, tmp_path: Path) -> None:
    """What a killed run left behind is in nobody's way; SIGTERM ends like Ctrl-C."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(f"{ControlPlane.KUBECONFIG_HEADER}\nold")
    process = up("--kubeconfig", kubeconfig)
    wait_until_ready(process)
    assert "old" not in kubeconfig.read_text()
    process.terminate()
    assert process.wait(WAIT_SECONDS) == 0
    assert not kubeconfig.exists()


@pytest.mark.parametrize(
    ("crd", "expected"),
    [pytest.param("kind: [", "crd.yaml", id="broken"), pytest.param(None, "No such file", id="missing")],
)
def test_up_says_what_is_wrong_with_a_crd(tmp_path: Path, crd: str | None, expected: str) -> None:
    """Exit code 1, a text that names the file, no traceback, no kubeconfig."""
    file = tmp_path / "crd.yaml"
    if crd is not None:
        file.write_text(crd)
    ended = run("up", "--kubeconfig", tmp_path / "kubeconfig", "--crds", file)
    assert ended.returncode == 1
    assert "error: " in ended.stderr
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "kubeconfig").exists()


def test_up_never_writes_over_a_persons_kubeconfig(tmp_path: Path) -> None:
    """A file that is not of a control plane is refused and stays as it is."""
    mine = tmp_path / "config"
    mine.write_text("apiVersion: v1\nkind: Config\n")
    ended = run("up", "--kubeconfig", mine)
    assert ended.returncode == 1
    assert f"{mine} exists" in ended.stderr
    assert mine.read_text() == "apiVersion: v1\nkind: Config\n"


def test_up_needs_a_kubeconfig_that_can_be_written(tmp_path: Path) -> None:
    """A folder in the place of the file is named in the error."""
    ended = run("up", "--kubeconfig", tmp_path)
    assert ended.returncode == 1
    assert f"error: --kubeconfig: {tmp_path}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["assets", "--help"], ["up", "--help"]])
def test_every_command_has_help(arguments: list[str]) -> None:
    """--help explains and ends with 0."""
    ended = run(*arguments)
    assert ended.returncode == 0
    assert "usage: python -m e2e.controlplane" in ended.stdout


@pytest.mark.parametrize("arguments", [[], ["down"], ["up"]])
def test_a_wrong_command_line_is_explained(arguments: list[str]) -> None:
    """Exit code 2 and the usage."""
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "usage: " in ended.stderr
