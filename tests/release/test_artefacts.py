"""install.yaml and the Helm chart: the same objects as kustomize renders, and a real API server takes them."""

import json
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.settings import Settings, variables
from e2e.controlplane import ControlPlane
from e2e.scenarios.documents import commands
from release.manifests import ROOT, objects, render
from release.tools import find_helm

#: The first test on a machine may have to build helm.
pytestmark = pytest.mark.timeout(900)

IMAGE = "registry.example.com/agent"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
KUBERNETES = "1.36.3"

Object = dict[str, Any]
Template = Callable[..., list[Object]]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make release` puts into dist/ of manifests."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "release", "--image", IMAGE, "--output", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def chart(dist: Path) -> Path:
    (archive,) = dist.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(dist, filter="data")
    return dist / "compass-runtime-agent"


def helm(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(find_helm()), *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def template(chart: Path) -> Template:
    """Renders the chart as it would be installed, CRDs included."""

    def run(*arguments: str, namespace: str = "kyma-system") -> list[Object]:
        done = helm(
            *("template", "agent", chart, "--namespace", namespace),
            *("--include-crds", "--kube-version", KUBERNETES, *arguments),
        )
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))

    return run


def by_name(objects: list[Object]) -> dict[tuple[str, str, str], Object]:
    named = {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}
    assert len(named) == len(objects)
    return named


def environment(deployment: Object) -> dict[str, str]:
    """The variables with a value of their own."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


def the_deployment(objects: list[Object]) -> Object:
    (deployment,) = [obj for obj in objects if obj["kind"] == "Deployment"]
    return deployment


def test_the_chart_renders_what_kustomize_renders(control_plane: ControlPlane, template: Template) -> None:
    """With its defaults, in kyma-system. Only the order of the variables and of the objects differs."""
    expected = by_name(objects(render(control_plane.assets.kubectl, image=f"{IMAGE}:{VERSION}")))
    del expected["Namespace", "", "kyma-system"]  # helm install --create-namespace makes it
    found = by_name(template())
    assert found.keys() == expected.keys()

    key = ("Deployment", "kyma-system", "compass-runtime-agent")
    ours, theirs = environment(found[key]), environment(expected[key])
    assert ours.items() >= theirs.items()
    defaults = {variable.name: variable.default for variable in variables()}
    assert {name: value for name, value in ours.items() if name not in theirs} == {
        name: defaults[name] for name in ours.keys() - theirs.keys()
    }
    for side in (found, expected):
        (container,) = side[key]["spec"]["template"]["spec"]["containers"]
        container["env"] = [variable for variable in container["env"] if "value" not in variable]
    annotations = found["Namespace", "", "istio-system"]["metadata"].pop("annotations")
    assert annotations == {"helm.sh/resource-policy": "keep"}
    assert found == expected


def test_helm_finds_no_fault_with_the_chart(chart: Path) -> None:
    done = helm("lint", chart, "--strict")
    assert done.returncode == 0, done.stdout


def test_values_reach_the_deployment(template: Template) -> None:
    deployment = the_deployment(
        template(
            *("--set", "image.repository=registry.local/agent", "--set", "image.tag=9.9.9", "--set", "replicas=1"),
            *("--set", "env.APP_LOG_LEVEL=debug", "--set", "env.APP_HEALTH_PORT=9000"),
            *("--set", "env.APP_MAX_DELETION_PERCENT=null", "--set", "resources.limits.memory=2Gi"),
        )
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.local/agent:9.9.9"
    assert deployment["spec"]["replicas"] == 1
    assert container["resources"]["limits"] == {"memory": "2Gi"}
    env = environment(deployment)
    assert (env["APP_LOG_LEVEL"], env["APP_HEALTH_PORT"]) == ("debug", "9000")
    assert "APP_MAX_DELETION_PERCENT" not in env


def pod(objects: list[Object]) -> Object:
    spec: Object = the_deployment(objects)["spec"]["template"]["spec"]
    return spec


def test_a_private_ca_is_mounted_and_used(template: Template) -> None:
    """The ConfigMap is mounted, and its certificates are the file that the agent reads."""
    rendered = template("--set", "compassCA.configMap=our-ca")
    (container,) = pod(rendered)["containers"]
    (mount,) = container["volumeMounts"]
    assert pod(rendered)["volumes"] == [{"name": mount["name"], "configMap": {"name": "our-ca"}}]
    assert environment(the_deployment(rendered))["APP_COMPASS_CA_FILE"] == f"{mount['mountPath']}/ca.crt"
    assert "APP_COMPASS_CA_FILE" not in environment(the_deployment(template()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("imagePullSecrets", [{"name": "registry"}]),
        ("nodeSelector", {"kubernetes.io/arch": "arm64"}),
        ("tolerations", [{"key": "dedicated", "operator": "Exists"}]),
        ("affinity", {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
    ],
)
def test_values_that_are_fields_of_the_pod(template: Template, field: str, value: object) -> None:
    assert pod(template("--set-json", f"{field}={json.dumps(value)}"))[field] == value
    assert field not in pod(template())


def test_annotations_of_the_pod_are_added_changed_or_removed(template: Template) -> None:
    """Added, changed and taken away."""
    changes = {"sidecar.istio.io/inject": "false", "prometheus.io/scrape": None, "team": "night"}
    rendered = the_deployment(template("--set-json", f"podAnnotations={json.dumps(changes)}"))
    found = rendered["spec"]["template"]["metadata"]["annotations"]
    assert (found["sidecar.istio.io/inject"], found["team"]) == ("false", "night")
    assert "prometheus.io/scrape" not in found
    assert found["prometheus.io/port"] == "8080"


@pytest.mark.parametrize("create", [True, False])
def test_another_service_account_is_bound_to_all_roles(template: Template, create: bool) -> None:
    """All roles are bound to it; an existing one is not created."""
    rendered = template("--set", f"serviceAccount.create={json.dumps(create)}", "--set", "serviceAccount.name=robot")
    accounts = [obj["metadata"]["name"] for obj in rendered if obj["kind"] == "ServiceAccount"]
    assert accounts == (["robot"] if create else [])
    assert pod(rendered)["serviceAccountName"] == "robot"
    subjects = [subject for obj in rendered for subject in obj.get("subjects", ())]
    assert subjects
    assert {subject["name"] for subject in subjects} == {"robot"}


def test_a_service_monitor_comes_with_service_and_policy(template: Template) -> None:
    """Off by default, because its CRDs are not everywhere. Labels can be those that a Prometheus selects by."""
    rendered = template("--set", "serviceMonitor.enabled=true", "--set", "serviceMonitor.labels.release=stack")
    added = by_name(rendered).keys() - by_name(template()).keys()
    assert {(kind, name) for kind, _, name in added} == {
        ("Service", "compass-runtime-agent-metrics"),
        ("ServiceMonitor", "compass-runtime-agent"),
        ("NetworkPolicy", "compass-runtime-agent-prometheus"),
    }
    monitor = by_name(rendered)["ServiceMonitor", "kyma-system", "compass-runtime-agent"]
    assert monitor["metadata"]["labels"]["release"] == "stack"
    (service,) = [obj for obj in rendered if obj["kind"] == "Service"]
    assert service["metadata"]["labels"].items() >= monitor["spec"]["selector"]["matchLabels"].items()


def test_the_network_policy_lets_in_what_the_values_name(template: Template) -> None:
    """More Pods may read the metrics, and no port is open for everybody beyond the probes'; or there is no policy."""
    others = [{"podSelector": {"matchLabels": {"app": "scraper"}}}]
    key = ("NetworkPolicy", "kyma-system", "compass-runtime-agent")
    before = by_name(template())[key]["spec"]["ingress"]
    after = by_name(template("--set-json", f"networkPolicy.metricsFrom={json.dumps(others)}"))[key]["spec"]["ingress"]
    assert [rule.get("from", []) for rule in after] == [
        [*rule["from"], *others] if "from" in rule else [] for rule in before
    ]
    assert key not in by_name(template("--set", "networkPolicy.enabled=false"))


def test_each_value_is_in_the_schema(chart: Path) -> None:
    values = yaml.safe_load((chart / "values.yaml").read_text())
    schema = json.loads((chart / "values.schema.json").read_text())
    assert schema["properties"].keys() - {"global"} == values.keys()
    for name, value in values.items():
        part = schema["properties"][name]
        if not part.get("additionalProperties", True) and isinstance(value, dict):
            assert part["properties"].keys() == value.keys(), name


@pytest.mark.parametrize(
    ("namespace", "arguments"), [("elsewhere", ()), ("kyma-system", ("--set", "namespace=elsewhere"))]
)
def test_the_agent_moves_to_another_namespace(template: Template, namespace: str, arguments: tuple[str, ...]) -> None:
    """All of it: its objects, subjects of bindings, Secrets, Lease. What belongs to Istio and Kyma stays."""
    moved = template(*arguments, namespace=namespace)
    assert {o["metadata"].get("namespace") for o in moved} == {None, "elsewhere", "istio-system", "default"}
    for obj in moved:
        for subject in obj.get("subjects", ()):
            assert subject["namespace"] == "elsewhere"
    settings = Settings.from_environment(environment(the_deployment(moved)))
    assert settings.cluster_certificates_secret.namespace == "elsewhere"
    assert settings.integration_namespace == settings.leader_election_namespace == "elsewhere"
    left = {name for name, value in settings.describe().items() if "kyma-system" in value}
    assert left == {"APP_CENTRAL_GATEWAY_SERVICE_URL"}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("--set", "env.APP_LOG_LEVLE=debug"), "APP_LOG_LEVLE"),
        (("--set", "replica=1"), "replica"),
        (("--set", "replicas=two"), "replicas"),
        (("--set", "image.repository="), "repository"),
        (("--set", "compassCA.configmap=x"), "configmap"),
        (("--set", "serviceMonitor.enabled=maybe"), "enabled"),
        (("--set", "imagePullSecrets[0].secret=x"), "secret"),
    ],
)
def test_a_wrong_value_is_named(chart: Path, arguments: tuple[str, ...], name: str) -> None:
    answer = helm("template", "agent", chart, "--kube-version", KUBERNETES, *arguments)
    assert answer.returncode != 0
    assert name in answer.stderr


def test_install_yaml_is_what_kustomize_renders(control_plane: ControlPlane, dist: Path) -> None:
    """With the image of the release, and a label with its version."""
    found = list(yaml.safe_load_all((dist / "install.yaml").read_text()))
    labels = {"app.kubernetes.io/version": VERSION}
    assert found == objects(render(control_plane.assets.kubectl, image=f"{IMAGE}:{VERSION}", labels=labels))
    (container,) = pod(found)["containers"]
    assert container["image"] == f"{IMAGE}:{VERSION}"


def test_a_version_that_is_not_the_projects_is_refused(tmp_path: Path) -> None:
    """A tag that does not agree with pyproject.toml makes no release."""
    command = [sys.executable, "-m", "release", "--version", "7.7.7", "--image", IMAGE, "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "7.7.7" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_release_has_the_manifests_for_kyma(dist: Path) -> None:
    """With the image of the release in the policy; a user needs no clone of the repository."""
    found = by_name(list(yaml.safe_load_all((dist / "kyma.yaml").read_text())))
    policy = found["MutatingAdmissionPolicy", "", "compass-runtime-agent"]
    assert {"name": "image", "expression": f'"{IMAGE}:{VERSION}"'} in policy["spec"]["variables"]
    assert ("NetworkPolicy", "kyma-system", "compass-runtime-agent-metrics") in found
    assert (dist / "private-ca.yaml").read_text() == (ROOT / "config/private-ca/patch.yaml").read_text()


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        command = [sys.executable, "-m", "release", "--image", IMAGE, "--output", str(tmp_path / name)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={"SOURCE_DATE_EPOCH": "1700000000"})
        found.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert found[0] == found[1]


def test_the_documented_upgrade_and_uninstallation(dist: Path, tmp_path: Path) -> None:
    """Of install.yaml and of the chart, on a real API server. What others may need stays: CRDs and namespaces."""
    helm_ = find_helm()
    crds = "compassconnections.compass.kyma-project.io applications.applicationconnector.kyma-project.io"
    kept = f"kubectl get crd {crds} && kubectl get namespace kyma-system istio-system"
    with ControlPlane() as control_plane:
        kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig")
        path = os.pathsep.join((str(control_plane.assets.kubectl.parent), str(helm_.parent), os.environ["PATH"]))
        environment = {**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig)}

        def shell(command: str) -> str:
            done = subprocess.run(
                ["bash", "-c", command], cwd=dist, env=environment, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        def left() -> list[str]:
            return shell("kubectl get deployments,networkpolicies,pdb --all-namespaces --output name").split()

        shell("kubectl apply --server-side -f install.yaml")
        assert "deployment.apps/compass-runtime-agent" in left()
        for command in commands("upgrade.md", "With install.yaml or the chart"):
            shell(command)
        assert left() == []
        shell(kept)

    with ControlPlane() as control_plane:
        kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig")
        archive = f"compass-runtime-agent-chart-{VERSION}.tgz"
        shell(f"helm install compass-runtime-agent {archive} --namespace kyma-system --create-namespace")
        for command in commands("upgrade.md", "From one version to the next"):
            if "config/" not in command:
                shell(command.replace("compass-runtime-agent-chart-0.1.0.tgz", archive))
        assert "deployment.apps/compass-runtime-agent" in left()
        shell("helm uninstall compass-runtime-agent --namespace kyma-system")
        assert left() == []
        shell(kept)
