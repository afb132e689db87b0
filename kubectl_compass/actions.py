"""The commands status, pair, resync, renew and reconnect.

The last four write a request to the API server, wait for its result, and print the report of `status`.
"""

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from controller.commands.report import HEALTHY, UNHEALTHY, Certificate, lines
from controller.commands.report import report as report_of_agent
from controller.connection import status as cc
from controller.fields import member
from controller.resources import COMPASS_CONNECTION, COMPONENT, CONNECTION_NAME
from controller.text import clean
from informers import NotFound
from kubectl_compass import pairing
from kubectl_compass.desk import Desk
from kubectl_compass.output import show
from kubectl_compass.pairing import Unusable
from kubectl_compass.waiting import PASSING, Done, Progress, TimedOut, Waiting, situation

_ASK_AGAIN_SECONDS = 10.0
_WATCH_SECONDS = 1.0
_MAX_TEXT = 256
_MAX_LINE = 1024

Object = dict[str, Any]


class Failed(Exception):
    """The request cannot be fulfilled. The text has the reason."""


def status(desk: Desk) -> int:
    """Print the report. Returns the exit status."""
    found = report(desk)
    _show(desk, found)
    return HEALTHY if found["healthy"] else UNHEALTHY


def watch(desk: Desk) -> int:
    """Print the report, and then each change, until it is interrupted: for people a line, else the whole report."""
    never, shown, line = threading.Event(), None, ""
    while True:
        try:
            found = report(desk)
            now = _in_one_line(found, situation(desk.cluster.connection()))
        except PASSING as error:
            print(f"kubectl compass: {clean(str(error), _MAX_LINE)}", file=desk.err, flush=True)
        else:
            if shown is None or (found != shown and desk.output != "text"):
                _show(desk, found)
            elif now != line:
                print(f"{cc.timestamp(desk.clock.time())}  {now}", file=desk.out, flush=True)
            shown, line = found, now
        desk.clock.sleep(_WATCH_SECONDS, never)
        desk.cluster.refresh()


def _in_one_line(found: Mapping[str, Any], situation: str) -> str:
    replicas = found["replicas"]
    ready = f"; {replicas['ready']} of {replicas['wanted']} replicas ready" if replicas else ""
    return clean(f"{situation}; leader {found['leader'] or 'none'}{ready}", _MAX_LINE)


def pair(desk: Desk, token: str, addresses: Mapping[str, str]) -> int:
    """Store the token and wait for a working connection. Raises Unusable if nothing was changed.

    `addresses`: those of CONNECTOR_URL, RUNTIME_ID and TENANT that are given.
    """
    _assert_agent(desk)
    before = desk.cluster.connection()
    state = cc.state_of(before)
    if state is not None and state not in cc.CONNECTION_LOST:
        raise Unusable(
            "nothing was changed: the connection works, so the agent would leave the token alone. To pair anew: "
            "kubectl compass reconnect --token-stdin"
        )
    named = pairing.named_in_connection(before)
    if named:
        raise Unusable(
            f"nothing was changed: the CompassConnection {named}, which wins over the Secret that this command writes; "
            f"put the token there, or remove spec.pairing"
        )
    progress = Progress(desk.err, desk.clock)
    _store(desk, token, addresses, progress)
    established = _established(before)

    def paired(connection: Object | None) -> bool:
        # Times in the status are whole seconds, and a failed connection works only after a pairing.
        anew = state is cc.State.CONNECTION_FAILED or _established(connection) != established
        return _is_synchronized(connection) and anew

    return _conclude(desk, desk.waiting(progress, before), paired)


def resync(desk: Desk) -> int:
    """Request a synchronisation and wait for its result."""
    before = _connected(desk)
    progress = Progress(desk.err, desk.clock)
    _ask(desk, "resyncNow")
    progress.say("asked the agent for a sync (spec.resyncNow)")
    waiting = desk.waiting(progress, before)
    request = _Request(desk, "resyncNow", "synchronizationStatus", before, progress)
    return _conclude(desk, waiting, request.is_answered, wanted=_is_synchronized)


