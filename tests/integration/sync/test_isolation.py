"""One application that cannot be applied delays no other."""

from collections.abc import Iterator
from typing import Any

import pytest

from controller.resources import APPLICATION
from controller.settings import ObjectName
from e2e.mock_compass.faults import Fault
from e2e.world import World
from informers import ApiError, Resource
from tests.integration.conftest import Servers
from tests.integration.sync.conftest import StartAgent

Object = dict[str, Any]

POLICY = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
)
BINDING = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
NAME = "secrets"
PASSWORD = "gangway-4711"


def director_application(name: str, *, password: str | None = PASSWORD, **more: Any) -> Object:
    """Ids are made of the name, so that Secrets have names to look for."""
    auth = {"credential": {"username": "reader", "password": password}} if password else None
    bundle = {
        "id": f"{name}-bundle",
        "name": "Main",
        "defaultInstanceAuth": auth,
        "apiDefinitions": [{"id": f"{name}-api", "name": "API", "targetURL": f"https://{name}.example"}],
    }
    return {"id": f"id-{name}", "name": name, "bundles": [bundle], **more}


@pytest.fixture
def policy(world: World) -> Iterator[None]:
    """The API server answers 403 to Secrets whose names begin with "mp-refused", as it does for an exceeded quota."""
    world.put(
        POLICY,
        {
            "metadata": {"name": NAME},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [
                        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}
                    ]
                },
                "validations": [
                    {
                        "expression": "!object.metadata.name.startsWith('mp-refused')",
                        "message": "no more Secrets",
                        "reason": "Forbidden",
                    }
                ],
            },
        },
    )
    binding = {"metadata": {"name": NAME}, "spec": {"policyName": NAME, "validationActions": ["Deny"]}}
    world.put(BINDING, binding)

    def in_force() -> bool:
        try:
            world.client.request(
                "POST",
                "/api/v1/namespaces/kyma-system/secrets",
                query={"dryRun": "All"},
                body={"metadata": {"name": "mp-refused"}},
            )
        except ApiError as error:
            return error.status == 403
        return False

    world.wait_for("the policy to be in force", in_force)
    yield
    world.remove(BINDING, NAME)
    world.remove(POLICY, NAME)


def test_a_failing_application_is_reported_and_delays_no_other(
    world: World, start: StartAgent, policy: None, servers: Servers
) -> None:
    """Each is named in the error of the status and has an Event; each recovers once its cause is gone."""
    mine = world.put(APPLICATION, {"metadata": {"name": "mp-foreign"}, "spec": {"description": "mine"}})
    bad = ["mp-foreign", "mp-refused", "mp-twin"]
    for name in ("mp-fine", "mp-also-fine", *bad):
        world.compass.put_application(director_application(name))
    world.compass.put_application(director_application("mp-twin") | {"id": "id-other-twin", "name": "Twin"})
    agent = start(CONTROLLER_SYNC_PERIOD="1s")

    world.wait_for_state("ResourceApplicationFailed")
    error = world.sync_error()
    assert [name for name in bad if f"{name}: " not in error] == []
    assert "no more Secrets" in error
    assert set(world.applications()) == {"mp-fine", "mp-also-fine", "mp-foreign", "mp-refused"}
    assert set(world.secrets()) == {"mp-fine-mp-fine-bundle", "mp-also-fine-mp-also-fine-bundle"}
    assert world.applications()["mp-foreign"] == mine
    if servers.own_crds:
        counts = {"desired": 5, "synced": 2, "failed": 3, "failing": bad}
        assert (world.connection() or {})["status"]["applications"] == counts
    for reason, text in (("ApplicationFailed", "not managed by Compass"), ("DuplicateName", "id-other-twin")):
        _wait_for_event(world, reason, text)

    world.remove(BINDING, NAME)
    world.wait_for("the refused Secret", lambda: "mp-refused-mp-refused-bundle" in world.secrets())
    world.client.delete(APPLICATION, "mp-foreign")
    world.wait_for("the Application of Compass", lambda: "mp-foreign-mp-foreign-bundle" in world.secrets())
    world.compass.state.unassign("id-other-twin", world.compass.runtime_id)
    world.wait_for_state("Synchronized")
    assert set(world.applications()) == {"mp-fine", "mp-also-fine", *bad}
    assert PASSWORD not in agent.log


def _wait_for_event(world: World, reason: str, text: str) -> None:
    world.wait_for(
        f"an Event {reason}: {text}", lambda: [event for event in world.events(reason) if text in event["message"]]
    )


THEIRS = ObjectName("kyma-system", "serverless-registry-config")
OWN_NAMESPACE = "istio-system"  # any other one that is there


def test_a_separate_namespace_protects_other_secrets(world: World, start: StartAgent) -> None:
    """Then Compass cannot even create one that another component reads, and that is not there yet."""
    attack = director_application("serverless")
    attack["bundles"][0]["id"] = "registry-config"
    world.compass.put_application(attack)
    world.compass.faults.add(
        Fault(kind="field", field="Application.name", object_id="id-serverless", value="serverless")
    )
    start(CONTROLLER_SYNC_PERIOD="1s", INTEGRATION_NAMESPACE=OWN_NAMESPACE)
    world.wait_for_state("Synchronized")
    assert world.secret(ObjectName(OWN_NAMESPACE, THEIRS.name)) is not None
    assert world.secret(THEIRS) is None
