"""config/kyma makes this agent run where Kyma's operator applies the Deployment of the Go agent.

No Deployment controller runs here: the tests look at what is stored, and how often it changes.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane import ControlPlane
from e2e.kyma.operator import DEPLOYMENT, NAME, KymaOperator, read_manifests
from e2e.scenarios.documents import block, commands
from e2e.world import NAMESPACES, OWN_CRDS
from informers import Client

Object = dict[str, Any]

CONFIG = OWN_CRDS.parent
PERMISSIONS = Path(__file__).parent / "operator_permissions.yaml"
PERIOD = 0.2
_APPLIED = ("kyma", "agent")
IN_GO = "compass-runtime-agent-in-go:1.2.0"
OURS = "compass-runtime-agent:dev"


@dataclass(frozen=True)
class Agent:
    """What tells the agents apart in a Deployment."""

    image: str
    verifies: bool
    readiness: str


AGENT_IN_GO = Agent(IN_GO, verifies=False, readiness="/healthz")
THIS_AGENT = Agent(OURS, verifies=True, readiness="/readyz")


class Kyma:
    """A cluster of Kyma, and its operator with the permissions that it has there."""

    def __init__(self, control_plane: ControlPlane, directory: Path) -> None:
        self.directory = directory
        self._kubeconfig = control_plane.write_kubeconfig(directory / "admin.kubeconfig")
        self._kubectl = control_plane.assets.kubectl
        self.client = Client.load(str(self._kubeconfig))
        operator = control_plane.write_kubeconfig(
            directory / "operator.kubeconfig", user="application-connector-manager", groups=()
        )
        self._operator_client = Client.load(str(operator))
        self.kubectl("apply", "-f", str(PERMISSIONS))
        for folder in _APPLIED:
            (directory / f"{folder}.yaml").write_text(self.kubectl("kustomize", str(CONFIG / folder)))

    def clean_up(self) -> None:
        files = [f"--filename={self.directory / folder}.yaml" for folder in _APPLIED]
        self.kubectl("delete", "--ignore-not-found", "--wait=false", *files)
        self.operator().remove()

    def close(self) -> None:
        self.client.close()
        self._operator_client.close()

    def kubectl(self, *arguments: str) -> str:
        command = [str(self._kubectl), "--kubeconfig", str(self._kubeconfig), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def operator(self) -> KymaOperator:
        return KymaOperator(self._operator_client, period=PERIOD)

    def shell(self, command: str) -> None:
        """Run what a page says."""
        path = f"{self._kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "KUBECONFIG": str(self._kubeconfig)}
        subprocess.run(["bash", "-c", command], check=True, capture_output=True, env=environment, timeout=60)

    def deployment(self) -> Object:
        return self.client.get(DEPLOYMENT, NAME, namespace="kyma-system")

    def agent(self) -> Agent:
        container = _container(self.deployment()["spec"]["template"])
        environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
        return Agent(
            image=container["image"],
            verifies=environment.get("APP_SKIP_COMPASS_TLS_VERIFY", "false") == "false",
            readiness=container["readinessProbe"]["httpGet"]["path"],
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kyma]:
    with ControlPlane() as control_plane:
        for namespace in NAMESPACES:
            control_plane.create_namespace(namespace)
        cluster = Kyma(control_plane, tmp_path_factory.mktemp("kyma"))
        yield cluster
        cluster.close()


@pytest.fixture
def kyma(cluster: Kyma) -> Iterator[Kyma]:
    """The cluster with nothing in it that another test has brought, but CRDs: each operator resets those.

    The API server once needed more than two minutes to delete one.
    """
    yield cluster
    cluster.clean_up()


def test_the_policy_makes_this_agent_run(kyma: Kyma) -> None:
    """With all that config/manager gives it. No apply of the operator changes the Deployment, which would replace Pods.
    Nothing of it is left after the commands that lead back.
    """
    (ours,) = read_manifests(CONFIG / "manager/deployment.yaml")
    wanted = ours["spec"]["template"]
    (pod_uid,) = [variable for variable in _container(wanted)["env"] if variable["name"] == "APP_POD_UID"]
    with kyma.operator() as operator:
        operator.wait_until_applied()
        before = kyma.deployment()["spec"]["template"]
        kyma.kubectl("apply", "-k", str(CONFIG / "kyma"))
        _wait_for(kyma, operator, THIS_AGENT)
        generation = kyma.deployment()["metadata"]["generation"]
        operator.wait_until_applied(5)
        assert kyma.agent() == THIS_AGENT
        assert kyma.deployment()["metadata"]["generation"] == generation

        after = kyma.deployment()["spec"]["template"]
        assert after["metadata"]["annotations"].items() >= wanted["metadata"]["annotations"].items()
        for key in ("enableServiceLinks", "terminationGracePeriodSeconds"):
            assert after["spec"][key] == wanted["spec"][key]
        for probe in ("livenessProbe", "readinessProbe"):
            for key in ("initialDelaySeconds", "periodSeconds", "timeoutSeconds"):
                assert _container(after)[probe][key] == _container(wanted)[probe][key], (probe, key)
        assert "http-metrics" in [port["name"] for port in _container(after)["ports"]]
        found = [variable for variable in _container(after)["env"] if variable["name"] == "APP_POD_UID"]
        assert [variable["valueFrom"]["fieldRef"]["fieldPath"] for variable in found] == [
            pod_uid["valueFrom"]["fieldRef"]["fieldPath"]
        ]

        kyma.kubectl("-n", "kyma-system", "set", "image", f"deployment/{NAME}", f"{NAME}={IN_GO}")
        assert kyma.agent() == THIS_AGENT

        kyma.kubectl("delete", "-k", str(CONFIG / "kyma"))
        _wait_for(kyma, operator, AGENT_IN_GO)
        removal = str(CONFIG / "kyma/removal.yaml")
        kyma.kubectl("-n", "kyma-system", "patch", "deployment", NAME, "--patch-file", removal)
        operator.wait_until_applied()
        assert kyma.deployment()["spec"]["template"] == before


def test_there_and_back_while_the_operator_writes_nothing(kyma: Kyma) -> None:
    """As while the module is processing. The commands of docs/upgrade.md write the Deployment themselves."""
    kyma.operator().apply()
    before = kyma.deployment()["spec"]["template"]
    kyma.kubectl("apply", "-k", str(CONFIG / "kyma"))
    for command in commands("upgrade.md", "With Kyma's operator"):
        if command.startswith("until "):
            kyma.shell(command)
    assert kyma.agent() == THIS_AGENT

    kyma.kubectl("delete", "-f", str(CONFIG / "kyma/policy.yaml"))
    back = block(
        "upgrade.md", "kubectl --namespace kyma-system patch deployment compass-runtime-agent --patch '{\"spec"
    )
    for _ in range(50):  # the policy is in force for some moments
        kyma.shell(back.replace("europe-docker.pkg.dev/kyma-project/prod/compass-runtime-agent:1.2.0", IN_GO))
        if kyma.agent() == AGENT_IN_GO:
            break
    kyma.kubectl("patch", "deployment", NAME, "-n", "kyma-system", "--patch-file", str(CONFIG / "kyma/removal.yaml"))
    kyma.operator().apply()
    assert kyma.deployment()["spec"]["template"] == before


def _container(template: Object) -> Object:
    (container,) = template["spec"]["containers"]
    return dict(container)


def _wait_for(kyma: Kyma, operator: KymaOperator, wanted: Agent) -> None:
    """A policy is in force some moments after its creation."""
    for _ in range(50):
        operator.wait_until_applied()
        if kyma.agent() == wanted:
            return
    raise AssertionError(f"{kyma.agent()} instead of {wanted}")
