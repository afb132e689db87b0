"""The commands of the pages beyond docs/upgrade.md."""

import re
from pathlib import Path

import pytest

from controller.resources import CONFIG_MAP, SECRET
from e2e.cluster import CONFIGURATION, Object
from e2e.scenarios.documents import Page, block, commands, run
from e2e.scenarios.objects import added_since, objects, stable_objects
from e2e.scenarios.target import Target
from informers import Resource

DOCS = Path(__file__).parents[2] / "docs"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

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
def test_documented_log_commands_reach_the_leader(connected: Target, command: str, tmp_path: Path) -> None:
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


def test_the_complete_uninstallation_leaves_nothing(bare: Target, upgrade: Page, tmp_path: Path) -> None:
    """Nothing that was not there before the installation is there after the commands, but Events."""
    before = objects(bare)
    _install(bare, tmp_path)
    upgrade.follow("Completely")
    assert bare.compass.certificates()[-1]["revoked"]
    _check_that_all_is_gone(bare, before)


def test_without_the_agent_the_listed_objects_remain(bare: Target, upgrade: Page, tmp_path: Path) -> None:
    """What the page lists is left, and nothing else. The commands that follow remove that, too, without an agent."""
    before = objects(bare)
    applications = _install(bare, tmp_path)
    secrets = bare.secrets()
    upgrade.follow("The agent alone")
    bare.wait_for("the processes to end", lambda: not bare.replicas())
    assert bare.applications().keys() == applications.keys()
    assert bare.secrets().keys() == secrets.keys()
    assert added_since(bare, before) == {
        "CompassConnection <none> compass-connection",
        *(f"Application <none> {name}" for name in applications),
        *(f"Secret kyma-system {name}" for name in secrets),
        "Secret kyma-system cluster-client-certificates",
        "Secret istio-system kyma-gateway-certs-cacert",
        "ConfigMap kyma-system compass-agent-configuration",
        "ConfigMap kyma-system compass-ca",
    }
    for command in commands("upgrade.md", "Completely"):
        if "revoke" not in command:
            run(bare, command, directory=tmp_path)
    _check_that_all_is_gone(bare, before)


def _install(target: Target, directory: Path) -> dict[str, Object]:
    """As the pages say, with the private authority of the mock; gives the Applications that came."""
    target.kubectl("apply", "-k", str(DOCS.parent / "config/agent"))
    for command in commands("upgrade.md", "Without Kyma's operator"):
        if "compass-ca" in command or "private-ca" in command:
            run(target, command, files={"ca.crt": target.compass.ca_pem}, directory=directory)
    target.configure(target.compass.configuration())
    target.kubectl("--namespace", "kyma-system", "rollout", "status", "deployment/compass-runtime-agent")
    return target.wait_for_landscape()


def _check_that_all_is_gone(target: Target, before: set[str]) -> None:
    target.wait_for("the processes to end", lambda: not target.replicas())
    target.collect_secrets()
    left = target.wait_for("an end of what is going", lambda: stable_objects(target))
    assert not left - before
    assert not any("kyma-project.io" in name for name in left)


def test_no_copy_of_the_token_is_left(connected: Target, tmp_path: Path) -> None:
    """The documented ways to give it leave none in an annotation, and the command for an earlier way removes one."""
    values = connected.compass.configuration()
    establish = block("tutorials/establish.md", "kubectl apply --server-side -f - <<EOT")
    for key, value in values.items():
        establish = re.sub(rf"(?m)^(\s*{key}: ).*$", rf"\g<1>{value}", establish)
    connected.remove(CONFIG_MAP, CONFIGURATION.name, CONFIGURATION.namespace)
    run(connected, establish, directory=tmp_path)
    assert LAST_APPLIED not in _annotations(connected, CONFIG_MAP)
    assert _data(connected) == values

    run(connected, establish.replace("--server-side ", "--server-side=false "), directory=tmp_path)
    assert values["TOKEN"] in _annotations(connected, CONFIG_MAP)[LAST_APPLIED]
    run(connected, block("tutorials/establish.md", "kubectl --namespace kyma-system annotate"), directory=tmp_path)
    assert LAST_APPLIED not in _annotations(connected, CONFIG_MAP)
    assert _data(connected) == values

    (tmp_path / "compass.env").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    run(connected, block("tutorials/establish.md", "kubectl --namespace kyma-system create secret"), directory=tmp_path)
    assert LAST_APPLIED not in _annotations(connected, SECRET)
    assert connected.secret(CONFIGURATION) == values
    assert not (tmp_path / "compass.env").exists()


def _annotations(target: Target, resource: Resource) -> dict[str, str]:
    found = target.client.get(resource, CONFIGURATION.name, namespace=CONFIGURATION.namespace)
    annotations: dict[str, str] = found["metadata"].get("annotations") or {}
    return annotations


def _data(target: Target) -> dict[str, str]:
    data: dict[str, str] = target.client.get(CONFIG_MAP, CONFIGURATION.name, namespace=CONFIGURATION.namespace)["data"]
    return data