def renew(desk: Desk) -> int:
    """Request a new certificate and wait for it."""
    before = _connected(desk)
    renewed = member(member(before, "status"), "connectionStatus").get("renewed")
    progress = Progress(desk.err, desk.clock)
    _ask(desk, "refreshCredentialsNow")
    progress.say("asked the agent for a new certificate (spec.refreshCredentialsNow)")

    def done(connection: Object | None) -> bool:
        now = member(member(connection, "status"), "connectionStatus").get("renewed")
        return now not in (None, renewed) and not cc.flag(connection, "refreshCredentialsNow")

    return _conclude(desk, desk.waiting(progress, before), done)


def reconnect(desk: Desk, token: str) -> int:
    """Delete the CompassConnection, which requests a new pairing, and wait for it. `token`: "" for none.

    Without a token that is not used yet, the agent keeps the certificate. That is a failure of this command.
    """
    before = _existing(desk)
    progress = Progress(desk.err, desk.clock)
    if token:
        _store(desk, token, {}, progress)
    uid, established = before["metadata"]["uid"], _established(before)
    desk.cluster.client.delete(COMPASS_CONNECTION, CONNECTION_NAME, uid=uid)
    progress.say("deleted the CompassConnection, so that the agent pairs again")

    def synchronized(connection: Object | None) -> bool:
        return connection is not None and connection["metadata"]["uid"] != uid and _is_synchronized(connection)

    def paired(connection: Object | None) -> bool:
        told = _established(connection)
        created = cc.parse_timestamp(member(connection, "metadata").get("creationTimestamp"))
        # Times in the status are whole seconds: a pairing may have that of the one before it.
        if told != established or (created is not None and (cc.parse_timestamp(told) or 0) >= created):
            return True
        progress.say(
            "nothing was paired: there is no one-time token that was not used before, so the agent keeps the "
            "certificate. With a new token: kubectl compass reconnect --token-stdin"
        )
        return False

    return _conclude(desk, desk.waiting(progress, before), synchronized, wanted=paired)


class _Request:
    """A flag of the spec. It is fulfilled when the agent has removed it and a part of the status has changed after
    that.

    Times in the status are whole seconds. A synchronisation in the same second as the one before, with the same result,
    does not change the status. So the flag is set again if there is no change for a while.
    """

    def __init__(self, desk: Desk, flag: str, part: str, before: Object, progress: Progress) -> None:
        self._progress = progress
        self._desk, self._flag, self._part = desk, flag, part
        self._known = self._outcome(before)
        self._begun_at: float | None = None
        self._asked_again = False

    def is_answered(self, connection: Object | None) -> bool:
        outcome = self._outcome(connection)
        if self._begun_at is None:
            if cc.flag(connection, self._flag):
                self._known = outcome  # the result of work that began earlier
                return False
            self._begun_at = self._desk.clock.monotonic()
            self._progress.step("the agent has begun")
        if outcome != self._known:
            return True
        late = self._desk.clock.monotonic() - self._begun_at >= _ASK_AGAIN_SECONDS
        if late and not self._asked_again:
            self._asked_again = True
            _ask(self._desk, self._flag)
        return False

    def _outcome(self, connection: Object | None) -> object:
        return member(member(connection, "status"), self._part)


def _existing(desk: Desk) -> Object:
    _assert_agent(desk)
    connection = desk.cluster.connection()
    if connection is None:
        raise Failed(
            "there is no CompassConnection: no agent has run, or it may not create one; kubectl compass doctor"
        )
    return connection


def _connected(desk: Desk) -> Object:
    """The CompassConnection, if its agent can fulfil a request."""
    connection = _existing(desk)
    if cc.state_of(connection) is cc.State.CONNECTION_FAILED:
        raise Failed(f"nothing was requested, because there is no connection: {cc.connection_error(connection)}")
    return connection


