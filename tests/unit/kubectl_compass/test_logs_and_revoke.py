"""What is left to kubectl: which commands are run, and what their ends mean."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kubectl_compass.actions import revoke
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import Cluster, Failed, KubectlFailed, run
from kubectl_compass.logs import logs
from kubectl_compass.terminal import Terminal
from tests.fake_api_server.waiting import HastyClock
from tests.support.object_store import ObjectStore

ENVIRONMENT = {"APP_LEADER_ELECTION": "false"}


class LeaseServer(ObjectStore):
    """Holders of the Lease, one after the other; the last one stays."""

    def __init__(self, *holders: str) -> None:
        super().__init__()
        self._holders = list(holders)

    def get(self, resource: Any, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        if resource.kind != "Lease":
            return super().get(resource, name, namespace=namespace)
        holder = self._holders.pop(0) if len(self._holders) > 1 else self._holders[0]
        return {"spec": {"holderIdentity": holder}}


def cluster(tmp_path: Path, script: str, *holders: str, **connect: Any) -> Cluster:
    """With a kubectl that writes its arguments to a file, and then does what the script says."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/commands\n{script}\n')
    kubectl.chmod(0o755)
    return Cluster(
        LeaseServer(*holders),  # type: ignore[arg-type]
        Connect(namespace="there", **connect),
        environment=ENVIRONMENT,
        kubectl=str(kubectl),
    )


def terminal() -> Terminal:
    return Terminal("text", out=io.StringIO(), err=io.StringIO(), clock=HastyClock())


def commands(tmp_path: Path) -> list[str]:
    return (tmp_path / "commands").read_text().splitlines()


def test_the_log_is_the_leaders(tmp_path: Path) -> None:
    """Of the cluster, and as the user, that the options name."""
    here = cluster(tmp_path, "exit 0", "pod-1_uid_x", context="c", user="jane", request_timeout=5.0)
    assert logs(here, terminal(), follow=False, tail=7) == 0
    (command,) = commands(tmp_path)
    connect, _, rest = command.partition(" logs ")
    assert connect == "--context=c --as=jane --request-timeout=5s --namespace=there"
    assert rest == "pod/pod-1 --container=compass-runtime-agent --tail=7"


def test_the_next_leader_is_followed(tmp_path: Path) -> None:
    """As soon as there is one, also another container in the same Pod. Five errors of kubectl in a row end it."""
    script = 'case "$*" in *pod-2*) exit 4;; esac'
    there = cluster(tmp_path, script, "pod-1_a", "pod-1_a", "", "pod-1_b", "pod-2_c")
    assert logs(there, terminal(), follow=True, tail=1) == 4
    assert [command.split()[2] for command in commands(tmp_path)] == ["pod/pod-1", "pod/pod-1", *["pod/pod-2"] * 5]


def test_a_log_that_fails_for_a_moment_is_followed(tmp_path: Path) -> None:
    """The Pod has just begun or just ended, say. The count of failures begins anew with each success."""
    script = (
        'case "$*" in *pod-2*) test $(wc -l <' + f"{tmp_path}/commands" + ") -gt 4 || exit 1;; *pod-3*) exit 4;; esac"
    )
    there = cluster(tmp_path, script, "pod-1_a", *["pod-2_b"] * 4, "pod-3_c")
    assert logs(there, terminal(), follow=True, tail=1) == 4
    assert [command.split()[2] for command in commands(tmp_path)] == [
        "pod/pod-1",
        *["pod/pod-2"] * 4,
        *["pod/pod-3"] * 5,
    ]


def test_nobody_leads(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="no replica holds the Lease"):
        logs(cluster(tmp_path, "", ""), terminal(), follow=False, tail=1)


@pytest.mark.parametrize(("holder", "target"), [("pod-1_a", "pod/pod-1"), ("", "deployment/compass-runtime-agent")])
def test_the_agent_revokes(tmp_path: Path, holder: str, target: str) -> None:
    """In the leader's Pod, in any other where nobody leads; the exit status is that of its command."""
    assert revoke(cluster(tmp_path, "exit 1", holder), terminal(), confirm=lambda _: True) == 1
    assert commands(tmp_path) == [
        f"--namespace=there exec {target} --container=compass-runtime-agent -- compass-runtime-agent revoke --yes"
    ]


@pytest.mark.parametrize(
    "holder", ["--server=https://other", "-f", "deployment/other_uid", "pod\n", "A b", "..", "_uid"]
)
@pytest.mark.parametrize(
    "command", [partial(revoke, confirm=lambda _: True), partial(logs, follow=False, tail=1)], ids=["revoke", "logs"]
)
def test_a_holder_that_is_no_pod_name_reaches_no_kubectl(
    tmp_path: Path, holder: str, command: Callable[[Cluster, Terminal], int]
) -> None:
    """Who may write the Lease must not choose the options of an operator's kubectl."""
    with pytest.raises(KubectlFailed, match="not the name of a Pod"):
        command(cluster(tmp_path, "", holder), terminal())
    assert not (tmp_path / "commands").exists()


def test_nothing_is_revoked_without_a_yes(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="nothing was changed"):
        revoke(cluster(tmp_path, "", "pod-1_a"), terminal(), confirm=lambda _: False)
    assert not (tmp_path / "commands").exists()


def test_no_kubectl() -> None:
    with pytest.raises(KubectlFailed, match="cannot be run: No such file"):
        run(["/nowhere/kubectl"])
