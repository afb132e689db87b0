"""From the Go agent to this one and back, by the commands of docs/upgrade.md; with Kyma's operator and without it.

The operator is the emulation of e2e/kyma: it applies its manifests again every few seconds while all this happens.
"""

from typing import Any

import pytest

from controller.resources import SECRET, SYNC_STATUS
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION
from e2e.kyma.go_agent import assert_takeover
from e2e.kyma.operator import DEPLOYMENT, FIELD_MANAGER, NAME, KymaOperator
from e2e.scenarios.documents import Page
from e2e.scenarios.objects import added_since, objects
from e2e.scenarios.target import ERP, ERP_IN_COMPASS, Target
from informers import NotFound

PERIOD = 2.0  # of the operator; the real one is slower

Object = dict[str, Any]


class Snapshot:
    """What must still be there afterwards, as it is."""

    def __init__(self, target: Target) -> None:
        target.kubectl("label", "application", ERP, "application-type=erp", "--overwrite")
        self._target = target
        self._applications = target.applications()
        self._secrets = {name: secret.get("data") for name, secret in target.secrets().items()}
        self._credentials = self._stored_credentials()
        self._issued = len(target.compass.certificates())

    def check(self) -> None:
        """No second pairing, no object created anew, nothing of users lost."""
        target = self._target
        after = target.applications()
        assert _uids(after) == _uids(self._applications)
        assert {name: obj["spec"] for name, obj in after.items()} == {
            name: obj["spec"] for name, obj in self._applications.items()
        }
        assert after[ERP]["metadata"]["labels"]["application-type"] == "erp"
        assert {name: secret.get("data") for name, secret in target.secrets().items()} == self._secrets
        assert len(target.compass.certificates()) == self._issued
        assert self._stored_credentials() == self._credentials

    def _stored_credentials(self) -> dict[str, str | None]:
        """What both agents store."""
        stored = self._target.secret(CLUSTER_SECRET) or {}
        return {key: stored.get(key) for key in ("crt", "key", "crtChain")}


def test_a_reinstalled_agent_goes_on(connected: Target) -> None:
    """The agent goes and its lease with it; Applications, Secrets and CRDs stay; installed again, it goes on."""
    before = Snapshot(connected)
    connected.uninstall()
    assert connected.replicas() == set()
    assert connected.lease_holder() == ""
    before.check()
    connected.change_erp("Changed without an agent")
    connected.start_agents()
    connected.wait_for_erp("Changed without an agent")
    connected.compass.reset()
    connected.wait_for_landscape()
    before.check()


def test_upgrade_and_return_with_kymas_operator(go_agent: Target, upgrade: Page) -> None:
    """Upgrade, drift, sync, scaling by the operator, and back: nothing is lost, and the Go agent could go on."""
    target = go_agent
    with KymaOperator(target.client, image=target.go_agent_image, period=PERIOD) as operator:
        operator.wait_until_applied()
        before, go_agent_objects = Snapshot(target), objects(target)

        assert FIELD_MANAGER in upgrade.follow("From the Go agent")
        upgrade.follow("With Kyma's operator")
        target.wait_for_leader()
        target.wait_for_landscape()
        before.check()
        generation = _deployment(target)["metadata"]["generation"]
        operator.wait_until_applied(3)
        assert _deployment(target)["metadata"]["generation"] == generation

        target.remove(SECRET, next(iter(target.secrets())), "kyma-system")
        target.change_erp("Changed under the operator")
        _resync(target, "Changed under the operator")
        target.compass.reset()
        _resync(target, ERP_IN_COMPASS["description"])
        target.wait_for("the Secrets as they were", lambda: _quiet(before))

        configuration = target.secret(CONFIGURATION) or {}
        target.remove(SECRET, CONFIGURATION.name, CONFIGURATION.namespace)
        target.wait_for("no replica", lambda: _deployment(target)["spec"]["replicas"] == 0 and not target.replicas())
        before.check()
        target.configure(configuration, secret=True)
        target.wait_for("a replica", target.replicas)
        target.wait_for_leader()
        target.wait_for_landscape()
        before.check()

        agents = target.replicas()
        upgrade.follow("Back with Kyma's operator")
        assert not agents & target.replicas()
        target.wait_for("the last of this agent to end", lambda: not target.ending())
        operator.wait_until_applied(2)
        before.check()
        assert_takeover(target, ca_secret=target.ca_secret)
        _remove_what_is_left(target, upgrade, go_agent_objects)
        before.check()


