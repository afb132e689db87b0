"""What others rely on in config/: names that Kyma's operator patches, and permissions that stay narrow."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cluster_metrics import NODE_METRICS, NODES, PERSISTENT_VOLUMES
from controller.settings import Settings, variables
from e2e.kyma.operator import go_agent_manifests
from tests.support.crd_page import PAGE, render

CONFIG = Path(__file__).parents[3] / "config"
ROLES = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
Object = dict[str, Any]


def manifests(*folders: str) -> list[Object]:
    files = [file for folder in folders for file in sorted((CONFIG / folder).glob("*.yaml"))]
    found = [obj for file in files for obj in yaml.safe_load_all(file.read_text())]
    return [obj for obj in found if obj["kind"] not in ("Kustomization", "Component")]


def one(kind: str, *folders: str) -> Object:
    (found,) = [obj for obj in manifests(*folders) if obj["kind"] == kind]
    return found


DEPLOYMENT = one("Deployment", "manager")
POD = DEPLOYMENT["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
ENVIRONMENT = {variable["name"]: variable.get("value", "") for variable in CONTAINER["env"]}
DEFAULTS = Settings.from_environment({})


def test_the_operator_finds_what_it_patches() -> None:
    """Deployment, container and variables have the names, and the container the place, of the Go agent."""
    metadata = DEPLOYMENT["metadata"]
    assert (metadata["namespace"], metadata["name"]) == ("kyma-system", "compass-runtime-agent")
    labels = {"app": "compass-runtime-agent", "release": "compass-runtime-agent"}
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == POD["metadata"]["labels"] == labels
    assert CONTAINER["name"] == "compass-runtime-agent"
    assert {"APP_RUNTIME_EVENTS_URL", "APP_RUNTIME_CONSOLE_URL"} <= ENVIRONMENT.keys()


def test_the_settings_that_are_deployed_can_be_used() -> None:
    """Every variable is one that the agent reads, with a value it takes. No Service adds one, such as app-metrics.

    Applications are protected from accidental deletion; the program alone has no limit, as the Go agent.
    """
    assert ENVIRONMENT.keys() <= {variable.name for variable in variables()}
    assert Settings.from_environment(ENVIRONMENT).max_deletion_percent == 50
    assert DEFAULTS.max_deletion_percent is None
    assert POD["spec"]["enableServiceLinks"] is False


def test_the_root_file_system_is_read_only() -> None:
    """All else is what Pod Security demands at the level restricted, which a test asks a real API server."""
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True


def test_probes_and_policy_know_the_ports() -> None:
    """Ports have the defaults of the settings, and the network policy lets those in and no other."""
    ports = {port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {DEFAULTS.health_port, DEFAULTS.metrics_port}
    policy = one("NetworkPolicy", "manager")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports
    assert (
        POD["metadata"]["annotations"].items()
        >= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(DEFAULTS.metrics_port),
            "prometheus.io/path": "/metrics",
        }.items()
    )


@pytest.mark.parametrize("folder", ["manager", "prometheus"])
def test_metrics_are_for_those_that_scrape(folder: str) -> None:
    """No rule lets everybody to the port of the metrics; each source is Pods with a label."""
    ingress = one("NetworkPolicy", folder)["spec"]["ingress"]
    rules = [rule for rule in ingress if DEFAULTS.metrics_port in [port["port"] for port in rule["ports"]]]
    assert rules
    for rule in rules:
        assert rule["from"]
        assert all(source["podSelector"]["matchLabels"] for source in rule["from"])


def test_no_rule_has_a_wildcard() -> None:
    roles = [obj for obj in manifests("rbac", "plugin") if obj["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_secrets_are_never_readable_in_the_whole_cluster() -> None:
    """The ClusterRole has custom resources and what the line with cluster metrics needs, and nothing else."""
    (role,) = [obj for obj in manifests("rbac") if obj["kind"] == "ClusterRole"]
    others = {NODES.plural, PERSISTENT_VOLUMES.plural, NODE_METRICS.plural}
    custom = {"compassconnections", "compassconnections/status", "applications"}
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == others | custom


def test_users_of_the_plugin_read_no_secret() -> None:
    rules = [rule for obj in manifests("plugin") for rule in obj.get("rules", ()) if "secrets" in rule["resources"]]
    assert sorted(verb for rule in rules for verb in rule["verbs"]) == ["create", "patch"]
    assert [rule["resourceNames"] for rule in rules if "patch" in rule["verbs"]] == [["compass-agent-configuration"]]


def test_the_dashboard_is_found_by_the_sidecar() -> None:
    kustomization = yaml.safe_load((CONFIG / "grafana/kustomization.yaml").read_text())
    assert kustomization["generatorOptions"]["labels"] == {"grafana_dashboard": "1"}
    (generator,) = kustomization["configMapGenerator"]
    assert all((CONFIG / "grafana" / file).is_file() for file in generator["files"])


def test_the_page_on_the_crd_is_current() -> None:
    assert PAGE.read_text() == render(), "run: python -m tests.support.crd_page"


# --- in a cluster with Kyma's operator ---


def test_no_role_has_a_name_that_the_operator_resets() -> None:
    """Roles and bindings of config/rbac exist beside those of the Go agent."""
    own = {_identity(obj) for obj in manifests("rbac") if obj["kind"] in ROLES}
    operators = {_identity(obj) for obj in go_agent_manifests()}
    assert own
    assert not own & operators


def test_the_policy_for_kyma_has_the_metrics_rule_of_the_other() -> None:
    """The operator's policy lets in the probes only. Ours has the rule of config/manager, for the same Pods."""
    own, elsewhere = one("NetworkPolicy", "kyma"), one("NetworkPolicy", "manager")
    assert own["spec"]["podSelector"] == elsewhere["spec"]["podSelector"]
    assert own["spec"]["policyTypes"] == ["Ingress"]
    assert own["spec"]["ingress"] == [rule for rule in elsewhere["spec"]["ingress"] if "from" in rule]
    assert own["metadata"]["name"] != elsewhere["metadata"]["name"]


def test_the_operator_deletes_nothing_of_config_kyma() -> None:
    """It deletes objects with its label that it has not applied."""
    for file in [*(CONFIG / "kyma").glob("*.yaml"), *(CONFIG / "rbac").glob("*.yaml")]:
        assert "app.kubernetes.io/managed-by" not in file.read_text()


def _identity(obj: Object) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace", ""), metadata["name"]
