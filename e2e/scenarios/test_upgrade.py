"""From the agent in Go to this one and back, by the commands of docs/upgrade.md; with Kyma's operator and without it.

The operator is the emulation of e2e/kyma: it applies its manifests again every few seconds while all this happens.
"""

from typing import Any

from controller.resources import SECRET
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION
from e2e.kyma.go_agent import complaints
from e2e.kyma.operator import DEPLOYMENT, NAME, Operator
from e2e.mock_compass.examples import landscape
from e2e.scenarios.documents import Page
from e2e.scenarios.stage import Stage
from informers import NotFound

ERP = "mp-harbour-logistics-erp"
PERIOD = 2.0  # of the operator; the real one is slower

Object = dict[str, Any]


class Before:
    """What must still be there afterwards, as it is."""

    def __init__(self, stage: Stage) -> None:
        stage.kubectl("label", "application", ERP, "application-type=erp", "--overwrite")
        self._stage = stage
        self._applications = stage.applications()
        self._secrets = {name: secret.get("data") for name, secret in stage.secrets().items()}
        self._credentials = stage.secret(CLUSTER_SECRET)
        self._issued = len(stage.compass.certificates())

    def check(self) -> None:
        """No second pairing, no object created anew, nothing of users lost."""
        stage = self._stage
        after = stage.applications()
        assert _uids(after) == _uids(self._applications)
        assert {name: obj["spec"] for name, obj in after.items()} == {
            name: obj["spec"] for name, obj in self._applications.items()
        }
        assert after[ERP]["metadata"]["labels"]["application-type"] == "erp"
        assert {name: secret.get("data") for name, secret in stage.secrets().items()} == self._secrets
        assert len(stage.compass.certificates()) == self._issued
        kept = stage.secret(CLUSTER_SECRET) or {}
        assert {key: kept.get(key) for key in ("crt", "key", "crtChain")} == self._credentials


def test_where_kymas_operator_runs(go_agent: Stage, upgrade: Page) -> None:
    """Upgrade, drift, sync, scaling by the operator, and back: nothing is lost, and the agent in Go could go on."""
    stage = go_agent
    with Operator(stage.client, period=PERIOD) as operator:
        operator.wait_until_applied()
        before = Before(stage)

        upgrade.follow("With Kyma's operator")
        stage.wait_for_leader()
        stage.wait_for_landscape()
        before.check()
        generation = _deployment(stage)["metadata"]["generation"]
        operator.wait_until_applied(3)
        assert _deployment(stage)["metadata"]["generation"] == generation

        stage.remove(SECRET, next(iter(stage.secrets())), "kyma-system")
        _resync(stage, "Changed under the operator")
        stage.compass.reset()
        _resync(stage, None)
        stage.wait_for("the Secrets as they were", lambda: _quiet(before))

        configuration = stage.secret(CONFIGURATION) or {}
        stage.remove(SECRET, CONFIGURATION.name, CONFIGURATION.namespace)
        stage.wait_for("no replica", lambda: _deployment(stage)["spec"]["replicas"] == 0 and not stage.replicas())
        before.check()
        stage.configure(configuration, secret=True)
        stage.wait_for("a replica", stage.replicas)
        stage.wait_for_leader()
        stage.wait_for_landscape()
        before.check()

        upgrade.follow("Back with Kyma's operator")
        stage.wait_for("this agent to be gone", lambda: not _runs(stage))
        operator.wait_until_applied(2)
        before.check()
        assert complaints(stage, ca_secret=stage.ca_secret) == []


def test_where_it_does_not_run(go_agent: Stage, upgrade: Page) -> None:
    """The manifests of the agent in Go were applied once, with its CRDs; and they are again in the end."""
    stage = go_agent
    Operator(stage.client).apply()
    before = Before(stage)

    upgrade.follow("Without Kyma's operator")
    stage.wait_for_leader()
    stage.wait_for_landscape()
    before.check()

    upgrade.follow("Back without Kyma's operator")
    assert stage.lease_holder() == ""
    assert any("status subresource" in one for one in complaints(stage, ca_secret=stage.ca_secret))
    Operator(stage.client).apply()
    before.check()
    assert complaints(stage, ca_secret=stage.ca_secret) == []


def _resync(stage: Stage, description: str | None) -> None:
    """Have Compass change an Application, and ask for a synchronisation as the tutorials do."""
    application = next(one for one in landscape() if one["name"] == "Harbour Logistics ERP")
    if description is not None:
        stage.compass.change(application["id"], description=description)
    wanted = application["description"] if description is None else description
    patch = '{"spec": {"resyncNow": true}}'
    stage.kubectl("patch", "compassconnection", "compass-connection", "--type=merge", "--patch", patch)
    stage.wait_for("the change", lambda: stage.applications()[ERP]["spec"]["description"] == wanted)


def _quiet(before: Before) -> bool:
    try:
        before.check()
    except AssertionError:
        return False
    return True


def _runs(stage: Stage) -> bool:
    """Whether this agent does, and not the one in Go, which cannot be started here."""
    holder = stage.lease_holder()
    return bool(holder and stage.replica_of(holder))


def _deployment(stage: Stage) -> Object:
    try:
        return stage.client.get(DEPLOYMENT, NAME, namespace="kyma-system")
    except NotFound:
        return {"metadata": {}, "spec": {"replicas": 0}}


def _uids(applications: dict[str, Object]) -> dict[str, str]:
    return {name: obj["metadata"]["uid"] for name, obj in applications.items()}
