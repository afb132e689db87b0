"""kubectl compass with a running agent: the result of each command, its output and its exit status."""

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import yaml

from controller.commands.doctor import doctor as doctor_in_pod
from controller.connection.status import parse_timestamp
from controller.resources import SECRET
from controller.settings import Settings
from e2e.world import CONFIGURATION, World
from informers import Client
from kubectl_compass import actions, status
from kubectl_compass.__main__ import main
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import Cluster, Failed
from kubectl_compass.pairing import Unusable
from kubectl_compass.terminal import Terminal
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import issued, synchronized, wait_for_error
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
def test_pair_uses_the_addresses_that_are_configured(world: World, agent: StartAgent, plugin: Plugin) -> None:
    """The ConfigMap has them; a later token goes into the Secret that the first one made."""
    world.configure(world.configuration(token="used" * 10))
    agent()
    wait_for_error(world, "the one-time token is unknown")
    assert plugin.run(actions.pair, world.compass.issue_token(), {}, timeout=60) == 0, plugin.err
    assert "has precedence over the ConfigMap kyma-system/compass-agent-configuration from now on" in plugin.err
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


def test_resync_ends_with_a_new_fetch(world: World, agent: StartAgent, plugin: Plugin) -> None:
    """Again and again: also two of them within a second."""
    synchronized(world, agent, CONTROLLER_SYNC_PERIOD="1h")
    fetches = world.compass.requests.count("director")
    for number in (1, 2):
        assert plugin.run(actions.resync, timeout=60) == 0, plugin.err
        assert world.compass.requests.count("director") >= fetches + number
        assert not (world.connection() or {})["spec"].get("resyncNow")
    report = json.loads(plugin.out)
    assert report["applications"] is None or report["applications"]["synced"] == 3


def test_reconnect_pairs_with_a_new_token(world: World, agent: StartAgent, plugin: Plugin) -> None:
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
def test_reconnect_with_a_used_token_is_a_failure(world: World, agent: StartAgent, plugin: Plugin) -> None:
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
def test_no_request_is_made_without_a_compass_connection(world: World, plugin: Plugin) -> None:
    """Every command says so."""
    for command in (actions.resync, actions.renew, partial(actions.reconnect, token="")):
        with pytest.raises(Failed, match="there is no CompassConnection"):
            plugin.run(command, timeout=60)
    assert plugin.run(status.status) == 1
    assert json.loads(plugin.out)["problems"][0].startswith("there is no CompassConnection")


@one_set_of_crds
def test_doctor_in_the_pod_reaches_both_servers(world: World, agent: StartAgent) -> None:
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
def test_each_outcome_has_its_exit_status(
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
