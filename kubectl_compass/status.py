"""`kubectl compass status` and `list`: the connection, and the Applications that Compass manages."""

import threading
from collections.abc import Mapping
from typing import Any

from controller import fields
from controller.commands.report import HEALTHY, UNHEALTHY, Certificate, lines
from controller.commands.report import report as report_of_agent
from controller.connection import status as cc
from controller.fields import member
from controller.resources import APPLICATION, DELETION_HELD, SYNC_STATUS, SYNCED
from controller.runtime.events import EVENTS
from controller.settings import Settings, SettingsError
from controller.text import clean
from informers import ConnectionFailed, Forbidden, ServerError, TooManyRequests
from kubectl_compass.cluster import Cluster, no_agent
from kubectl_compass.terminal import Terminal

PASSING = (ConnectionFailed, ServerError, TooManyRequests)
"""Errors of an API server that is restarted or busy; the others stay."""

_WATCH_SECONDS = 1.0
_EVENTS_NAMESPACE = "default"  # that of Events about objects without a namespace
_PAGE = 500
_MAX_ROW = 256
_MAX_TEXT = 1024

_NO_DEPLOYMENT = "no Deployment in this namespace"
_HELD = "its deletion waits for a confirmation: kubectl compass confirm-deletions"
_DELETING = "Deleting"

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
    settings, invalid = Settings(), []
    try:
        settings = cluster.settings
    except SettingsError as error:
        invalid = error.problems
    found = report_of_agent(connection, _certificate(connection), settings, now=terminal.clock.time())
    runtime = member(member(connection, "status"), "runtime")
    found["runtime"], found["tenant"] = runtime.get("id"), runtime.get("tenant")
    found["deletions"] = _deletions(cluster, found["state"])
    found["leader"] = None if invalid else cluster.leader() or None
    found["replicas"] = replicas = cluster.replicas
    found["agent"] = agent = cluster.agent
    elects = settings.leader_election and not (agent and agent["go_agent"])
    if invalid:
        found["problems"] += [f"the agent cannot start: {problem}" for problem in invalid]
    elif cluster.is_missing():
        found["problems"].append(f"{no_agent(cluster)}. What is shown is the last status that an agent has written")
    elif elects and not found["leader"]:
        found["problems"].append("no replica holds the Lease, so no replica works")
    if replicas and not replicas["ready"]:
        found["problems"].append(f"none of {replicas['wanted']} replicas is ready")
    found["healthy"] = not found["problems"]
    return found


def _deletions(cluster: Cluster, state: object) -> dict[str, int] | None:
    """How many Applications wait for a confirmation of their deletion, and for other components' finalizers.

    None if that is not known: the state shows none, or they may not be listed.
    """
    if state != cc.ConnectionState.RESOURCE_APPLICATION_FAILED:
        return None
    try:
        managed = [_sync(obj, is_failing=False) for obj in applications(cluster)]
    except Forbidden:
        return None
    return {"held": managed.count(DELETION_HELD), "deleting": managed.count(_DELETING)}


def _certificate(connection: Object | None) -> Certificate | str:
    stored = member(member(member(connection, "status"), "connectionStatus"), "certificateStatus")
    begin, end = cc.parse_timestamp(stored.get("notBefore")), cc.parse_timestamp(stored.get("notAfter"))
    if begin is None or end is None:
        return "none in the status of the CompassConnection"
    return Certificate(not_before=begin, not_after=end)


def _agent(agent: Mapping[str, Any] | None) -> str:
    if agent is None:
        return _NO_DEPLOYMENT
    if agent["go_agent"]:
        return f"the Go agent, image {agent['image']}"
    version = f"version {agent['version']}, commit {agent['commit']}" if agent["version"] else "version unknown"
    return f"{version}, image {agent['image']}"


def show_report(terminal: Terminal, found: Mapping[str, Any]) -> None:
    def people() -> list[str]:
        rows = lines(found, terminal.clock.time())
        replicas = found["replicas"]
        ready = f"{replicas['ready']} of {replicas['wanted']} ready" if replicas else _NO_DEPLOYMENT
        at = next((number for number, row in enumerate(rows) if row.startswith("Problem:")), len(rows))
        added = [("Agent", _agent(found["agent"])), ("Leader", found["leader"] or "none"), ("Replicas", ready)]
        if (deletions := found["deletions"]) and any(deletions.values()):
            held = f"{deletions['held']} to be confirmed (kubectl compass confirm-deletions)"
            added.insert(0, ("Deletions", f"{held}, {deletions['deleting']} waiting for finalizers"))
        own = [f"{name + ':':<14}{clean(text, _MAX_ROW)}" for name, text in added]
        return [*rows[:at], *own, *rows[at:]]

    terminal.show(found, lines=people)


