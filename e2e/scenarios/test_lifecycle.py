"""Coming after the agent in Go, and going."""

import copy
from typing import Any

from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, SECRET
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION, Object
from e2e.mock_compass.examples import landscape
from e2e.scenarios.stage import Stage

ERP = "mp-harbour-logistics-erp"


def test_upgrade_from_the_agent_in_go(connected: Stage) -> None:
    """Its objects are taken over as they are: no second pairing, no Application created anew, nothing of users lost."""
    connected.stop_agents()
    _turn_into_those_of_the_agent_in_go(connected)
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
    after = connected.wait_for_landscape()
    assert {name: obj["metadata"]["uid"] for name, obj in after.items()} == {
        name: obj["metadata"]["uid"] for name, obj in before.items()
    }
    assert len(connected.compass.certificates()) == issued


def _turn_into_those_of_the_agent_in_go(stage: Stage) -> None:
    """The objects in the cluster lose what the agent in Go does not write. Its configuration is a Secret, used up."""
    credentials = stage.client.get(SECRET, CLUSTER_SECRET.name, namespace=CLUSTER_SECRET.namespace)
    kept = {key: credentials["data"][key] for key in ("crt", "key", "crtChain")}
    stage.put(SECRET, {"metadata": _name(credentials), "data": kept})

    stage.remove(CONFIG_MAP, CONFIGURATION.name, CONFIGURATION.namespace)
    stage.configure(stage.compass.configuration(token="used long ago"), secret=True)  # noqa: S106 - it is no token

    connection = stage.connection()
    assert connection is not None
    stage.delete_connection()
    created = stage.client.create(
        COMPASS_CONNECTION,
        {
            "apiVersion": COMPASS_CONNECTION.api_version,
            "kind": COMPASS_CONNECTION.kind,
            "metadata": {"name": connection["metadata"]["name"]},
            "spec": {"managementInfo": connection["spec"]["managementInfo"]},
        },
    )
    known = ("connectionState", "connectionStatus", "synchronizationStatus")
    status = {key: connection["status"][key] for key in known}
    stage.client.update(COMPASS_CONNECTION, {**created, "status": status}, subresource="status")

    for application in stage.applications().values():
        plain: dict[str, Any] = copy.deepcopy(application)
        plain["metadata"].pop("annotations", None)
        stage.client.update(APPLICATION, plain)


def _name(obj: Object) -> Object:
    return {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]}
