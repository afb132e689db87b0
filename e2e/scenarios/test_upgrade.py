"""From the Go agent to this one and back, by the commands of docs/upgrade.md; with Kyma's operator and without it.

The operator is the emulation of e2e/kyma: it applies its manifests again every few seconds while all this happens.
"""

from typing import Any

from controller.resources import SECRET, SYNC_STATUS
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION
from e2e.kyma.go_agent import complaints, leave_objects
from e2e.kyma.operator import DEPLOYMENT, FIELD_MANAGER, NAME, Operator
from e2e.mock_compass.examples import landscape
from e2e.scenarios.documents import Page
from e2e.scenarios.inventory import inventory, new
from e2e.scenarios.stage import Stage
from informers import NotFound

ERP = "mp-harbour-logistics-erp"
PERIOD = 2.0  # of the operator; the real one is slower

Object = dict[str, Any]

_EXAMPLE = next(one for one in landscape() if one["name"] == "Harbour Logistics ERP")


class Before:
    """What must still be there afterwards, as it is."""

    def __init__(self, stage: Stage) -> None:
        stage.kubectl("label", "application", ERP, "application-type=erp", "--overwrite")
        self._stage = stage
        self._applications = stage.applications()
        self._secrets = {name: secret.get("data") for name, secret in stage.secrets().items()}
        self._credentials = self._stored_credentials()
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
        assert self._stored_credentials() == self._credentials

    def _stored_credentials(self) -> dict[str, str | None]:
        """What both agents store."""
        stored = self._stage.secret(CLUSTER_SECRET) or {}
        return {key: stored.get(key) for key in ("crt", "key", "crtChain")}


def test_objects_of_the_go_agent_are_taken_over(connected: Stage) -> None:
    """As they are: no second pairing, no Application created anew, nothing of users lost."""
    connected.stop_agents()
    leave_objects(connected, connected.compass.configuration(token="used long ago"))  # noqa: S106 - it is no token
    before = Before(connected)
    connected.start_agents()
    connected.kubectl("wait", "--for=condition=Ready", "cc/compass-connection", "--timeout=120s")
    connected.wait_for_landscape()
    before.check()


def test_uninstall(connected: Stage) -> None:
    """The agent goes and its lease with it; Applications, Secrets and CRDs stay; installed again, it goes on."""
    before = Before(connected)
    connected.uninstall()
    assert connected.replicas() == set()
    assert connected.lease_holder() == ""
    before.check()
    _change(connected, "Changed while nobody was there")
    connected.start_agents()
    _wait_for_change(connected, "Changed while nobody was there")
    connected.compass.reset()
    connected.wait_for_landscape()
    before.check()


def test_where_kymas_operator_runs(go_agent: Stage, upgrade: Page) -> None:
    """Upgrade, drift, sync, scaling by the operator, and back: nothing is lost, and the Go agent could go on."""
    stage = go_agent
    with Operator(stage.client, image=stage.go_agent_image, period=PERIOD) as operator:
        operator.wait_until_applied()
        before, there = Before(stage), inventory(stage)

        assert FIELD_MANAGER in upgrade.follow("From the Go agent")
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

        agents = stage.replicas()
        upgrade.follow("Back with Kyma's operator")
        assert not agents & stage.replicas()
        stage.wait_for("the last of this agent to end", lambda: not stage.ending())
        operator.wait_until_applied(2)
        before.check()
        assert complaints(stage, ca_secret=stage.ca_secret) == []
        _remove_what_is_left(stage, upgrade, there)
        before.check()


