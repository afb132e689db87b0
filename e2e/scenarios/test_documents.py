"""What the pages tell an operator to type, beyond docs/upgrade.md."""

import re
import time
from pathlib import Path

import pytest

from controller.resources import SECRET
from e2e.scenarios.documents import Page, commands, run
from e2e.scenarios.stage import Stage

DOCS = Path(__file__).parents[2] / "docs"
KINDS = (
    "clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,deployments,pods,poddisruptionbudgets,"
    "networkpolicies,priorityclasses,leases,secrets,configmaps,services,customresourcedefinitions,"
    "mutatingadmissionpolicies,mutatingadmissionpolicybindings"
)

_LOGS = re.compile(r"kubectl [^`]*? logs .*")


def _log_commands() -> list[str]:
    """Each command that shows logs, in a block or in the text; POD is to be filled in."""
    found = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text().replace("\\\n", "")
        blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
        found += [part for part in (*blocks, *re.findall(r"`([^`\n]+)`", text)) if _LOGS.fullmatch(part)]
    return sorted(set(found))


@pytest.mark.parametrize("command", _log_commands())
def test_documented_log_commands_reach_the_leader(connected: Stage, command: str, tmp_path: Path) -> None:
    """Its last lines are printed. POD stands for its Pod; --previous for what it wrote before it was killed."""
    if not connected.has_pods:
        pytest.skip("processes have files, and no kubectl logs")
    leader = connected.wait_for_leader()
    if "--previous" in command:
        ended = f"{leader} before"
        earlier = connected.logs().get(ended)  # of one that was killed before this
        connected.kill(leader)
        connected.wait_for("the container before", lambda: connected.logs().get(ended) not in (None, earlier))
        wanted = connected.logs()[ended]
    else:
        wanted = connected.logs()[leader]
    printed = run(connected, command.replace("POD", leader), directory=tmp_path)
    ends = wanted.splitlines()[-30:]
    if "grep" in command:
        ends = [line for line in wanted.splitlines() if re.search("Updated|Created|Deleted", line)][-3:]
    assert any(line in printed for line in ends)


def test_uninstall_for_good(bare: Stage, upgrade: Page, tmp_path: Path) -> None:
    """Nothing that was not there before the installation is there after the commands, but Events."""
    before = _inventory(bare)
    bare.kubectl("apply", "-k", str(DOCS.parent / "config/agent"))
    for command in commands("upgrade.md", "Without Kyma's operator"):
        if "compass-ca" in command or "private-ca" in command:
            run(bare, command, files={"ca.crt": bare.compass.ca_pem}, directory=tmp_path)
    bare.configure(bare.compass.configuration())
    bare.kubectl("--namespace", "kyma-system", "rollout", "status", "deployment/compass-runtime-agent")
    bare.wait_for_landscape()

    upgrade.follow("Completely")
    bare.wait_for("the processes to end", lambda: not bare.replicas())
    if not bare.has_pods:  # nobody collects what has lost its owner
        for name in bare.secrets():
            bare.remove(SECRET, name, "kyma-system")
    left = bare.wait_for("an end of what is going", lambda: _settled(bare)) - before
    assert not left
    assert not any("kyma-project.io" in name for name in _inventory(bare))


def _settled(stage: Stage) -> set[str]:
    """What is there when two looks, a second apart, see the same."""
    first = _inventory(stage)
    time.sleep(1)
    return first if first == _inventory(stage) else set()


def _inventory(stage: Stage) -> set[str]:
    """Kind, namespace and name of what an installation could leave."""
    columns = "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name"
    table = stage.kubectl("get", KINDS, "--all-namespaces", "--no-headers", "--output", columns)
    return {" ".join(line.split()) for line in table.splitlines()}
