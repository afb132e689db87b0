"""The cluster's Applications follow the Director alone."""

from controller.resources import SYNC_STATUS, SYNCED
from e2e.cluster import Object
from e2e.mock_compass.examples import landscape
from e2e.scenarios.target import ERP, ERP_IN_COMPASS, Target


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


def test_an_unassigned_application_goes_with_its_secrets(connected: Target) -> None:
    """An Application that is unassigned goes, and its Secrets go with it; the others stay."""
    others = connected.applications().keys() - {ERP}
    assert _secrets_of(connected, ERP)
    connected.compass.unassign(ERP_IN_COMPASS["id"])
    connected.wait_for("it to go", lambda: ERP not in connected.applications())
    connected.wait_for("its Secrets to go", lambda: not _secrets_of(connected, ERP))
    assert connected.applications().keys() == others


def _sync_status(application: Object) -> str:
    annotations = application["metadata"].get("annotations") or {}
    return str(annotations.get(SYNC_STATUS, SYNCED))


def _secrets_of(target: Target, application: str) -> set[str]:
    return {name for name, secret in target.secrets().items() if secret["metadata"]["labels"]["app"] == application}
