"""Every command of docs/plugin.md, as it is written, in the order of the page."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from e2e.mock_compass.examples import landscape
from e2e.scenarios.documents import environment, prepare_directory, run
from e2e.scenarios.target import Target

DOCS = Path(__file__).parents[2] / "docs"
_NEEDS_PODS = ("doctor", "logs", "revoke")
_EXAMPLE = {
    "CONNECTOR_URL": "https://mock-compass.compass.svc:8443/connector/graphql",
    "RUNTIME_ID": "5b8bb3b2-6d3c-4c29-9a1b-0c8f9c6c6a1e",
    "TENANT": "3e64ebae-38b5-46a0-b1ed-9ccee153a0ae",
}


def _commands() -> list[str]:
    """What the page shows after a dollar sign; a command may go on in the next line."""
    text = (DOCS / "plugin.md").read_text().replace("\\\n", "")
    return [re.sub(" +", " ", command) for command in re.findall(r"^ {4}\$ (.*)$", text, re.MULTILINE)]


def _name(command: str) -> str:
    return command.split()[2]


class Terminal:
    """Runs commands of the page for a target, with a fresh token in the file `token`."""

    def __init__(self, target: Target, directory: Path) -> None:
        self.target, self._directory = target, directory

    def run(self, command: str) -> str:
        """What it prints, progress included. The addresses of the example become those of the mock."""
        values = self.target.compass.configuration()
        for key, example in _EXAMPLE.items():
            command = command.replace(example, values[key])
        printed = run(
            self.target, f"( {command} ) 2>&1", files={"token": values["TOKEN"] + "\n"}, directory=self._directory
        )
        print(f"$ {command}\n{printed}")
        assert values["TOKEN"] not in printed
        return printed

    def findings(self) -> dict[str, dict[str, str]]:
        """Of a doctor that finds a problem, by check."""
        printed = self.run("kubectl compass doctor -o json || test $? = 1")
        return {finding["check"]: finding for finding in json.loads(printed)["findings"]}

    def start(self, command: str, output: Path) -> "subprocess.Popen[bytes]":
        """Without waiting for its end, in a process group of its own; all that it prints goes to the file.

        It takes Ctrl-C also if the tests run in the background of a shell, which ignores that.
        """
        prepare_directory(self._directory, self.target.kubectl_binary, {})
        with output.open("wb") as file:
            return subprocess.Popen(
                ["env", "--default-signal=INT", *command.split()],
                cwd=self._directory,
                env=environment(self.target, self._directory),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )


@pytest.fixture
def terminal(connected: Target, tmp_path: Path) -> Terminal:
    return Terminal(connected, tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        c
        for c in _commands()
        if _name(c) not in ("pair", "revoke", "confirm-deletions") and not re.search("--follow|--watch", c)
    ],
)
def test_commands_of_a_working_connection(terminal: Terminal, command: str) -> None:
    """Each ends with status 0 and says that all is well."""
    target = terminal.target
    if _name(command) in _NEEDS_PODS and not target.has_pods:
        pytest.skip("processes are no Pods")
    certificates = len(target.compass.certificates())
    printed = terminal.run(command)
    match _name(command):
        case "doctor":
            assert "problem" not in printed
        case "list":
            assert "Synced" in printed
        case "status" if "yaml" in command:
            assert yaml.safe_load(printed)["healthy"] is True
        case "logs":
            log = target.logs()[target.wait_for_leader()]
            assert any(line in log for line in printed.splitlines())
        case "renew" | "reconnect":
            assert len(target.compass.certificates()) > certificates
            assert "Synchronized" in printed
        case _:
            assert "Synchronized" in printed


def test_the_log_of_the_leader_is_followed_to_the_next_one(terminal: Terminal, tmp_path: Path) -> None:
    target = terminal.target
    if not target.has_pods:
        pytest.skip("processes are no Pods")
    (command,) = [command for command in _commands() if "--follow" in command]
    leader, output = target.wait_for_leader(), tmp_path / "output"
    following = terminal.start(command, output)
    try:
        target.wait_for("the first lines", lambda: f"the leader is {leader}" in output.read_text(errors="replace"))
        target.delete(leader)
        successor = target.wait_for_leader()
        assert successor != leader
        target.wait_for("the next leader", lambda: f"the leader is {successor}" in output.read_text(errors="replace"))
    finally:
        os.killpg(following.pid, signal.SIGINT)
        code = following.wait(30)
    assert code == 130, output.read_text(errors="replace")[-2000:]


def test_revoke_and_pair_again(terminal: Terminal) -> None:
    """The two commands that a working connection has no use for, one after the other."""
    target = terminal.target
    pair, revoke = (next(c for c in _commands() if _name(c) == name) for name in ("pair", "revoke"))
    if target.has_pods:
        assert "The certificate is revoked" in terminal.run(revoke)
        target.wait_for_state("ConnectionFailed")
        assert "ConnectionFailed" in terminal.run("kubectl compass doctor || true")
    else:
        target.disconnect()
        target.start_agents()
        target.wait_for_state("ConnectionFailed")
    assert "Synchronized" in terminal.run(pair)


def test_deletions_are_confirmed(terminal: Terminal) -> None:
    target = terminal.target
    for application in landscape()[1:]:
        target.compass.unassign(application["id"])
    target.wait_for_state("ResourceApplicationFailed")
    target.wait_for("word of them all", lambda: terminal.run("kubectl compass list || true").count("DeletionHeld") == 6)
    (command,) = [command for command in _commands() if _name(command) == "confirm-deletions"]
    assert "1 of 1 Applications are in sync" in terminal.run(command)
    assert len(target.applications()) == 1


def test_doctor_finds_what_is_wrong(terminal: Terminal) -> None:
    """Compass is down; no replica runs. Each has a cure, and what cannot be checked is said."""
    target = terminal.target
    if not target.has_pods:
        pytest.skip("processes are no Pods")
    with target.compass.outage("gateway"):
        target.wait_for_state("ConnectionMaintenanceFailed", "SynchronizationFailed")
        found = terminal.findings()
        assert found["Director"]["result"] == "warning"
        assert "HTTP 503" in found["Director"]["text"]
        assert "a part of Compass is down" in found["Director"]["cure"]
        assert found["CompassConnection"]["result"] == "problem"
    target.stop_agents()
    found = terminal.findings()
    assert "replicas is 0" in found["Deployment"]["text"]
    assert found["leader"]["result"] == "problem"
    assert found["permissions"]["result"] == "ok"  # asked from outside
    assert found["inside the cluster"]["result"] == "unknown"
