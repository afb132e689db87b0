"""Coming after the Go agent, and going."""

from e2e.cluster import CLUSTER_SECRET
from e2e.kyma.go_agent import leave_objects
from e2e.mock_compass.examples import landscape
from e2e.scenarios.stage import Stage

ERP = "mp-harbour-logistics-erp"


def test_upgrade_from_the_agent_in_go(connected: Stage) -> None:
    """Its objects are taken over as they are: no second pairing, no Application created anew, nothing of users lost."""
    connected.stop_agents()
    leave_objects(connected, connected.compass.configuration(token="used long ago"))  # noqa: S106 - it is no token
    connected.kubectl("label", "application", ERP, "application-type=erp", "--overwrite")
    before, credentials = connected.applications(), connected.secret(CLUSTER_SECRET)
    issued = len(connected.compass.certificates())

    connected.start_agents()
    connected.kubectl("wait", "--for=condition=Ready", "cc/compass-connection", "--timeout=120s")
    connected.wait_for_landscape()

    after = connected.applications()
    assert {name: obj["metadata"]["uid"] for name, obj in after.items()} == {
        name: obj["metadata"]["uid"] for name, obj in before.items()
    }
    assert {name: obj["spec"] for name, obj in after.items()} == {name: obj["spec"] for name, obj in before.items()}
    assert after[ERP]["metadata"]["labels"]["application-type"] == "erp"
    assert len(connected.compass.certificates()) == issued
    kept = connected.secret(CLUSTER_SECRET)
    assert kept is not None
    assert {key: kept[key] for key in ("crt", "key", "crtChain")} == credentials


def test_uninstall(connected: Stage) -> None:
    """The agent goes and its lease with it; Applications, Secrets and CRDs stay; installed again, it goes on."""
    before, credentials = connected.applications(), connected.secret(CLUSTER_SECRET)
    issued = len(connected.compass.certificates())

    connected.uninstall()
    assert connected.replicas() == set()
    assert connected.lease_holder() == ""
    assert connected.applications() == before
    assert connected.secret(CLUSTER_SECRET) == credentials
    application = next(one for one in landscape() if one["name"] == "Harbour Logistics ERP")
    connected.compass.change(application["id"], description="Changed while nobody was there")

    connected.start_agents()
    connected.wait_for(
        "the change",
        lambda: connected.applications()[ERP]["spec"]["description"] == "Changed while nobody was there",
    )
    connected.wait_for("the state Synchronized", lambda: connected.state() == "Synchronized")
    assert {name: obj["metadata"]["uid"] for name, obj in connected.applications().items()} == {
        name: obj["metadata"]["uid"] for name, obj in before.items()
    }
    assert len(connected.compass.certificates()) == issued
