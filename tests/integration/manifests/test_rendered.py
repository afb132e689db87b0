"""What `kubectl kustomize` makes of config/, and whether a real API server takes it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.controlplane import ControlPlane
from e2e.world import OWN_CRDS

CONFIG = OWN_CRDS.parent
FOLDERS = ("default", "agent", "crd", "grafana", "kyma", "prometheus")
MODULE = ("kyma-project.io/module", "application-connector")

#: Kinds of the Prometheus operator, which the API server of the tests does not have.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}

Object = dict[str, Any]


def rendered(control_plane: ControlPlane, folder: str) -> list[Object]:
    told = subprocess.run(
        [control_plane.assets.kubectl, "kustomize", CONFIG / folder], capture_output=True, text=True, check=True
    )
    return list(yaml.safe_load_all(told.stdout))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_tells_its_module(control_plane: ControlPlane, folder: str) -> None:
    """By Kyma's label, the Pods too. The namespaces belong to others."""
    objects = [obj for obj in rendered(control_plane, folder) if obj["kind"] != "Namespace"]
    assert objects
    for obj in objects:
        assert MODULE in obj["metadata"].get("labels", {}).items(), (obj["kind"], obj["metadata"]["name"])
        if obj["kind"] == "Deployment":
            assert MODULE in obj["spec"]["template"]["metadata"]["labels"].items()
            assert MODULE not in obj["spec"]["selector"]["matchLabels"].items()  # a selector is never changed


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_api_server_takes_it(
    control_plane: ControlPlane, admin_kubeconfig: Path, folder: str, tmp_path: Path
) -> None:
    """A server-side dry run with strict validation of fields."""
    objects = [obj for obj in rendered(control_plane, folder) if obj["kind"] not in FOREIGN]
    for namespace in {obj["metadata"]["namespace"] for obj in objects if "namespace" in obj["metadata"]}:
        create = [control_plane.assets.kubectl, "--kubeconfig", admin_kubeconfig, "create", "namespace", namespace]
        subprocess.run(create, capture_output=True, check=False)  # it may be there
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", file]
    told = subprocess.run(
        [control_plane.assets.kubectl, "--kubeconfig", admin_kubeconfig, *apply],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("serverside-applied") == len(objects)
