"""The permissions that `doctor` reviews are those of config/rbac."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.commands.permission_review import Permission, describe, missing, needed
from controller.settings import Settings
from e2e.controlplane import ControlPlane
from e2e.kyma.operator import KymaOperator
from e2e.world import NAMESPACES, Object
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


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        for namespace in NAMESPACES:
            running.create_namespace(namespace)
        yield running


@pytest.fixture
def admin(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Client]:
    client = Client.load(str(control_plane.write_kubeconfig(tmp_path / "admin")))
    yield client
    _remove_all(client)
    client.close()


@pytest.fixture
def agent(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Client]:
    client = Client.load(str(control_plane.write_kubeconfig(tmp_path / "agent", user=USER, groups=())))
    yield client
    client.close()


def test_rights_of_doctor_are_the_rules_of_the_roles() -> None:
    """The list in the program and the roles cannot drift apart."""
    rules = permissions(rbac_manifests())
    covered: set[Rule] = set()
    for permission in needed(SETTINGS):
        by = {rule for rule in rules if _covers(rule, permission)}
        assert by, permission
        covered |= by
    assert {(rule.verb, rule.resource) for rule in rules - covered} <= NOT_CHECKED


def test_nothing_is_missing_with_the_rules(admin: Client, agent: Client) -> None:
    """And all is without them."""
    assert missing(agent, needed(SETTINGS)) == needed(SETTINGS)
    for manifest in rbac_manifests():
        _create(admin, manifest)
    assert _in_the_end(lambda: missing(agent, needed(SETTINGS)), ()) == ()


def test_what_the_operator_of_kyma_does_not_give(admin: Client, agent: Client) -> None:
    """Its roles are those of the Go agent: enough for the status of the connection, and not for the rest."""
    operator = KymaOperator(admin)
    operator.apply()
    expected = (
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
    assert _in_the_end(lambda: describe(missing(agent, needed(SETTINGS))), expected) == expected  # type: ignore[arg-type, comparison-overlap, return-value]
    for manifest in rbac_manifests():  # type: ignore[unreachable]
        if manifest["kind"] != "ServiceAccount":
            _create(admin, manifest)
    assert _in_the_end(lambda: missing(agent, needed(SETTINGS)), ()) == ()


def _in_the_end(look: Callable[[], tuple[Permission, ...]], wanted: tuple[Permission, ...]) -> tuple[Permission, ...]:
    """What is seen once it is what is wanted, or after a time in which every API server has read its own roles."""
    deadline = time.monotonic() + 10
    while (seen := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen


def _create(client: Client, manifest: Object) -> None:
    client.create(KINDS[manifest["kind"]], manifest)


def _remove_all(client: Client) -> None:
    for kind in KINDS.values():
        for obj in client.list(kind)["items"]:
            if obj["metadata"]["name"].startswith("compass-runtime-agent"):
                client.delete(kind, obj["metadata"]["name"], namespace=obj["metadata"].get("namespace"))


def _covers(rule: Rule, permission: Permission) -> bool:
    return (
        (rule.group, rule.resource, rule.verb) == (permission.group, permission.resource, permission.verb)
        and rule.namespace in ("", permission.namespace)
        and rule.name in ("", permission.name)
    )
