"""`kubectl compass status` and `list`: the connection, and the Applications that Compass manages."""

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from controller import fields
from controller.commands.report import HEALTHY, UNHEALTHY, Certificate, lines
from controller.commands.report import report as report_of_agent
from controller.connection import status as cc
from controller.fields import member
from controller.resources import APPLICATION, COMPONENT, SYNC_STATUS, SYNCED
from controller.runtime.events import EVENTS
from controller.text import clean
from informers import ConnectionFailed, Forbidden, ServerError, TooManyRequests
from kubectl_compass.cluster import Cluster
from kubectl_compass.terminal import Terminal

PASSING = (ConnectionFailed, ServerError, TooManyRequests)
"""Errors of an API server that is restarted or busy; the others stay."""

_WATCH_SECONDS = 1.0
_EVENTS_NAMESPACE = "default"  # that of Events about objects without a namespace
_PAGE = 500
_MAX_ROW = 256
_MAX_NAME = 253
_MAX_TEXT = 1024

Object = dict[str, Any]


def status(cluster: Cluster, terminal: Terminal) -> int:
    """Print the report. Returns the exit status."""
    found = report(cluster, terminal)
    show_report(terminal, found)
    return HEALTHY if found["healthy"] else UNHEALTHY


def watch(cluster: Cluster, terminal: Terminal) -> int:
    """Print the report, and then each change, until it is interrupted: for people a line, else the whole report."""
    never, shown, line = threading.Event(), None, ""
    while True:
        try:
            found = report(cluster, terminal)
            now = _in_one_line(found, situation(cluster.connection()))
        except PASSING as error:
            terminal.say(f"kubectl compass: {error}")
        else:
            if shown is None or (found != shown and terminal.output != "text"):
                show_report(terminal, found)
            elif now != line:
                print(f"{cc.timestamp(terminal.clock.time())}  {now}", file=terminal.out, flush=True)
            shown, line = found, now
        terminal.clock.sleep(_WATCH_SECONDS, never)
        cluster.refresh()


def _in_one_line(found: Mapping[str, Any], situation: str) -> str:
    replicas = found["replicas"]
    ready = f"; {replicas['ready']} of {replicas['wanted']} replicas ready" if replicas else ""
    return clean(f"{situation}; leader {found['leader'] or 'none'}{ready}", _MAX_TEXT)


def report(cluster: Cluster, terminal: Terminal) -> dict[str, Any]:
    """The report of the agent's own `status`, made from the CompassConnection, with leader and replicas."""
    connection = cluster.connection()
    found = report_of_agent(connection, _certificate(connection), cluster.settings, now=terminal.clock.time())
    runtime = member(member(connection, "status"), "runtime")
    found["runtime"], found["tenant"] = runtime.get("id"), runtime.get("tenant")
    replicas = cluster.replicas
    found["leader"] = cluster.leader() or None
    found["replicas"] = None if replicas is None else {"wanted": replicas.wanted, "ready": replicas.ready}
    agent = cluster.agent
    found["agent"] = None if agent is None else asdict(agent)
    if cluster.is_missing():
        found["problems"].append(no_agent(cluster))
    elif agent is not None and agent.go_agent:
        pass  # it elects no leader
    elif cluster.settings.leader_election and not found["leader"]:
        found["problems"].append("no replica holds the Lease, so no replica works")
    if replicas is not None and not replicas.ready:
        found["problems"].append(f"none of {replicas.wanted} replicas is ready")
    found["healthy"] = not found["problems"]
    return found


def no_agent(cluster: Cluster) -> str:
    """Why nothing can be asked of the agent, if it is missing."""
    where = f"there is no Deployment {COMPONENT} in the namespace {cluster.namespace}"
    return f"{where}; name that of the agent with --namespace"


def _certificate(connection: Object | None) -> Certificate | str:
    told = member(member(member(connection, "status"), "connectionStatus"), "certificateStatus")
    begin, end = cc.parse_timestamp(told.get("notBefore")), cc.parse_timestamp(told.get("notAfter"))
    if begin is None or end is None:
        return "the CompassConnection has no certificate in its status"
    return Certificate(not_before=begin, not_after=end)


def _agent(agent: Mapping[str, Any] | None) -> str:
    if agent is None:
        return "not a Deployment"
    if agent["go_agent"]:
        return f"the Go agent, image {agent['image']}"
    version = f"version {agent['version']}, commit {agent['commit']}" if agent["version"] else "version unknown"
    return f"{version}, image {agent['image']}"


