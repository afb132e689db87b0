"""Who changed this, and when: what the log, the command line and the metrics tell."""

import json
import re
from operator import itemgetter
from typing import Any

from controller.resources import APPLICATION, SECRET
from e2e.cluster import CLUSTER_SECRET
from e2e.mock_compass.examples import landscape
from e2e.scenarios import messages
from e2e.scenarios.target import Target

ERP = "mp-harbour-logistics-erp"
MOVED = "Moved, which is no business of the log"
EDITED = "Edited by hand, which is none either"

Line = dict[str, Any]


def test_each_write_is_a_log_line_without_values(connected: Target) -> None:
    """Each write is a line: what, why, which fields, after which fetch. It holds no value. Here as JSON, with debug."""
    with connected.settings(LOG_FORMAT="json", LOG_LEVEL="debug"):
        connected.wait_for_leader()
        connected.wait_for_landscape()
        application = next(one for one in landscape() if one["name"] == "Harbour Logistics ERP")
        secret = next(name for name, obj in connected.secrets().items() if obj["metadata"]["labels"]["app"] == ERP)

        connected.compass.change(application["id"], description=MOVED)
        updated = _wait_for_write(connected, messages.UPDATED, "Application", ERP)
        assert "spec.description" in updated["fields"]
        connected.kubectl("annotate", "application", ERP, f"note={EDITED}")
        patch = json.dumps({"spec": {"description": EDITED}})
        connected.kubectl("patch", "application", ERP, "--type=merge", "--patch", patch)
        undone = _wait_for_write(connected, messages.UPDATED, "Application", ERP, after=updated)
        assert undone["fields"] == updated["fields"]
        connected.client.delete(SECRET, secret, namespace="kyma-system")
        again = _wait_for_write(connected, messages.CREATED, "Secret", f"kyma-system/{secret}")
        connected.client.delete(APPLICATION, ERP)
        created = _wait_for_write(connected, messages.CREATED, "Application", ERP)
        connected.compass.unassign(application["id"])
        deleted = _wait_for_write(connected, messages.DELETED, "Application", ERP)

        asked = {request["request_id"] for request in connected.compass.call("GET", "/requests")}
        for line in (updated, undone, again, created, deleted):
            assert line["reason"]
            assert line["requestID"] in asked

        before = connected.secret(CLUSTER_SECRET)
        patch = json.dumps({"spec": {"refreshCredentialsNow": True}})
        connected.kubectl("patch", "cc", "compass-connection", "--type=merge", "--patch", patch)
        connected.wait_for("another certificate", lambda: connected.secret(CLUSTER_SECRET) != before)
        renewing = _wait_for(connected, messages.RENEWING)
        assert renewing["reason"]
        assert renewing["requestID"] in {
            request["request_id"] for request in connected.compass.call("GET", "/requests")
        }
        assert _wait_for(connected, messages.RENEWED)["fingerprint"]

        lines = _lines(connected)
        assert all(line["timestamp"] and line["level"] and line["message"] for line in lines)
        assert {"DEBUG", "INFO"} <= {line["level"].upper() for line in lines}
        for text in connected.logs().values():
            assert MOVED not in text
            assert EDITED not in text


def test_version_and_commit_are_told_everywhere(connected: Target) -> None:
    """Version and commit are in the first line, in --version, in a metric and in the image. No series is _created."""
    said = re.fullmatch(r"compass-runtime-agent (\S+) \(commit (\S+)\)", connected.command("--version").strip())
    assert said
    version, commit = said.groups()
    labels = connected.image_labels()
    assert not labels or labels["org.opencontainers.image.version"] == version
    assert not labels or labels["org.opencontainers.image.revision"] == commit
    for replica in connected.replicas():
        first = connected.logs()[replica].splitlines()[0]
        assert f"version={version} commit={commit}" in first
        assert "=2s" in first
        assert "None" not in first
        metrics = connected.ask(replica, "metrics")
        assert f'compass_runtime_agent_build_info{{commit="{commit}",version="{version}"}} 1' in metrics
        assert "_created" not in metrics


def _lines(target: Target) -> list[Line]:
    """Of all replicas, in order."""
    logs = target.logs()
    lines = [json.loads(line) for replica in target.replicas() for line in logs[replica].splitlines()]
    return sorted(lines, key=itemgetter("timestamp"))


def _wait_for(target: Target, message: str) -> Line:
    def found() -> Line:
        return next((line for line in _lines(target) if line["message"] == message), {})

    return target.wait_for(f"the line {message!r}", found)


def _wait_for_write(target: Target, what: str, kind: str, name: str, *, after: Line | None = None) -> Line:
    """The first line of that write; with `after`, the first that follows that one."""
    wanted = {"message": what, "kind": kind, "object": name}

    def found() -> Line:
        lines = _lines(target)
        begin = 0 if after is None else lines.index(after) + 1
        return next((line for line in lines[begin:] if wanted.items() <= line.items()), {})

    return target.wait_for(f"a line {what} {kind} {name}", found)
