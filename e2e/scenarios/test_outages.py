"""Compass or the API server is away for a while: nothing is lost, and no person has to help."""

import time

import pytest

from controller.resources import APPLICATION, SECRET
from e2e.cluster import CLUSTER_SECRET
from e2e.scenarios.target import ERP, Target

_OUTAGE_SECONDS = 4.0  # two periods of the sync, shorter than the agent's deadline to renew its lease
_LONG_OUTAGE_SECONDS = 13.0  # longer than that deadline, which is 10 s


def test_an_outage_of_compass_loses_nothing(connected: Target) -> None:
    """The state shows it; Applications and credentials stay; changes of this time arrive afterwards."""
    applications, credentials = connected.applications(), connected.secret(CLUSTER_SECRET)
    with connected.compass.outage():
        connected.wait_for_state("ConnectionMaintenanceFailed", "SynchronizationFailed")
        assert connected.condition("Ready") == "False"
        connected.change_erp("Changed during the outage")
        assert connected.applications().keys() == applications.keys()
        assert connected.secret(CLUSTER_SECRET) == credentials
    connected.wait_for_erp("Changed during the outage")
    connected.wait_for_state("Synchronized")
    assert connected.secret(CLUSTER_SECRET) == credentials


@pytest.mark.parametrize("seconds", [_OUTAGE_SECONDS, _LONG_OUTAGE_SECONDS], ids=["short", "longer than the lease"])
def test_an_outage_of_the_api_server_loses_nothing(connected: Target, seconds: float) -> None:
    """Someone leads again afterwards, drift is undone, and what Compass has changed is there."""
    if reason := connected.node_missing():
        pytest.skip(reason)
    issued = len(connected.compass.certificates())
    # Before it begins, because some mocks are reached through the API server.
    connected.change_erp("Changed meanwhile")
    with connected.api_server_outage():
        time.sleep(seconds)  # the outage itself
    connected.wait_for_erp("Changed meanwhile")
    connected.client.delete(APPLICATION, ERP)
    connected.wait_for("the Application", lambda: ERP in connected.applications())
    secret = next(iter(connected.secrets()))
    connected.client.delete(SECRET, secret, namespace="kyma-system")
    connected.wait_for("the Secret", lambda: secret in connected.secrets())
    connected.wait_for_state("Synchronized")
    assert len(connected.compass.certificates()) == issued
