"""What clusters of Kyma rely on: names that do not clash, and an emulation that has the CRDs of the agent in Go."""

from pathlib import Path
from typing import Any

from e2e.kyma.crds import go_agent_crds
from e2e.kyma.operator import go_agent_manifests, read_manifests
from e2e.world import OWN_CRDS
from tests.support.crd_sets import GO_AGENT, crd_set

Object = dict[str, Any]

CONFIG = OWN_CRDS.parent
ROLES = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def test_no_role_has_a_name_that_the_operator_resets() -> None:
    """Roles and bindings of config/rbac exist beside those of the agent in Go."""
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


def test_the_emulated_crds_are_those_of_the_agent_in_go() -> None:
    """But for descriptions, and for what no API server needs to be told."""
    real = {crd["metadata"]["name"]: crd for file in _files(crd_set(GO_AGENT)) for crd in read_manifests(file)}
    for crd in go_agent_crds():
        (wanted,) = real[crd["metadata"]["name"]]["spec"]["versions"]
        (emulated,) = crd["spec"]["versions"]
        assert _shape(emulated["schema"]["openAPIV3Schema"]) == _shape(wanted["schema"]["openAPIV3Schema"])
        assert "subresources" not in wanted
        assert "subresources" not in emulated


def _shape(schema: Object) -> Object:
    """What a schema lets pass: no descriptions, and not the three fields that every object has."""
    shape = {key: value for key, value in schema.items() if key not in ("description", "properties", "items")}
    if "required" in shape:
        shape["required"] = sorted(shape["required"])
    if "items" in schema:
        shape["items"] = _shape(schema["items"])
    for name, part in schema.get("properties", {}).items():
        if name not in ("apiVersion", "kind", "metadata"):
            shape[f".{name}"] = _shape(part)
    return shape


def _identity(obj: Object) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace", ""), metadata["name"]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.yaml") if file.name != "kustomization.yaml")
