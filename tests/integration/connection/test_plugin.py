"""kubectl compass with a running agent: the result of each command, its output and its exit status."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.commands.doctor import doctor as doctor_in_pod
from controller.connection.status import parse_timestamp
from controller.resources import COMPONENT, SECRET
from controller.settings import Settings
from e2e.world import CONFIGURATION, World
from informers import Client
from kubectl_compass import actions, status
from kubectl_compass.__main__ import main
from kubectl_compass.arguments import NAMESPACE, Connect
from kubectl_compass.cluster import DEPLOYMENTS, Cluster, Failed
from kubectl_compass.doctor import doctor
from kubectl_compass.pairing import Unusable
from kubectl_compass.terminal import Terminal
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import certificate, issued, synchronized, wait_for_error
from tests.integration.connection.test_commands import revoke
from tests.support.agent_thread import leaked
from tests.support.crd_sets import OWN
from tests.support.kept_logging import kept_logging
from workqueue import RealClock

#: There is no Deployment and no Lease in these worlds.
ENVIRONMENT = {"APP_LEADER_ELECTION": "false", "APP_COMPASS_CA_FILE": "/only/in/the/Pod"}


one_set_of_crds = pytest.mark.parametrize("crds", [OWN], indirect=True, scope="package")
"""For commands to which it does not matter what a CompassConnection can keep."""


@dataclass
class Plugin:
    """Runs commands in this process; `out` and `err` are of the last one."""

    cluster: Cluster
    out: str = ""
    err: str = ""

    def run(self, command: Callable[..., int], *arguments: Any, output: Any = "json", **options: Any) -> int:
        out, err = io.StringIO(), io.StringIO()
        terminal = Terminal(output, out=out, err=err, clock=RealClock())
        try:
            return command(self.cluster, terminal, *arguments, **options)
        finally:
            self.out, self.err = out.getvalue(), err.getvalue()


@pytest.fixture
def plugin(world: World, tokens: set[str]) -> Iterator[Plugin]:
    """Nothing that it says has a token in it."""
    client = Client.load(str(world.kubeconfig))
    plugin = Plugin(Cluster(client, Connect(), environment=ENVIRONMENT))
    yield plugin
    client.close()
    assert not leaked(plugin.out + plugin.err, tokens)


def addresses(world: World) -> dict[str, str]:
    return {key: value for key, value in world.configuration(token="-").items() if key != "TOKEN"}


@one_set_of_crds
def test_pair_from_nothing(world: World, agent: StartAgent, plugin: Plugin) -> None:
    """The four values become a Secret without a copy of the token, and the command ends when all is synchronised."""
    agent()
    world.wait_for_state("ConnectionFailed")
    code = plugin.run(actions.pair, world.compass.issue_token(), addresses(world), timeout=60)
    assert code == 0, plugin.err
    assert json.loads(plugin.out)["state"] == world.state() == "Synchronized"
    assert "in the Secret kyma-system/compass-agent-configuration\n" in plugin.err
    assert "Synchronized" in plugin.err.splitlines()[-1]
    secret = world.client.get(SECRET, CONFIGURATION.name, namespace=CONFIGURATION.namespace)
    assert "annotations" not in secret["metadata"]


@one_set_of_crds
def test_pair_where_addresses_are_configured(world: World, agent: StartAgent, plugin: Plugin) -> None:
    """The ConfigMap has them; a later token goes into the Secret that the first one made."""
    world.configure(world.configuration(token="used" * 10))
    agent()
    wait_for_error(world, "the one-time token is unknown")
    assert plugin.run(actions.pair, world.compass.issue_token(), {}, timeout=60) == 0, plugin.err
    assert "has precedence over the ConfigMap kyma-system/compass-agent-configuration from now on" in plugin.err
    with pytest.raises(Unusable, match="the connection works"):
        plugin.run(actions.pair, world.compass.issue_token(), {}, timeout=60)
    assert issued(world) == 1


@one_set_of_crds
def test_pair_writes_nothing_that_the_agent_could_not_use(world: World, plugin: Plugin) -> None:
    with pytest.raises(Unusable, match="CONNECTOR_URL is missing, RUNTIME_ID is missing"):
        plugin.run(actions.pair, world.compass.issue_token(), {"TENANT": "t"}, timeout=60)
    assert world.secret(CONFIGURATION) is None
    world.configure(secret=True)
    before = world.secret(CONFIGURATION)
    with pytest.raises(Unusable, match="CONNECTOR_URL must be a URL that starts with https://"):
        plugin.run(actions.pair, world.compass.issue_token(), {"CONNECTOR_URL": "http://plain"}, timeout=60)
    assert world.secret(CONFIGURATION) == before


@one_set_of_crds
def test_a_refused_token_ends_the_wait_with_the_reason(world: World, agent: StartAgent, plugin: Plugin) -> None:
    agent()
    world.wait_for_state("ConnectionFailed")
    code = plugin.run(actions.pair, "a" * 64, addresses(world), timeout=5)
    assert code == 1
    assert "ConnectionFailed: " in plugin.err
    assert "not within 5s" in plugin.err
    assert "the one-time token is unknown, used or expired" in json.loads(plugin.out)["connectionError"]


def test_resync(world: World, agent: StartAgent, plugin: Plugin) -> None:
    """Again and again: also two of them within a second."""
    synchronized(world, agent, CONTROLLER_SYNC_PERIOD="1h")
    fetches = world.compass.requests.count("director")
    for number in (1, 2):
        assert plugin.run(actions.resync, timeout=60) == 0, plugin.err
        assert world.compass.requests.count("director") >= fetches + number
        assert not (world.connection() or {})["spec"].get("resyncNow")
    report = json.loads(plugin.out)
    assert report["applications"] is None or report["applications"]["synced"] == 3


def test_renew(world: World, agent: StartAgent, plugin: Plugin) -> None:
    synchronized(world, agent)
    before = certificate(world)
    assert plugin.run(actions.renew, output="yaml", timeout=60) == 0, plugin.err
    assert certificate(world) != before
    assert issued(world) == 2
    assert yaml.safe_load(plugin.out)["renewed"]


def test_reconnect_with_a_new_token(world: World, agent: StartAgent, plugin: Plugin) -> None:
    synchronized(world, agent)
    before = (world.connection() or {})["metadata"]["uid"]
    # Times in the status are whole seconds: a second pairing within one second could not be done from the first.
    established = parse_timestamp((world.connection() or {})["status"]["connectionStatus"]["established"]) or 0
    world.wait_for("the next second", lambda: time.time() >= established + 1)
    assert plugin.run(actions.reconnect, world.compass.issue_token(), output="text", timeout=60) == 0, plugin.err
    connection = world.connection() or {}
    assert connection["metadata"]["uid"] != before
    assert issued(world) == 2
    assert "State:        Synchronized\n" in plugin.out
    assert "deleted the CompassConnection" in plugin.err


@one_set_of_crds
def test_reconnect_with_the_used_token_pairs_nothing_and_says_so(
    world: World, agent: StartAgent, plugin: Plugin
) -> None:
    """The agent keeps the certificate, and its status has the time of the pairing that there was."""
    synchronized(world, agent)
    paired_at = (world.connection() or {})["status"]["connectionStatus"]["established"]
    world.wait_for("another second", lambda: time.time() > (parse_timestamp(paired_at) or 0) + 1)
    assert plugin.run(actions.reconnect, "", timeout=60) == 1, plugin.err
    assert "nothing was paired" in plugin.err
    report = json.loads(plugin.out)
    assert (report["state"], report["established"]) == ("Synchronized", paired_at)
    assert issued(world) == 1


@one_set_of_crds
def test_after_a_revocation_nothing_is_requested(world: World, agent: StartAgent, plugin: Plugin) -> None:
    """The reason comes at once and not after the whole timeout, and no flag stays for the next connection."""
    synchronized(world, agent)
    assert revoke(world)[0] == 0
    wait_for_error(world, "revoked by an operator")
    for command in (actions.resync, actions.renew):
        with pytest.raises(Failed, match="the certificate was revoked by an operator; to connect again, put a new"):
            plugin.run(command, timeout=60)
    assert not (world.connection() or {})["spec"].keys() & {"resyncNow", "refreshCredentialsNow"}
    assert plugin.run(actions.pair, world.compass.issue_token(), {}, timeout=60) == 0, plugin.err
    assert issued(world) == 2


@one_set_of_crds
def test_confirm_deletions(world: World, agent: StartAgent, plugin: Plugin) -> None:
    """The Applications that were held are gone when the command ends."""
    synchronized(world, agent, MAX_DELETION_PERCENT="50")
    for application in world.compass.state.applications():
        world.compass.state.unassign(application["id"], world.compass.runtime_id)
    world.wait_for_state("ResourceApplicationFailed")
    assert plugin.run(status.status) == 1
    assert json.loads(plugin.out)["deletions"] == {"held": 3, "deleting": 0}
    assert plugin.run(actions.confirm_deletions, confirm=lambda _: True, timeout=60) == 0, plugin.err
    assert not world.applications()
    assert json.loads(plugin.out)["state"] == "Synchronized"


@one_set_of_crds
def test_without_a_compass_connection(world: World, plugin: Plugin) -> None:
    """Nothing can be asked of an agent that never ran; status says the same."""
    for command in (actions.resync, actions.renew, partial(actions.reconnect, token="")):
        with pytest.raises(Failed, match="there is no CompassConnection"):
            plugin.run(command, timeout=60)
    assert plugin.run(status.status) == 1
    assert json.loads(plugin.out)["problems"][0].startswith("there is no CompassConnection")


@one_set_of_crds
def test_doctor_of_the_agent(world: World, agent: StartAgent) -> None:
    """With its settings it reaches both servers; one that is down, or not trusted, is done with a cure."""
    synchronized(world, agent)

    def results(**settings: str) -> dict[str, dict[str, str]]:
        out = io.StringIO()
        known = Settings.from_environment(world.environment(**settings))
        doctor_in_pod(world.client, known, output="json", now=time.time, out=out)
        return {row["check"]: row for row in json.loads(out.getvalue())["findings"]}

    found = results()
    assert {check: row["result"] for check, row in found.items()} == dict.fromkeys(
        ("permissions", "configuration", "certificate", "Connector", "Director", "clocks"), "ok"
    )
    found = results(COMPASS_CA_FILE="")
    assert found["Connector"]["result"] == found["Director"]["result"] == "problem"
    assert "is not trusted" in found["Director"]["text"]
    assert "configmap compass-ca" in found["Director"]["cure"]
    assert "pair" not in found["Director"]["cure"]


@one_set_of_crds
def test_doctor_where_no_pod_runs(world: World, agent: StartAgent, plugin: Plugin) -> None:
    """What can be seen from outside is seen, and what cannot is said."""
    synchronized(world, agent)
    labels = {"app": COMPONENT}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": COMPONENT, "image": "none"}]}}
    deployment = {"metadata": {"name": COMPONENT}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    world.client.create(DEPLOYMENTS, deployment, namespace=NAMESPACE)
    try:
        assert plugin.run(doctor) == 1
    finally:
        world.client.delete(DEPLOYMENTS, COMPONENT, namespace=NAMESPACE)
    found = {row["check"]: row for row in json.loads(plugin.out)["findings"]}
    assert found["Deployment"]["text"] == "0 of 1 replicas are ready"
    assert found["permissions"]["result"] == "problem"  # there is no ServiceAccount with any
    assert found["inside the cluster"]["result"] == "unknown"
    for check in ("CRD", "CompassConnection"):
        assert found[check]["result"] == "ok", found[check]


@one_set_of_crds
def test_kubectl_runs_it(world: World, agent: StartAgent) -> None:
    """As people do: kubectl finds the plugin in PATH."""
    synchronized(world, agent)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(world.control_plane.assets.kubectl), "compass", "status", "-o", "json"],
        env={"PATH": path, "HOME": str(world.directory), **ENVIRONMENT, "KUBECONFIG": str(world.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["healthy"] is True


@one_set_of_crds
def test_a_script_can_tell_exit_statuses_apart(
    world: World, agent: StartAgent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synchronized(world, agent)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def run(*arguments: str, kubeconfig: object = world.kubeconfig) -> tuple[int, str, str]:
        with kept_logging():
            code = main([*arguments, f"--kubeconfig={kubeconfig}"])
        return code, *capsys.readouterr()

    code, out, _ = run("status")
    assert (code, out.startswith("State:        Synchronized\n")) == (0, True)
    code, _, err = run("status", kubeconfig="/nowhere")
    assert (code, "/nowhere does not exist" in err) == (2, True)
    code, out, err = run("pair", "--token-stdin")
    assert (code, out, "no one-time token on standard input" in err) == (2, "", True)

    config = yaml.safe_load(world.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    gone = world.directory / "gone"
    gone.write_text(yaml.safe_dump(config))
    code, out, err = run("status", "-o", "json", kubeconfig=gone)
    assert (code, json.loads(out)["healthy"], "refused" in err) == (3, None, True)