def situation(connection: Object | None) -> str:
    """State and errors in one line."""
    if connection is None:
        return "there is no CompassConnection"
    stored = member(connection, "status")
    text = str(stored.get("connectionState") or "the agent has not written a state yet")
    counts = member(stored, "applications")
    if text == cc.ConnectionState.SYNCHRONIZED and counts:
        text = f"{text}: {counts.get('synced', 0)} of {counts.get('desired', 0)} Applications are in sync"
    part = "connectionStatus" if text in cc.FAILED_CONNECTION_STATES else "synchronizationStatus"
    error = member(stored, part).get("error")
    return f"{text}: {error}" if error else text


def list_applications(cluster: Cluster, terminal: Terminal) -> int:
    """Print the Applications. Returns 0 if all are in sync, else 1."""
    rows = _rows(cluster)
    terminal.show({"applications": rows}, lines=lambda: _table(rows))
    return 0 if all(row["sync"] == SYNCED for row in rows) else 1


def applications(cluster: Cluster) -> list[Object]:
    """All Applications, those of users too."""
    return _all(cluster, APPLICATION)


def is_held(application: Object) -> bool:
    """Whether its deletion waits for a confirmation."""
    return _sync(application, is_failing=False) == DELETION_HELD


def _rows(cluster: Cluster) -> list[dict[str, str]]:
    """The managed Applications, and failing ones that do not exist or belong to a user.

    `reason`: of the last warning about the Application; "" if it is in sync or no warning is known.
    """
    status = fields.member(fields.member(cluster.connection(), "status"), "applications")
    named = status.get("failing")
    failing = {str(name) for name in named} if isinstance(named, list) else set()
    existing = {obj["metadata"]["name"]: obj for obj in applications(cluster)}
    found = {name: sync for name, obj in existing.items() if (sync := _sync(obj, name in failing))}
    found |= dict.fromkeys(failing - existing.keys(), "Missing")
    reasons = _reasons(cluster) if set(found.values()) - {SYNCED} else {}

    def reason(name: str, sync: str) -> str:
        if sync in (SYNCED, DELETION_HELD):
            return _HELD if sync == DELETION_HELD else ""
        return reasons.get((name, str(fields.member(existing.get(name), "metadata").get("uid") or "")), "")

    return [{"name": name, "sync": sync, "reason": reason(name, sync)} for name, sync in sorted(found.items())]


def _sync(application: Object, is_failing: bool) -> str:
    """Empty for an Application of a user."""
    if not fields.spec(application).get("compassMetadata"):
        return "NotManaged" if is_failing else ""
    if application["metadata"].get("deletionTimestamp"):
        return _DELETING
    annotated = str(fields.annotations(application).get(SYNC_STATUS, SYNCED))
    return "Failed" if annotated == SYNCED and is_failing else annotated


def _reasons(cluster: Cluster) -> Mapping[tuple[str, str], str]:
    """The message of the last warning about each Application, by name and uid; none if Events may not be read.

    An earlier Application with the same name has another uid, one that could not be created has none.
    """
    selector = f"involvedObject.kind={APPLICATION.kind},type=Warning"
    try:
        events = _all(cluster, EVENTS, namespace=_EVENTS_NAMESPACE, field_selector=selector)
    except Forbidden:
        return {}
    events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    about = [fields.member(event, "involvedObject") for event in events]
    return {
        (str(obj.get("name")), str(obj.get("uid") or "")): f"{event.get('reason')}: {event.get('message')}"
        for obj, event in zip(about, events, strict=True)
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


def _table(rows: list[dict[str, str]]) -> list[str]:
    if not rows:
        return ["no Application is managed by Compass"]
    cells = [("NAME", "SYNC", "REASON"), *(tuple(clean(text, _MAX_TEXT) for text in row.values()) for row in rows)]
    name, sync = (max(len(row[column]) for row in cells) for column in (0, 1))
    return [f"{row[0]:<{name}}  {row[1]:<{sync}}  {row[2]}".rstrip() for row in cells]
