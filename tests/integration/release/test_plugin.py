"""The file of the kubectl plugin, started by kubectl, with a Python in which nothing is installed."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controller.runtime.version import VERSION
from e2e.controlplane import find_assets
from e2e.world import CONFIGURATION, World
from informers import Resource
from release import plugin

MODIFIED = 1_700_000_000
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")


@pytest.fixture(scope="module")
def executable() -> bytes:
    return plugin.executable(VERSION, modified=MODIFIED)


@pytest.fixture
def path(executable: bytes, tmp_path: Path) -> str:
    """$PATH with the plugin, its completion, and a python3 without packages."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "kubectl-compass").write_bytes(executable)
    (folder / "kubectl_complete-compass").symlink_to("kubectl-compass")
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    for file in folder.iterdir():
        file.chmod(0o755)
    return os.pathsep.join((str(folder), str(find_assets().kubectl.parent), os.environ["PATH"]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World.local(tmp_path_factory.mktemp("world")) as world:
        world.install_crds()
        yield world


def kubectl(path: str, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", *arguments],
        env={"PATH": path, "HOME": "/nowhere", **environment},
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_plugin_is_smaller_than_two_mib(executable: bytes) -> None:
    assert len(executable) < 2 * 1024 * 1024


def test_kubectl_starts_the_plugin(path: str) -> None:
    done = kubectl(path, "compass", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"kubectl compass {VERSION} ")


def test_kubectl_completes_its_command_line(path: str) -> None:
    assert kubectl(path, "__complete", "compass", "status", "--out").stdout.splitlines() == ["--output", ":4"]


def test_the_plugin_reads_and_writes_a_cluster(world: World, path: str) -> None:
    environment = {"KUBECONFIG": str(world.kubeconfig)}
    done = kubectl(path, "compass", "doctor", **environment)
    assert (done.returncode, "there is no Deployment compass-runtime-agent" in done.stdout) == (1, True), done.stderr

    container = {"name": "compass-runtime-agent", "image": "agent"}
    labels = {"app": "agent"}
    world.client.create(
        DEPLOYMENTS,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "compass-runtime-agent", "namespace": "kyma-system"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        namespace="kyma-system",
    )
    values = world.configuration(token="")
    options = [f"--{name.lower().replace('_', '-')}={value}" for name, value in values.items() if value]
    done = kubectl(path, "compass", "pair", "--token-stdin", "--timeout=1s", *options, given="a-token", **environment)
    assert "stored the one-time token" in done.stderr, done.stderr
    assert (world.secret(CONFIGURATION) or {})["TOKEN"] == "a-token"


def test_the_krew_manifest_has_the_fields_of_its_format(executable: bytes) -> None:
    """It has the fields of https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/, and no others."""
    archived = plugin.archive(executable, modified=MODIFIED)
    url = "https://example.com/kubectl-compass.tar.gz"
    manifest = yaml.safe_load(plugin.krew_manifest(archived, version="1.2.3", home="https://example.com", url=url))
    assert (manifest["apiVersion"], manifest["kind"]) == ("krew.googlecontainertools.github.com/v1alpha2", "Plugin")
    assert manifest["metadata"] == {"name": "compass"}
    spec = manifest["spec"]
    assert spec["version"] == "v1.2.3"
    assert spec.keys() == {"version", "homepage", "shortDescription", "description", "caveats", "platforms"}
    assert len(spec["shortDescription"]) <= 50
    (platform,) = spec["platforms"]
    assert platform.keys() == {"selector", "uri", "sha256", "bin", "files"}
    assert platform["uri"] == url
    assert platform["sha256"] == hashlib.sha256(archived).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(archived)) as tar:
        assert {file["from"] for file in platform["files"]} == set(tar.getnames())
        assert tar.getmember(platform["bin"]).mode & 0o111