def test_a_new_connection_with_kymas_operator(bare: Target, upgrade: Page) -> None:
    """Without an earlier pairing: the agent waits at 0 replicas, pairs, is scaled, gets another image, is removed."""
    target = bare
    issued = len(target.compass.certificates())
    with KymaOperator(target.client, image=target.go_agent_image, period=PERIOD) as operator:
        operator.wait_until_applied()
        objects_before = objects(target)
        assert _deployment(target)["spec"]["replicas"] == 0

        configuration = target.compass.configuration()
        written = "".join(f"{key}={value}\n" for key, value in configuration.items())
        upgrade.follow("A new connection with Kyma's operator", files={"compass.env": written})
        applications = target.wait_for_landscape()
        assert len(target.compass.certificates()) == issued + 1

        target.remove(SECRET, CONFIGURATION.name, CONFIGURATION.namespace)
        target.wait_for("no replica", lambda: _deployment(target)["spec"]["replicas"] == 0 and not target.replicas())
        assert target.applications() == applications
        target.change_erp("Changed without an agent")
        target.configure(configuration, secret=True)
        target.wait_for_erp("Changed without an agent")

        if not target.node_missing():  # a name that only this cluster knows
            ran = target.replicas()
            target.change_erp("Seen by the next version")
            image = {"registry.example.com/agent:2": target.another_image()}
            upgrade.follow("The next version with Kyma's operator", fill_in=image)
            target.wait_for("the end of the version before", lambda: target.replicas() and not ran & target.replicas())
            target.wait_for_leader()
            target.wait_for_erp("Seen by the next version")
        assert _uids(target.applications()) == _uids(applications)
        assert len(target.compass.certificates()) == issued + 1

        upgrade.follow("Completely with Kyma's operator")
        operator.wait_until_applied(2)
        assert target.compass.certificates()[-1]["revoked"]
        target.collect_secrets()
        assert not added_since(target, objects_before)
        assert "compass-ca" not in str(_deployment(target)["spec"])


def test_upgrade_and_return_without_the_operator(go_agent: Target, upgrade: Page) -> None:
    """The manifests of the Go agent were applied once, with its CRDs; and they are again in the end."""
    target = go_agent
    KymaOperator(target.client, image=target.go_agent_image).apply()
    before, go_agent_objects = Snapshot(target), objects(target)

    upgrade.follow("Without Kyma's operator")
    target.wait_for_leader()
    target.wait_for_landscape()
    before.check()

    upgrade.follow("Back without Kyma's operator")
    assert target.lease_holder() == ""
    with pytest.raises(AssertionError, match="the status that it writes is dropped"):
        assert_takeover(target, ca_secret=target.ca_secret)
    KymaOperator(target.client, image=target.go_agent_image).apply()
    before.check()
    assert_takeover(target, ca_secret=target.ca_secret)
    _remove_what_is_left(target, upgrade, go_agent_objects)
    before.check()


def _remove_what_is_left(target: Target, upgrade: Page, go_agent_objects: set[str]) -> None:
    """It is what the page says, and its commands remove it, with nothing that the Go agent needs."""
    assert added_since(target, go_agent_objects) == {"ConfigMap kyma-system compass-ca"}
    assert "connection" in (target.secret(CLUSTER_SECRET) or {})

    upgrade.follow("What remains")
    assert not added_since(target, go_agent_objects)
    assert not any(SYNC_STATUS in _annotations(obj) for obj in target.applications().values())
    assert (target.secret(CLUSTER_SECRET) or {}).keys() == {"crt", "key", "crtChain"}
    assert "compass-ca" not in str(_deployment(target)["spec"])
    assert_takeover(target, ca_secret=target.ca_secret)


def _resync(target: Target, description: str) -> None:
    """Ask for a synchronisation as the tutorials do, until the Application has the description that Compass has."""
    patch = '{"spec": {"resyncNow": true}}'
    target.kubectl("patch", "compassconnection", "compass-connection", "--type=merge", "--patch", patch)
    target.wait_for_erp(description)


def _quiet(before: Snapshot) -> bool:
    try:
        before.check()
    except AssertionError:
        return False
    return True


def _deployment(target: Target) -> Object:
    try:
        return target.client.get(DEPLOYMENT, NAME, namespace="kyma-system")
    except NotFound:
        return {"metadata": {}, "spec": {"replicas": 0}}


def _annotations(obj: Object) -> Object:
    found: Object = obj["metadata"].get("annotations") or {}
    return found


def _uids(applications: dict[str, Object]) -> dict[str, str]:
    return {name: obj["metadata"]["uid"] for name, obj in applications.items()}
