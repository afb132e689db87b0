"""The rules in config/rbac are enough for all that the agent does, and no more than that.

The agent runs as the ServiceAccount that is deployed, with the environment that is deployed. Only the Secrets of
Applications get a namespace of their own, so that each request belongs to one rule.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import controller.commands.command_line
from controller.resources import APPLICATION, COMPASS_CONNECTION, CONNECTION_NAME, SECRET
from controller.settings import ObjectName, Settings
from e2e.cluster import encoded
from e2e.kyma.operator import read_manifests
from e2e.mock_compass.examples import landscape
from e2e.world import OWN_CRDS, Object, World
from informers import ApiError, Client, Resource
from tests.support.agent_thread import AgentThread
from tests.support.audit_log import AuditLog, Request
from tests.support.kept_logging import kept_logging

CONFIG = OWN_CRDS.parent
USER = "system:serviceaccount:kyma-system:compass-runtime-agent"
APPLICATION_SECRETS = "compass-runtime-agent-application-secrets"
INTEGRATION_NAMESPACE = "compass-applications"
ERP = "mp-harbour-logistics-erp"
WEATHER = "mp-city-weather"

#: Older API servers cannot send the objects that exist by a watch, so the agent needs the right to list them.
LIST_AND_WATCH = "--feature-gates=WatchList=false"

#: Stands in for the metrics server, an aggregated API.
METRICS_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "nodes.metrics.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Cluster",
        "names": {"kind": "NodeMetrics", "plural": "nodes", "singular": "node"},
        "versions": [
            {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


def _resource(kind: str, plural: str, *, namespaced: bool = True) -> Resource:
    group = "rbac.authorization.k8s.io" if kind != "ServiceAccount" else ""
    return Resource(group=group, version="v1", plural=plural, kind=kind, namespaced=namespaced)


#: Where the deployed agent puts the CA for the gateway.
CA = ObjectName("istio-system", "kyma-gateway-certs-cacert")


@dataclass(frozen=True, order=True)
class Rule:
    """The smallest part of a rule: one verb on one resource, and one name if the rule has names."""

    role: str
    namespace: str  # "" in a ClusterRole
    group: str
    resource: str
    verb: str
    name: str


def permissions(manifests: Iterable[Object]) -> set[Rule]:
    """Everything that the Roles and ClusterRoles among the manifests allow."""
    return {
        Rule(manifest["metadata"]["name"], manifest["metadata"].get("namespace", ""), group, resource, verb, name)
        for manifest in manifests
        if manifest["kind"] in ("Role", "ClusterRole")
        for rule in manifest["rules"]
        for group, resource, verb, name in itertools.product(
            rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""])
        )
    }


def rbac_manifests() -> list[Object]:
    """config/rbac without its kustomization."""
    files = sorted(file for file in (CONFIG / "rbac").glob("*.yaml") if file.name != "kustomization.yaml")
    return [manifest for file in files for manifest in read_manifests(file)]


KINDS = {
    "ServiceAccount": _resource("ServiceAccount", "serviceaccounts"),
    "Role": _resource("Role", "roles"),
    "RoleBinding": _resource("RoleBinding", "rolebindings"),
    "ClusterRole": _resource("ClusterRole", "clusterroles", namespaced=False),
    "ClusterRoleBinding": _resource("ClusterRoleBinding", "clusterrolebindings", namespaced=False),
}


@pytest.fixture
def manifests() -> list[Object]:
    """config/rbac, the Role for the Secrets of Applications in their own namespace."""
    found = rbac_manifests()
    for manifest in found:
        if manifest["metadata"]["name"] == APPLICATION_SECRETS:
            manifest["metadata"]["namespace"] = INTEGRATION_NAMESPACE
    return found


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path, bodies=False)


@pytest.fixture
def world(tmp_path: Path, audit: AuditLog, manifests: list[Object]) -> Iterator[World]:
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds/metrics.yaml").write_text(yaml.safe_dump(METRICS_CRD))
    with World.local(tmp_path, apiserver_flags=(*audit.flags, LIST_AND_WATCH)) as world:
        for path in (OWN_CRDS, tmp_path / "crds"):
            world.install_crds(path)
        world.control_plane.create_namespace(INTEGRATION_NAMESPACE)
        for manifest in manifests:
            world.put(KINDS[manifest["kind"]], manifest)
        yield world


def _deployed_environment() -> dict[str, str]:
    """What config/manager sets, without the prefix; but for what only a Pod knows."""
    deployment = yaml.safe_load((CONFIG / "manager/deployment.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    given = [variable for variable in container["env"] if "value" in variable]
    return {variable["name"].removeprefix("APP_"): variable["value"] for variable in given}


def _settings() -> dict[str, str]:
    quick = {
        "HEALTH_PORT": "0",
        "CONTROLLER_SYNC_PERIOD": "1s",
        "MINIMAL_COMPASS_SYNC_TIME": "100ms",
        "METRICS_LOGGING_TIME_INTERVAL": "1s",
        "LEADER_ELECTION": "true",
        "INTEGRATION_NAMESPACE": INTEGRATION_NAMESPACE,
        "MAX_DELETION_PERCENT": "100",  # all Applications are unassigned in the end
    }
    return _deployed_environment() | quick


def _kubeconfig(world: World) -> Path:
    return world.control_plane.write_kubeconfig(world.directory / "agent.kubeconfig", user=USER, groups=())


def _secrets(world: World) -> dict[str, Object]:
    found = world.client.list(SECRET, namespace=INTEGRATION_NAMESPACE)["items"]
    return {secret["metadata"]["name"]: secret for secret in found}


Race = tuple[str, str, str]  # method, collection, what the other client does


class RacingClient(Client):
    """The agent's, with another client that is faster: each kind of write is refused once for each reason.

    The agent reads again after a refused write, which takes other permissions.
    """

    admin: Client
    races: set[Race]

    def request(self, method: str, path: str, **options: Any) -> Object:
        kinds = {"POST": ["create"], "PUT": ["change", "delete"], "DELETE": ["change", "delete"]}.get(method, [])
        collection = path if method == "POST" else path.rpartition("/")[0]
        for kind in kinds:
            if (method, collection, kind) not in self.races and "/events" not in path:
                self.races.add((method, collection, kind))
                self._run(kind, path.removesuffix("/status"), options.get("body"))
                break
        return super().request(method, path, **options)

    def _run(self, kind: str, path: str, body: Any) -> None:
        with suppress(ApiError):  # there may be no such object
            if kind == "create":
                self.admin.request("POST", path, body=body)
            elif kind == "delete" and ("/applications/" in path or f"/{INTEGRATION_NAMESPACE}/" in path):
                self.admin.request("DELETE", path)
            else:
                patch = {"metadata": {"annotations": {"race": kind}}}
                self.admin.request("PATCH", path, body=patch, content_type="application/merge-patch+json")


@pytest.fixture
def races(world: World, monkeypatch: pytest.MonkeyPatch) -> set[Race]:
    found: set[Race] = set()
    monkeypatch.setattr(RacingClient, "admin", world.client, raising=False)
    monkeypatch.setattr(RacingClient, "races", found, raising=False)
    return found


class _Agent(AgentThread):
    """The agent as the ServiceAccount that is deployed."""

    def new_client(self) -> RacingClient:
        return RacingClient.load(str(self._kubeconfig), user_agent="compass-runtime-agent/test")


def _all_that_the_agent_does(world: World, audit: AuditLog) -> None:
    world.put(APPLICATION, {"metadata": {"name": WEATHER}, "spec": {"description": "of a user"}})
    for application in landscape():
        world.compass.put_application(application)
    world.configure()
    agent = _Agent(world, kubeconfig=_kubeconfig(world), **_settings()).start()
    try:
        _use(world)
        world.wait_for(
            "the line with cluster metrics",
            lambda: "persistentvolumes" in {request.resource for request in _requests(audit)},
        )
    finally:
        agent.stop()


def _use(world: World) -> None:
    world.wait_for_state("ResourceApplicationFailed")  # the Application of the user is in the way
    world.client.delete(APPLICATION, WEATHER)

    # An Event that repeats is patched.
    urls = {"connectorUrl": "", "directorUrl": ""}
    world.put(COMPASS_CONNECTION, {"metadata": {"name": "other"}, "spec": {"managementInfo": urls}})
    for number in range(3):
        world.client.patch(COMPASS_CONNECTION, "other", {"metadata": {"annotations": {"number": str(number)}}})
        world.wait_for("the Event", lambda n=number: _count(world, "Ignored") > n)  # type: ignore[misc]
    world.client.delete(COMPASS_CONNECTION, "other")
    world.wait_for_state("Synchronized")

    # A Secret without its labels, which hides it from the agent; an Application that names another Secret.
    name = next(iter(_secrets(world)))
    world.client.patch(SECRET, name, {"metadata": {"labels": None}}, namespace=INTEGRATION_NAMESPACE)
    world.wait_for("the labels", lambda: _secrets(world).get(name, {}).get("metadata", {}).get("labels"))
    edited = copy.deepcopy(world.applications()[ERP])
    before = copy.deepcopy(edited["spec"])
    edited["spec"]["services"][0]["entries"][0]["credentials"] = {"type": "Basic", "secretName": "mp-another"}
    world.client.update(APPLICATION, edited)
    world.wait_for("the drift undone", lambda: world.applications().get(ERP, {}).get("spec") == before)

    for number in range(3):
        _change_things(world, number)

    # With a fresh token the CompassConnection is deleted, which has the configuration read from the API server.
    world.configure()
    world.client.delete(COMPASS_CONNECTION, CONNECTION_NAME)
    world.wait_for_state("Synchronized")

    for application in world.compass.state.applications():
        world.compass.state.unassign(application["id"], world.compass.runtime_id)
    world.wait_for("no Application left", lambda: not world.applications())
    world.wait_for("no Secret left", lambda: not _secrets(world))


def _change_things(world: World, number: int) -> None:
    """Everything is created, updated and deleted once."""
    world.compass.put_application(_application("mp-changing", f"password-{number}"))
    world.compass.put_application(_application("mp-changing", f"password-{number}-changed"))
    world.client.patch(SECRET, CA.name, {"data": {"cacert": encoded("edited")}}, namespace=CA.namespace)
    world.patch_connection({"spec": {"refreshCredentialsNow": True, "resyncNow": True}})
    authorities = Settings.from_environment(world.environment(**_settings())).ca_certificates_secret
    world.client.patch(SECRET, authorities.name, {"data": {"cacert": "eA=="}}, namespace=authorities.namespace)
    world.wait_for(
        "the change",
        lambda: (
            _secrets(world).get("mp-changing-bundle-of-mp-changing", {}).get("data", {}).get("password")
            == encoded(f"password-{number}-changed")
        ),
    )
    world.compass.state.unassign("id-mp-changing", world.compass.runtime_id)
    world.wait_for("it to be gone", lambda: "mp-changing" not in world.applications())


def _application(name: str, password: str) -> Object:
    bundle = {
        "id": f"bundle-of-{name}",
        "name": "Bundle",
        "defaultInstanceAuth": {"credential": {"username": "user", "password": password}},
        "apiDefinitions": [{"id": f"api-of-{name}", "name": "API", "targetURL": "https://api.example"}],
    }
    return {"id": f"id-{name}", "name": name, "description": password, "bundles": [bundle]}


def _run(world: World, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """A command of the agent, as `kubectl exec` runs it in its Pod."""
    for name, value in world.environment(**_settings()).items():
        monkeypatch.setenv(name, value)
    with kept_logging():
        return controller.commands.command_line.main(["--kubeconfig", str(_kubeconfig(world)), *arguments])


def _count(world: World, reason: str) -> int:
    return sum(event["count"] for event in world.events(reason))


def test_the_rules_are_sufficient_and_each_is_needed(
    world: World,
    audit: AuditLog,
    manifests: list[Object],
    races: set[Race],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over the life of a connection, also after refused writes: nothing is forbidden, every verb of a rule is used."""
    _all_that_the_agent_does(world, audit)
    assert _run(world, monkeypatch, "status") == 0
    assert _run(world, monkeypatch, "revoke", "--yes") == 0

    requests = _requests(audit)
    assert {str(request) for request in requests if not request.allowed} == set()
    unused = {p for p in permissions(manifests) if not any(covers(p, request) for request in requests)}
    assert sorted(unused) == []
    assert len(races) > 10


def _requests(audit: AuditLog) -> list[Request]:
    return [request for request in audit.requests(agent="", watches=True) if request.user == USER]


def covers(rule: Rule, request: Request) -> bool:
    resource = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
    name = "" if request.verb == "create" else request.name
    return (
        (rule.group, rule.resource, rule.verb) == (request.group, resource, request.verb)
        and rule.namespace in ("", request.namespace)
        and rule.name in ("", name)
    )
