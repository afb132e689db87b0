"""What is left to kubectl: which commands are run, and what their ends mean."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from kubectl_compass.actions import revoke
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import Cluster, Failed, KubectlFailed, run
from kubectl_compass.logs import logs
from kubectl_compass.terminal import Terminal
from tests.unit.kubectl_compass.bench import Bench, commands, deployment, held_by


def bench(directory: Path, script: str, *holders: str) -> Bench:
    """`holders` of the Lease, one after the other; the last one stays."""
    world = Bench(directory, script=script, connect=Connect(namespace="there"), Deployment=deployment())
    world.server.answers["Lease"] = [held_by(holder) for holder in holders]
    return world


def test_the_log_is_the_leaders(tmp_path: Path) -> None:
    """Of the cluster, and as the user, that the options name."""
    connect = Connect(namespace="there", context="c", user="jane", request_timeout=5.0)
    answers = {"Deployment": deployment(), "Lease": held_by("pod-1_uid_x")}
    world = Bench(tmp_path, script="exit 0", connect=connect, **answers)
    assert logs(world.cluster, world.terminal(), follow=False, tail=7) == 0
    (command,) = commands(tmp_path)
    connected, _, rest = command.partition(" logs ")
    assert connected == "--context=c --as=jane --request-timeout=5s --namespace=there"
    assert rest == "pod/pod-1 --container=compass-runtime-agent --tail=7"


def test_the_next_leader_is_followed(tmp_path: Path) -> None:
    """As soon as there is one, also another container in the same Pod. Five errors of kubectl in a row end it; their
    count begins anew with each success, because the Pod may have just begun or just ended.
    """
    script = f'case "$*" in *pod-2*) test $(wc -l <{tmp_path}/commands) -gt 5 || exit 1;; *pod-3*) exit 4;; esac'
    world = bench(tmp_path, script, "pod-1_a", "pod-1_a", "", "pod-1_b", *["pod-2_c"] * 4, "pod-3_d")
    assert logs(world.cluster, world.terminal(), follow=True, tail=1) == 4
    assert [command.split()[2] for command in commands(tmp_path)] == [
        *["pod/pod-1"] * 2,
        *["pod/pod-2"] * 4,
        *["pod/pod-3"] * 5,
    ]


def test_nobody_leads(tmp_path: Path) -> None:
    world = bench(tmp_path, "", "")
    with pytest.raises(Failed, match="no replica holds the Lease"):
        logs(world.cluster, world.terminal(), follow=False, tail=1)


@pytest.mark.parametrize(("holder", "target"), [("pod-1_a", "pod/pod-1"), ("", "deployment/compass-runtime-agent")])
def test_the_agent_revokes(tmp_path: Path, holder: str, target: str) -> None:
    """In the leader's Pod, in any other where nobody leads; the exit status is that of its command."""
    world = bench(tmp_path, "exit 1", holder)
    assert revoke(world.cluster, world.terminal(), confirm=lambda _: True) == 1
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
    world = bench(tmp_path, "", holder)
    with pytest.raises(KubectlFailed, match="not the name of a Pod"):
        command(world.cluster, world.terminal())
    assert commands(tmp_path) == []


def test_nothing_is_revoked_without_a_yes(tmp_path: Path) -> None:
    world = bench(tmp_path, "", "pod-1_a")
    with pytest.raises(Failed, match="nothing was changed"):
        revoke(world.cluster, world.terminal(), confirm=lambda _: False)
    assert commands(tmp_path) == []


def test_no_kubectl() -> None:
    with pytest.raises(KubectlFailed, match="cannot be run: No such file"):
        run(["/nowhere/kubectl"])
