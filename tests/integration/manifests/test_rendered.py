"""What `kubectl kustomize` makes of config/, and whether a real API server takes it."""

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.controlplane import ControlPlane
from e2e.world import OWN_CRDS

CONFIG = OWN_CRDS.parent
FOLDERS = ("default", "agent", "busola", "crd", "grafana", "kyma", "prometheus")
MODULE = ("kyma-project.io/module", "application-connector")

#: Kinds of the Prometheus operator, which the API server of the tests does not have.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}

Object = dict[str, Any]


def rendered(control_plane: ControlPlane, folder: str) -> list[Object]:
    told = subprocess.run(
        [str(control_plane.assets.kubectl), "kustomize", str(CONFIG / folder)],
        capture_output=True,
        text=True,
        check=True,
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
        create = [
            str(control_plane.assets.kubectl),
            "--kubeconfig",
            str(admin_kubeconfig),
            "create",
            "namespace",
            namespace,
        ]
        subprocess.run(create, capture_output=True, check=False)  # it may be there
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", str(file)]
    told = subprocess.run(
        [str(control_plane.assets.kubectl), "--kubeconfig", str(admin_kubeconfig), *apply],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("serverside-applied") == len(objects)


def test_pod_security_admits_the_pods_at_the_level_restricted(
    control_plane: ControlPlane, admin_kubeconfig: Path
) -> None:
    """A namespace that enforces it takes the Pod; and refuses one that may become root, so it does enforce."""
    (deployment,) = [obj for obj in rendered(control_plane, "agent") if obj["kind"] == "Deployment"]
    kubectl = [str(control_plane.assets.kubectl), "--kubeconfig", str(admin_kubeconfig)]
    namespace = f"restricted-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    account = {"namespace": namespace, "name": "compass-runtime-agent"}
    for obj in (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
    ):
        subprocess.run([*kubectl, "create", "-f", "-"], input=json.dumps(obj), text=True, check=True)

    def admit(pod_spec: Object) -> subprocess.CompletedProcess[str]:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "agent", "namespace": namespace},
            # No such class on this API server, where nothing else of the manifests is applied.
            "spec": {key: value for key, value in pod_spec.items() if key != "priorityClassName"},
        }
        create = [*kubectl, "create", "--dry-run=server", "-f", "-"]
        return subprocess.run(create, input=json.dumps(pod), text=True, check=False, capture_output=True)

    spec = deployment["spec"]["template"]["spec"]
    told = admit(spec)
    assert told.returncode == 0, told.stderr
    told = admit({**spec, "securityContext": {}})
    assert told.returncode != 0
    assert "violates PodSecurity" in told.stderr
