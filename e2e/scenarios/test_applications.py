"""The cluster's Applications follow the Director, and nobody else."""

import re
import shlex

from controller.resources import APPLICATION, DELETION_HELD, SECRET, SYNC_STATUS, SYNCED
from e2e.cluster import Object
from e2e.mock_compass.examples import landscape
from e2e.scenarios.target import Target

ERP = "mp-harbour-logistics-erp"


def test_assigned_applications_have_their_secrets(connected: Target) -> None:
    """What is assigned is there with its Secrets, and the Runtime's URLs are in the Director."""
    applications = connected.applications()
    assert len(applications) == len(landscape())
    assert {_sync_status(application) for application in applications.values()} == {SYNCED}
    named = {
        (entry.get("credentials") or {}).get("secretName") or None
        for application in applications.values()
        for service in application["spec"]["services"]
        for entry in service["entries"]
    } - {None}
    assert named
    assert named <= connected.secrets().keys()
    assert {"runtime_eventServiceUrl", "runtime_consoleUrl"} <= connected.compass.labels().keys()


def test_a_changed_description_changes_the_object(connected: Target) -> None:
    """A changed description is changed in the cluster, in the very object that was there."""
    before = connected.applications()[ERP]
    application = next(one for one in landscape() if one["name"] == "Harbour Logistics ERP")
    connected.compass.change(application["id"], description="Moved to Antwerp")
    connected.wait_for(
        "the description", lambda: connected.applications()[ERP]["spec"]["description"] == "Moved to Antwerp"
    )
    assert connected.applications()[ERP]["metadata"]["uid"] == before["metadata"]["uid"]


def test_an_unassigned_application_goes_with_its_secrets(connected: Target) -> None:
    """An Application that is unassigned goes, and its Secrets go with it; the others stay."""
    application = next(one for one in landscape() if one["name"] == "Harbour Logistics ERP")
    others = connected.applications().keys() - {ERP}
    assert _secrets_of(connected, ERP)
    connected.compass.unassign(application["id"])
    connected.wait_for("it to go", lambda: ERP not in connected.applications())
    connected.wait_for("its Secrets to go", lambda: not _secrets_of(connected, ERP))
    assert connected.applications().keys() == others


def test_many_deletions_wait_for_a_confirmation(connected: Target) -> None:
    """More than half of the Applications are deleted only after a confirmation, as the manifests set it."""
    before = connected.applications().keys()
    kept = next(one for one in landscape() if one["name"] == "Harbour Logistics ERP")
    for application in landscape():
        if application["id"] != kept["id"]:
            connected.compass.unassign(application["id"])
    connected.wait_for_state("ResourceApplicationFailed")
    connected.wait_for("word of them all", lambda: _held(connected) == before - {ERP})
    command = re.search(r"kubectl [^(]*", connected.sync_error())
    assert command
    connected.kubectl(*shlex.split(command[0])[1:])
    connected.wait_for("them to go", lambda: connected.applications().keys() == {ERP})
    connected.wait_for_state("Synchronized")


def test_two_of_one_name_change_nothing(connected: Target) -> None:
    """Neither is applied, and the Event says which; the others are as they were."""
    before = connected.applications()
    for number in (1, 2):
        connected.compass.put({"id": f"{number:08}-0000-4000-8000-000000000000", "name": f"Twin{'!' * number}"})
    connected.wait_for_state("ResourceApplicationFailed")
    connected.wait_for("the Event", lambda: connected.events("DuplicateName"))
    assert "mp-twin" in connected.sync_error()
    assert {name: obj["spec"] for name, obj in connected.applications().items()} == {
        name: obj["spec"] for name, obj in before.items()
    }


def test_drift_is_reverted_without_compass(connected: Target) -> None:
    """Edits and deletions by users are reverted without a call to Compass; fields of users stay."""
    before = connected.applications()[ERP]
    connected.kubectl("label", "application", ERP, "team=harbour")
    patch = '{"spec": {"description": "edited by hand"}}'
    connected.kubectl("patch", "application", ERP, "--type=merge", "--patch", patch)
    connected.wait_for("the edit undone", lambda: _description(connected) == before["spec"]["description"])
    assert connected.applications()[ERP]["metadata"]["labels"]["team"] == "harbour"

    secret = next(iter(_secrets_of(connected, ERP)))
    connected.client.delete(SECRET, secret, namespace="kyma-system")
    connected.wait_for("the Secret", lambda: secret in connected.secrets())

    with connected.compass.outage():
        connected.client.delete(APPLICATION, ERP)
        connected.wait_for("the Application", lambda: ERP in connected.applications())
        connected.wait_for("its Secrets", lambda: secret in _secrets_of(connected, ERP))


def _held(target: Target) -> set[str]:
    """The Applications that say that their deletion is held."""
    return {name for name, obj in target.applications().items() if _sync_status(obj) == DELETION_HELD}


def _sync_status(application: Object) -> str:
    annotations = application["metadata"].get("annotations") or {}
    return str(annotations.get(SYNC_STATUS, SYNCED))


def _description(target: Target) -> str:
    text: str = target.applications()[ERP]["spec"]["description"]
    return text


def _secrets_of(target: Target, application: str) -> set[str]:
    return {name for name, secret in target.secrets().items() if secret["metadata"]["labels"]["app"] == application}