def _assert_agent(desk: Desk) -> None:
    if desk.cluster.is_missing():
        raise Failed(f"nothing was changed: {_no_agent(desk)}")


def _no_agent(desk: Desk) -> str:
    namespace = desk.cluster.namespace
    return f"there is no Deployment {COMPONENT} in the namespace {namespace}; name that of the agent with --namespace"


def _ask(desk: Desk, flag: str) -> None:
    try:
        desk.cluster.client.patch(COMPASS_CONNECTION, CONNECTION_NAME, {"spec": {flag: True}})
    except NotFound as error:
        raise Failed("the CompassConnection was deleted meanwhile") from error


def _store(desk: Desk, token: str, addresses: Mapping[str, str], progress: Progress) -> None:
    stored = pairing.store(desk.cluster.client, desk.cluster.settings, {**addresses, "TOKEN": token})
    configured = stored.configuration
    progress.say(f"stored the one-time token for Runtime {configured.runtime_id} in the Secret {stored.secret}")
    progress.say(f"the agent sends it to {configured.connector_url}")
    if stored.hides:
        progress.say(f"this Secret is new, and has precedence over the ConfigMap {stored.hides} from now on")


def _is_synchronized(connection: Object | None) -> bool:
    return cc.state_of(connection) is cc.State.SYNCHRONIZED


def _established(connection: Object | None) -> object:
    return member(member(connection, "status"), "connectionStatus").get("established")


def _conclude(desk: Desk, waiting: Waiting, done: Done, *, wanted: Done = lambda _: True) -> int:
    """Wait and print the report. The exit status is 0 if the connection is as `wanted`."""
    try:
        came = wanted(waiting.until(done))
    except TimedOut as error:
        print(
            f"kubectl compass: {error}. The agent goes on trying; kubectl compass doctor looks for the cause.",
            file=desk.err,
        )
        came = False
    _show(desk, report(desk))
    return HEALTHY if came else UNHEALTHY


def report(desk: Desk) -> dict[str, Any]:
    """The report of the agent's own `status`, made from the CompassConnection, with leader and replicas."""
    cluster = desk.cluster
    connection = cluster.connection()
    found = report_of_agent(connection, _certificate(connection), cluster.settings, now=desk.clock.time())
    runtime = member(member(connection, "status"), "runtime")
    found["runtime"], found["tenant"] = runtime.get("id"), runtime.get("tenant")
    replicas = cluster.replicas
    found["leader"] = cluster.leader() or None
    found["replicas"] = None if replicas is None else {"wanted": replicas.wanted, "ready": replicas.ready}
    agent = cluster.agent
    found["agent"] = None if agent is None else asdict(agent)
    if cluster.is_missing():
        found["problems"].append(_no_agent(desk))
    elif agent is not None and agent.go_agent:
        pass  # it elects no leader
    elif cluster.settings.leader_election and not found["leader"]:
        found["problems"].append("no replica holds the Lease, so no replica works")
    if replicas is not None and not replicas.ready:
        found["problems"].append(f"none of {replicas.wanted} replicas is ready")
    found["healthy"] = not found["problems"]
    return found


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


def _show(desk: Desk, found: Mapping[str, Any]) -> None:
    def people() -> list[str]:
        rows = lines(found, desk.clock.time())
        replicas = found["replicas"]
        told = f"{replicas['ready']} of {replicas['wanted']} ready" if replicas else "not a Deployment"
        at = next((number for number, row in enumerate(rows) if row.startswith("Problem:")), len(rows))
        added = (("Agent", _agent(found["agent"])), ("Leader", found["leader"] or "none"), ("Replicas", told))
        own = [f"{name + ':':<14}{clean(text, _MAX_TEXT)}" for name, text in added]
        return [*rows[:at], *own, *rows[at:]]

    show(found, desk.output, desk.out, lines=people)
