"""The permissions that `doctor` reviews are those of config/rbac."""

import time
from contextlib import ExitStack
from pathlib import Path

from controller.commands.permission_review import Permission, describe, missing, needed
from controller.settings import Settings
from e2e.controlplane import ControlPlane
from e2e.kyma.operator import KymaOperator
from e2e.world import NAMESPACES
from informers import Client
from tests.integration.rbac.test_rbac import (
    KINDS,
    USER,
    Rule,
    permissions,
    rbac_manifests,
)

#: As config/manager deploys it.
SETTINGS = Settings.from_environment({"APP_CA_CERTIFICATES_SECRET": "istio-system/kyma-gateway-certs-cacert"})

#: What config/rbac gives beyond that: for the commands in the Pod, for Events, and for the line with cluster metrics.
NOT_CHECKED = {
    ("delete", "secrets"),
    ("create", "events"),
    ("patch", "events"),
    ("list", "nodes"),
    ("list", "persistentvolumes"),
}

WITH_RULES_OF_THE_GO_AGENT = (
    "get, list, watch configmaps compass-agent-configuration in kyma-system; "
    "list, watch secrets kyma-gateway-certs-cacert in istio-system; "
    "list, watch secrets in kyma-system; "
    "list, watch secrets cluster-client-certificates in kyma-system; "
    "list, watch secrets compass-agent-configuration in kyma-system; "
    "watch applications.applicationconnector.kyma-project.io; "
    "update compassconnections/status.compass.kyma-project.io; "
    "create leases.coordination.k8s.io in kyma-system; "
    "get, update leases.coordination.k8s.io compass-runtime-agent in kyma-system"
)


def test_doctor_reviews_the_rules_of_the_roles() -> None:
    """The list in the program and the roles cannot drift apart."""
    rules = permissions(rbac_manifests())
    covered: set[Rule] = set()
    for permission in needed(SETTINGS):
        by = {rule for rule in rules if _covers(rule, permission)}
        assert by, permission
        covered |= by
    assert {(rule.verb, rule.resource) for rule in rules - covered} <= NOT_CHECKED


def test_missing_permissions_are_found(tmp_path: Path) -> None:
    """Everything without rules. With those of Kyma's operator, which are the Go agent's: all but what the status of
    the connection needs. Nothing with config/rbac, which the operator leaves alone.
    """
    with ControlPlane() as control_plane, ExitStack() as stack:
        for namespace in NAMESPACES:
            control_plane.create_namespace(namespace)
        admin = Client.load(str(control_plane.write_kubeconfig(tmp_path / "admin")))
        agent = Client.load(str(control_plane.write_kubeconfig(tmp_path / "agent", user=USER, groups=())))
        stack.callback(admin.close)
        stack.callback(agent.close)
        assert missing(agent, needed(SETTINGS)) == needed(SETTINGS)

        operator = KymaOperator(admin)
        operator.apply()
        assert _in_the_end(agent, WITH_RULES_OF_THE_GO_AGENT) == WITH_RULES_OF_THE_GO_AGENT

        for manifest in rbac_manifests():
            if manifest["kind"] != "ServiceAccount":
                admin.create(KINDS[manifest["kind"]], manifest)
        operator.apply()
        assert _in_the_end(agent, "") == ""


def _in_the_end(agent: Client, wanted: str) -> str:
    """What is missing once it is what is wanted, or after a time in which every API server has read its own roles."""
    deadline = time.monotonic() + 10
    while (seen := describe(missing(agent, needed(SETTINGS)))) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen


def _covers(rule: Rule, permission: Permission) -> bool:
    return (
        (rule.group, rule.resource, rule.verb) == (permission.group, permission.resource, permission.verb)
        and rule.namespace in ("", permission.namespace)
        and rule.name in ("", permission.name)
    )
