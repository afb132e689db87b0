"""What clusters of Kyma rely on: names that do not clash, and a policy that fits the operator's Deployment."""

from pathlib import Path
from typing import Any

from e2e.kyma.operator import go_agent_manifests, read_manifests
from e2e.world import OWN_CRDS

Object = dict[str, Any]

CONFIG = OWN_CRDS.parent
ROLES = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def test_no_role_has_a_name_that_the_operator_resets() -> None:
    """Roles and bindings of config/rbac exist beside those of the Go agent."""
    own = {_identity(obj) for file in _files(CONFIG / "rbac") for obj in read_manifests(file) if obj["kind"] in ROLES}
    operators = {_identity(obj) for obj in go_agent_manifests()}
    assert own
    assert not own & operators


def test_the_policy_changes_a_container_and_variables_that_the_operator_sets() -> None:
    """The names in the expression are those of the operator's Deployment."""
    (deployment,) = [obj for obj in go_agent_manifests() if obj["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    policy, binding = read_manifests(CONFIG / "kyma/policy.yaml")
    expression = policy["spec"]["mutations"][0]["applyConfiguration"]["expression"]
    assert f'name: "{container["name"]}"' in expression
    assert 'name: "APP_SKIP_COMPASS_TLS_VERIFY"' in expression
    assert "APP_SKIP_COMPASS_TLS_VERIFY" in {variable["name"] for variable in container["env"]}
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_metrics_are_let_in_as_elsewhere() -> None:
    """The operator's policy lets in the probes only. Ours has the rule of config/manager, for the same Pods."""
    (own,) = read_manifests(CONFIG / "kyma/network_policy.yaml")
    (elsewhere,) = read_manifests(CONFIG / "manager/network_policy.yaml")
    assert own["spec"]["podSelector"] == elsewhere["spec"]["podSelector"]
    assert own["spec"]["policyTypes"] == ["Ingress"]
    assert own["spec"]["ingress"] == [rule for rule in elsewhere["spec"]["ingress"] if "from" in rule]
    assert own["metadata"]["name"] != elsewhere["metadata"]["name"]


def test_the_operator_deletes_nothing_of_config_kyma() -> None:
    """It deletes objects with its label that it has not applied."""
    for file in [*_files(CONFIG / "kyma"), *_files(CONFIG / "rbac"), CONFIG / "kyma/kustomization.yaml"]:
        assert "app.kubernetes.io/managed-by" not in file.read_text()


def _identity(obj: Object) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace", ""), metadata["name"]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.yaml") if file.name != "kustomization.yaml")