def show_report(terminal: Terminal, found: Mapping[str, Any]) -> None:
    def people() -> list[str]:
        rows = lines(found, terminal.clock.time())
        replicas = found["replicas"]
        told = f"{replicas['ready']} of {replicas['wanted']} ready" if replicas else "not a Deployment"
        at = next((number for number, row in enumerate(rows) if row.startswith("Problem:")), len(rows))
        added = (("Agent", _agent(found["agent"])), ("Leader", found["leader"] or "none"), ("Replicas", told))
        own = [f"{name + ':':<14}{clean(text, _MAX_ROW)}" for name, text in added]
        return [*rows[:at], *own, *rows[at:]]

    terminal.show(found, lines=people)


def situation(connection: Object | None) -> str:
    """State and errors in one line."""
    if connection is None:
        return "there is no CompassConnection"
    told = member(connection, "status")
    text = str(told.get("connectionState") or "the agent has not told a state yet")
    counts = member(told, "applications")
    if text == cc.ConnectionState.SYNCHRONIZED and counts:
        text = f"{text}: {counts.get('synced', 0)} of {counts.get('desired', 0)} Applications are in sync"
    part = "connectionStatus" if text in cc.CONNECTION_LOST else "synchronizationStatus"
    error = member(told, part).get("error")
    return f"{text}: {error}" if error else text


@dataclass(frozen=True)
class Row:
    """`reason`: of the last warning about the Application; "" if it is in sync or no warning is known."""

    name: str
    sync: str
    reason: str


def list_applications(cluster: Cluster, terminal: Terminal) -> int:
    """Print the Applications. Returns 0 if all are in sync, else 1."""
    rows = _rows(cluster)
    terminal.show({"applications": [vars(row) for row in rows]}, lines=lambda: _table(rows))
    return 0 if all(row.sync == SYNCED for row in rows) else 1


def _rows(cluster: Cluster) -> list[Row]:
    """The managed Applications, and the names of failing ones that could not be created."""
    status = fields.member(fields.member(cluster.connection(), "status"), "applications")
    named = status.get("failing")
    failing = {str(name) for name in named} if isinstance(named, list) else set()
    found = {obj["metadata"]["name"]: _sync(obj) for obj in _all(cluster, APPLICATION) if _is_managed(obj)}
    found = {name: "Failed" if sync == SYNCED and name in failing else sync for name, sync in found.items()}
    found |= dict.fromkeys(failing - found.keys(), "Missing")
    reasons = _reasons(cluster) if set(found.values()) - {SYNCED} else {}
    return [Row(name, sync, "" if sync == SYNCED else reasons.get(name, "")) for name, sync in sorted(found.items())]


def _is_managed(application: Object) -> bool:
    return bool(fields.spec(application).get("compassMetadata"))


def _sync(application: Object) -> str:
    return str(fields.annotations(application).get(SYNC_STATUS, SYNCED))


def _reasons(cluster: Cluster) -> Mapping[str, str]:
    """The message of the last warning about each Application; none if Events may not be read."""
    selector = f"involvedObject.kind={APPLICATION.kind},type=Warning"
    try:
        events = _all(cluster, EVENTS, namespace=_EVENTS_NAMESPACE, field_selector=selector)
    except Forbidden:
        return {}
    events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return {
        str(fields.member(event, "involvedObject").get("name")): f"{event.get('reason')}: {event.get('message')}"
        for event in events
    }


def _all(cluster: Cluster, resource: Any, **selection: Any) -> list[Object]:
    found: list[Object] = []
    continue_ = ""
    while True:
        page = cluster.client.list(resource, limit=_PAGE, continue_=continue_, **selection)
        found += page["items"]
        continue_ = page["metadata"].get("continue") or ""
        if not continue_:
            return found


def _table(rows: list[Row]) -> list[str]:
    if not rows:
        return ["no Application is managed by Compass"]
    cells = [("NAME", "SYNC", "REASON")]
    cells += [(clean(row.name, _MAX_NAME), clean(row.sync, _MAX_NAME), clean(row.reason, _MAX_TEXT)) for row in rows]
    name, sync = (max(len(row[column]) for row in cells) for column in (0, 1))
    return [f"{row[0]:<{name}}  {row[1]:<{sync}}  {row[2]}".rstrip() for row in cells]