def test_a_new_connection_with_kymas_operator(bare: Stage, upgrade: Page) -> None:
    """Nobody has paired before: the agent waits at 0 replicas, pairs, is scaled, gets another image, is removed."""
    stage = bare
    issued = len(stage.compass.certificates())
    with Operator(stage.client, image=stage.go_agent_image, period=PERIOD) as operator:
        operator.wait_until_applied()
        there = inventory(stage)
        assert _deployment(stage)["spec"]["replicas"] == 0

        configuration = stage.compass.configuration()
        written = "".join(f"{key}={value}\n" for key, value in configuration.items())
        upgrade.follow("A new connection with Kyma's operator", files={"compass.env": written})
        applications = stage.wait_for_landscape()
        assert len(stage.compass.certificates()) == issued + 1

        stage.remove(SECRET, CONFIGURATION.name, CONFIGURATION.namespace)
        stage.wait_for("no replica", lambda: _deployment(stage)["spec"]["replicas"] == 0 and not stage.replicas())
        assert stage.applications() == applications
        _change(stage, "Changed while nobody was there")
        stage.configure(configuration, secret=True)
        _wait_for_change(stage, "Changed while nobody was there")

        if not stage.node_missing():  # a name that only this cluster knows
            ran = stage.replicas()
            _change(stage, "Seen by the next version")
            image = {"registry.example.com/agent:2": stage.another_image()}
            upgrade.follow("The next version with Kyma's operator", fill_in=image)
            stage.wait_for("the end of the version before", lambda: stage.replicas() and not ran & stage.replicas())
            stage.wait_for_leader()
            _wait_for_change(stage, "Seen by the next version")
        assert _uids(stage.applications()) == _uids(applications)
        assert len(stage.compass.certificates()) == issued + 1

        upgrade.follow("Completely with Kyma's operator")
        operator.wait_until_applied(2)
        assert stage.compass.certificates()[-1]["revoked"]
        stage.collect_secrets()
        assert not new(stage, there)
        assert "compass-ca" not in str(_deployment(stage)["spec"])


def test_where_it_does_not_run(go_agent: Stage, upgrade: Page) -> None:
    """The manifests of the Go agent were applied once, with its CRDs; and they are again in the end."""
    stage = go_agent
    Operator(stage.client, image=stage.go_agent_image).apply()
    before, there = Before(stage), inventory(stage)

    upgrade.follow("Without Kyma's operator")
    stage.wait_for_leader()
    stage.wait_for_landscape()
    before.check()

    upgrade.follow("Back without Kyma's operator")
    assert stage.lease_holder() == ""
    assert any("status subresource" in one for one in complaints(stage, ca_secret=stage.ca_secret))
    Operator(stage.client, image=stage.go_agent_image).apply()
    before.check()
    assert complaints(stage, ca_secret=stage.ca_secret) == []
    _remove_what_is_left(stage, upgrade, there)
    before.check()


def _remove_what_is_left(stage: Stage, upgrade: Page, there: set[str]) -> None:
    """It is what the page says, and its commands remove it, with nothing that the Go agent needs."""
    assert new(stage, there) == {"ConfigMap kyma-system compass-ca"}
    assert "connection" in (stage.secret(CLUSTER_SECRET) or {})

    upgrade.follow("What remains")
    assert not new(stage, there)
    assert not any(SYNC_STATUS in _annotations(obj) for obj in stage.applications().values())
    assert (stage.secret(CLUSTER_SECRET) or {}).keys() == {"crt", "key", "crtChain"}
    assert "compass-ca" not in str(_deployment(stage)["spec"])
    assert complaints(stage, ca_secret=stage.ca_secret) == []


def _resync(stage: Stage, description: str | None) -> None:
    """Have Compass change an Application, and ask for a synchronisation as the tutorials do."""
    wanted = _EXAMPLE["description"] if description is None else description
    if description is not None:
        _change(stage, description)
    patch = '{"spec": {"resyncNow": true}}'
    stage.kubectl("patch", "compassconnection", "compass-connection", "--type=merge", "--patch", patch)
    _wait_for_change(stage, wanted)


def _change(stage: Stage, description: str) -> None:
    stage.compass.change(_EXAMPLE["id"], description=description)


def _wait_for_change(stage: Stage, description: str) -> None:
    stage.wait_for("the change", lambda: stage.applications()[ERP]["spec"]["description"] == description)


def _quiet(before: Before) -> bool:
    try:
        before.check()
    except AssertionError:
        return False
    return True


def _deployment(stage: Stage) -> Object:
    try:
        return stage.client.get(DEPLOYMENT, NAME, namespace="kyma-system")
    except NotFound:
        return {"metadata": {}, "spec": {"replicas": 0}}


def _annotations(obj: Object) -> Object:
    found: Object = obj["metadata"].get("annotations") or {}
    return found


def _uids(applications: dict[str, Object]) -> dict[str, str]:
    return {name: obj["metadata"]["uid"] for name, obj in applications.items()}
