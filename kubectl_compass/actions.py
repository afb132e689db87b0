"""The commands that change something: pair, resync, renew, reconnect, confirm-deletions, revoke.

All but the last write a request to the API server, wait at most `timeout` seconds for its result, and print the report
of `status`. A line on standard error shows each change of the CompassConnection meanwhile.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from controller.applications.deletions import CONFIRM_DELETIONS, fingerprint
from controller.commands.report import HEALTHY, UNHEALTHY
from controller.connection import status as cc
from controller.connection.configuration import has_spec_token
from controller.fields import annotations, member
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME
from controller.settings import format_duration
from informers import NotFound
from kubectl_compass import pairing
from kubectl_compass.cluster import Cluster, Failed, assert_agent, run
from kubectl_compass.pairing import Unusable
from kubectl_compass.status import PASSING, applications, is_held, report, show_report, situation
from kubectl_compass.terminal import Terminal

_RESYNC, _RENEW = "resyncNow", "refreshCredentialsNow"

_POLL_SECONDS = 0.5
_ASK_AGAIN_SECONDS = 10.0

_PAIR_ANEW = "With a new token: kubectl compass reconnect --token-stdin"

_REVOKE = (
    "Revoke the client certificate of this cluster? The Applications stay, but are not updated until a new one-time "
    "token is configured. [y/N] "
)

Object = dict[str, Any]
Done = Callable[[Object | None], bool]


def pair(cluster: Cluster, terminal: Terminal, token: str, addresses: Mapping[str, str], *, timeout: float) -> int:
    """Store the token and wait for a working connection. Raises Unusable if nothing was changed.

    `addresses`: those of CONNECTOR_URL, RUNTIME_ID and TENANT that are given.
    """
    assert_agent(cluster)
    before = cluster.connection()
    state = cc.state_of(before)
    if state is not None and state not in cc.FAILED_CONNECTION_STATES:
        raise Unusable(
            "nothing was changed: the connection works, so the agent would leave the token alone. To pair anew: "
            "kubectl compass reconnect --token-stdin"
        )
    if has_spec_token(before):
        raise Unusable(
            "nothing was changed: the CompassConnection has a token in spec.pairing, which has precedence over the "
            "Secret that this command writes; put the token there, or remove spec.pairing"
        )
    _store(cluster, terminal, token, addresses)
    established = _established(before)

    def paired(connection: Object | None) -> bool:
        # Times in the status are whole seconds, and a failed connection works only after a pairing.
        anew = state is cc.ConnectionState.CONNECTION_FAILED or _established(connection) != established
        return _is_synchronized(connection) and anew

    return _conclude(cluster, terminal, paired, known=before, timeout=timeout)


def resync(cluster: Cluster, terminal: Terminal, *, timeout: float) -> int:
    """Request a synchronisation and wait for its result."""
    before = _connected(cluster)
    _ask(cluster, _RESYNC)
    terminal.say("asked the agent for a sync (spec.resyncNow)")
    request = _Sync(
        terminal, before, is_pending=lambda now: cc.flag(now, _RESYNC), ask_again=lambda: _ask(cluster, _RESYNC)
    )
    return _conclude(cluster, terminal, request.is_answered, wanted=_is_synchronized, known=before, timeout=timeout)


def confirm_deletions(cluster: Cluster, terminal: Terminal, *, confirm: Callable[[str], bool], timeout: float) -> int:
    """Confirm the deletions that are held, if `confirm` returns true, and wait until the Applications are deleted."""
    before = _connected(cluster)
    held = {app["metadata"]["name"]: app["metadata"]["uid"] for app in applications(cluster) if is_held(app)}
    if not held:
        raise Failed("no deletion waits for a confirmation")
    if not confirm(f"Delete these {len(held)} Applications and their Secrets: {', '.join(sorted(held))}? [y/N] "):
        raise Failed("nothing was changed")
    _patch(cluster, {"metadata": {"annotations": {CONFIRM_DELETIONS: fingerprint(held)}}})
    terminal.say(f"confirmed the deletion of {len(held)} Applications")

    def deleted(_: Object | None) -> bool:
        return not held.items() & {(app["metadata"]["name"], app["metadata"]["uid"]) for app in applications(cluster)}

    request = _Sync(terminal, before, is_pending=lambda now: CONFIRM_DELETIONS in annotations(now or {}))
    return _conclude(cluster, terminal, request.is_answered, wanted=deleted, known=before, timeout=timeout)


def renew(cluster: Cluster, terminal: Terminal, *, timeout: float) -> int:
    """Request a new certificate and wait for it."""
    before = _connected(cluster)
    renewed = member(member(before, "status"), "connectionStatus").get("renewed")
    _ask(cluster, _RENEW)
    terminal.say("asked the agent for a new certificate (spec.refreshCredentialsNow)")

    def done(connection: Object | None) -> bool:
        now = member(member(connection, "status"), "connectionStatus").get("renewed")
        return now not in (None, renewed) and not cc.flag(connection, _RENEW)

    return _conclude(cluster, terminal, done, known=before, timeout=timeout)


def reconnect(cluster: Cluster, terminal: Terminal, token: str, *, timeout: float) -> int:
    """Delete the CompassConnection, which requests a new pairing, and wait for it. `token`: "" for none.

    Without a token that is not used yet, the agent keeps the certificate. That is a failure of this command.
    """
    before = _existing(cluster)
    if token:
        _store(cluster, terminal, token, {})
    uid, established = before["metadata"]["uid"], _established(before)
    cluster.client.delete(COMPASS_CONNECTION, CONNECTION_NAME, uid=uid)
    terminal.say("deleted the CompassConnection, so that the agent pairs again")

    def synchronized(connection: Object | None) -> bool:
        return connection is not None and connection["metadata"]["uid"] != uid and _is_synchronized(connection)

    def paired(connection: Object | None) -> bool:
        now = _established(connection)
        created = cc.parse_timestamp(member(connection, "metadata").get("creationTimestamp"))
        # Times in the status are whole seconds: a pairing may have that of the one before it.
        if now != established or (created is not None and (cc.parse_timestamp(now) or 0) >= created):
            return True
        terminal.say(
            "nothing was paired: there is no one-time token that was not used before, so the agent keeps the "
            f"certificate. {_PAIR_ANEW}"
        )
        return False

    hint = "" if token else f"The token that is configured may be used or expired. {_PAIR_ANEW}"
    return _conclude(cluster, terminal, synchronized, wanted=paired, known=before, timeout=timeout, hint=hint)


class _Sync:
    """A synchronisation that was asked for. It is done when the agent has removed the request and the result in the
    status has changed after that.

    Times in the status are whole seconds. A synchronisation in the same second as the one before, with the same result,
    does not change the status. So `ask_again` is called if there is no change for a while.
    """

    def __init__(
        self, terminal: Terminal, before: Object, *, is_pending: Done, ask_again: Callable[[], None] = lambda: None
    ) -> None:
        self._terminal, self._is_pending, self._ask_again = terminal, is_pending, ask_again
        self._known = self._outcome(before)
        self._begun_at: float | None = None
        self._asked_again = False

    def is_answered(self, connection: Object | None) -> bool:
        outcome = self._outcome(connection)
        now = self._terminal.clock.monotonic()
        if self._begun_at is None:
            if self._is_pending(connection):
                self._known = outcome  # the result of work that began earlier
                return False
            self._begun_at = now
            self._terminal.step("the agent has begun")
        if outcome != self._known:
            return True
        if now - self._begun_at >= _ASK_AGAIN_SECONDS and not self._asked_again:
            self._asked_again = True
            self._ask_again()
        return False

    def _outcome(self, connection: Object | None) -> object:
        return member(member(connection, "status"), "synchronizationStatus")


def _existing(cluster: Cluster) -> Object:
    assert_agent(cluster)
    connection = cluster.connection()
    if connection is None:
        raise Failed(
            "there is no CompassConnection: no agent has run, or it may not create one; kubectl compass doctor"
        )
    return connection


def _connected(cluster: Cluster) -> Object:
    """The CompassConnection, if its agent can fulfil a request."""
    connection = _existing(cluster)
    if cc.state_of(connection) is cc.ConnectionState.CONNECTION_FAILED:
        raise Failed(f"nothing was requested, because there is no connection: {cc.connection_error(connection)}")
    return connection


def _ask(cluster: Cluster, flag: str) -> None:
    _patch(cluster, {"spec": {flag: True}})


def _patch(cluster: Cluster, patch: Object) -> None:
    try:
        cluster.client.patch(COMPASS_CONNECTION, CONNECTION_NAME, patch)
    except NotFound as error:
        raise Failed("the CompassConnection was deleted meanwhile") from error


def _store(cluster: Cluster, terminal: Terminal, token: str, addresses: Mapping[str, str]) -> None:
    name = cluster.settings.configuration
    configured, hides = pairing.store(cluster.client, name, {**addresses, "TOKEN": token})
    terminal.say(f"stored the one-time token for Runtime {configured.runtime_id} in the Secret {name}")
    terminal.say(f"the agent sends it to {configured.connector_url}")
    if hides:
        terminal.say(f"this Secret is new, and has precedence over the ConfigMap {name} from now on")


def _is_synchronized(connection: Object | None) -> bool:
    return cc.state_of(connection) is cc.ConnectionState.SYNCHRONIZED


def _established(connection: Object | None) -> object:
    return member(member(connection, "status"), "connectionStatus").get("established")


def _conclude(
    cluster: Cluster,
    terminal: Terminal,
    done: Done,
    *,
    known: Object | None,
    timeout: float,
    wanted: Done = lambda _: True,
    hint: str = "",
) -> int:
    """Wait and print the report. The exit status is 0 if the connection is as `wanted`.

    `hint`: what to do if there is no connection in time.
    """
    terminal.say(f"waiting for the agent, at most {format_duration(timeout)}")
    try:
        came = wanted(wait(cluster.connection, done, terminal, known=known, timeout=timeout))
    except TimeoutError as error:
        is_lost = cc.state_of(cluster.connection()) in cc.FAILED_CONNECTION_STATES
        advice = hint if hint and is_lost else "kubectl compass doctor looks for the cause."
        terminal.say(f"kubectl compass: {error}. The agent goes on trying. {advice}")
        came = False
    show_report(terminal, report(cluster, terminal))
    return HEALTHY if came else UNHEALTHY


def wait(
    read: Callable[[], Object | None], done: Done, terminal: Terminal, *, known: Object | None, timeout: float
) -> Object | None:
    """Wait for a CompassConnection for which `done` is true. Raises TimeoutError, or ApiError for a permanent error.

    `known`: the CompassConnection before the request, which is not shown as a change.
    """
    clock, never = terminal.clock, threading.Event()
    deadline = clock.monotonic() + timeout
    shown = situation(known)
    changed = False
    while True:
        connection, is_done = None, False
        try:
            connection = read()
        except PASSING as error:
            text = f"the API server does not answer: {error}"
        else:
            text = situation(connection)
            is_done = done(connection)
        if text != shown or (is_done and not changed):  # the end is shown in any case
            terminal.step(text)
            shown, changed = text, True
        if is_done:
            return connection
        if clock.monotonic() >= deadline:
            raise TimeoutError(f"not within {format_duration(timeout)}")
        clock.sleep(_POLL_SECONDS, never)


def revoke(cluster: Cluster, terminal: Terminal, *, confirm: Callable[[str], bool]) -> int:
    """Run `revoke` of the agent in the leader's Pod if `confirm` returns true. Returns its exit status."""
    assert_agent(cluster)
    if not confirm(_REVOKE):
        raise Failed("nothing was changed")
    text = terminal.output == "text"
    command = cluster.in_pod(cluster.leader_target() or "deployment/compass-runtime-agent", "revoke", "--yes")
    code = run(command, stdout=None if text else sys.stderr)
    if not text:
        terminal.show({"revoked": code == 0, **report(cluster, terminal)}, lines=list)
    return code
