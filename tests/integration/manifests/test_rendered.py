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
FOLDERS = ("default", "agent", "busola", "crd", "grafana", "kyma", "plugin", "prometheus")
MODULE = ("kyma-project.io/module", "application-connector")

#: Kinds of the Prometheus operator, which the API server of the tests does not have.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}

Object = dict[str, Any]


class Kubectl:
    """Of an administrator of the control plane."""

    def __init__(self, control_plane: ControlPlane, kubeconfig: Path) -> None:
        self._command = [str(control_plane.assets.kubectl), "--kubeconfig", str(kubeconfig)]

    def __call__(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [*self._command, *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False)

    def rendered(self, folder: str) -> list[Object]:
        return list(yaml.safe_load_all(self("kustomize", str(CONFIG / folder)).stdout))


@pytest.fixture
def kubectl(control_plane: ControlPlane, admin_kubeconfig: Path) -> Kubectl:
    return Kubectl(control_plane, admin_kubeconfig)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_api_server_takes_what_is_rendered(kubectl: Kubectl, folder: str) -> None:
    """A server-side dry run with strict validation of fields. Each object has the label of its module."""
    rendered = kubectl.rendered(folder)
    _check_labels([obj for obj in rendered if obj["kind"] != "Namespace"])  # which belong to others
    objects = [obj for obj in rendered if obj["kind"] not in FOREIGN]
    namespaces = sorted({obj["metadata"]["namespace"] for obj in objects if "namespace" in obj["metadata"]})
    if namespaces:
        kubectl("create", "-f", "-", given=yaml.safe_dump_all(map(_namespace, namespaces)))  # they may be there
    apply = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", "-")
    done = kubectl(*apply, given=yaml.safe_dump_all(objects))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("serverside-applied") == len(objects)


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _check_labels(objects: list[Object]) -> None:
    """Kyma's label of the module, on Pods too."""
    assert objects
    for obj in objects:
        assert MODULE in obj["metadata"].get("labels", {}).items(), (obj["kind"], obj["metadata"]["name"])
        if obj["kind"] == "Deployment":
            assert MODULE in obj["spec"]["template"]["metadata"]["labels"].items()
            assert MODULE not in obj["spec"]["selector"]["matchLabels"].items()  # a selector is never changed


def test_pod_security_admits_the_pods_at_the_level_restricted(kubectl: Kubectl) -> None:
    """A namespace that enforces it takes the Pod; and refuses one that may become root, so it does enforce."""
    (deployment,) = [obj for obj in kubectl.rendered("agent") if obj["kind"] == "Deployment"]
    namespace = f"restricted-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", namespace)
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("--namespace", namespace, "create", "serviceaccount", "compass-runtime-agent")

    def admit(pod_spec: Object) -> subprocess.CompletedProcess[str]:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "agent", "namespace": namespace},
            # No such class on this API server, where nothing else of the manifests is applied.
            "spec": {key: value for key, value in pod_spec.items() if key != "priorityClassName"},
        }
        return kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(pod))

    spec = deployment["spec"]["template"]["spec"]
    done = admit(spec)
    assert done.returncode == 0, done.stderr
    done = admit({**spec, "securityContext": {}})
    assert done.returncode != 0
    assert "violates PodSecurity" in done.stderr
