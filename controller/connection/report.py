"""Writes the connection's part of the status, and its Events.

The sync adds the time at which the Connector accepted the certificate, and `revoke` its result.

The report is a function of the state and the problem. A problem is reported when it changes, so a repeated failure
leads to one write and one Event.
"""

import logging
from collections.abc import Mapping
from typing import Any

from controller.connection import status
from controller.connection.configuration import (
    has_spec_token,
    remove_applied_token,
    remove_token,
)
from controller.connection.problem import Kind, Problem, describe_refusals
from controller.connection.state import NewCredentials, State, certificate_label, configuration_label
from controller.connection.store import ConnectionStore
from controller.resources import CONNECTION_NAME
from controller.runtime.events import EventRecorder, EventType

log = logging.getLogger(__name__)

Object = dict[str, Any]

_WITHOUT_EVENT = frozenset({Kind.REVOCATION_UNFINISHED})
"""A normal state during `revoke`."""


class Reporter:
    """Not thread-safe: one worker reports.

    `_problem` and `_warnings`: the last report. The problem has the id of the first failed call; those of later calls
    do not lead to a write.
    """

    def __init__(self, connections: ConnectionStore, recorder: EventRecorder) -> None:
        self._connections = connections
        self._recorder = recorder
        self._problem: Problem | None = None
        self._warnings: tuple[Problem, ...] = ()

    def report(self, state: State, problem: Problem | None, warnings: tuple[Problem, ...]) -> bool:
        """Write the changes. Returns whether there is a CompassConnection to write to.

        Raises informers.ApiError; then the next call writes everything.
        """
        if problem == self._problem:
            problem = self._problem
        written = self._connections.apply_to(state.connection, lambda obj: _write(obj, state, problem, warnings))
        if written is None:
            return False
        self._announce(written, state, problem, warnings)
        self._problem, self._warnings = problem, warnings
        return True

    def report_internal_error(self, problem: Problem, now: float) -> None:
        """A defect of the agent, for which there is no state. Raises informers.ApiError."""
        connection = self._connections.get(CONNECTION_NAME)
        written = self._connections.apply_to(connection, lambda obj: _write_problem(obj, problem, now=now))
        if written is not None and problem != self._problem:
            self._emit(written, problem.kind, problem.text())
            self._problem = problem

    def ignore(self, name: str) -> None:
        """Report that a CompassConnection with another name has no effect."""
        connection = self._connections.get(name)
        if connection is None:
            return
        text = f"Only the CompassConnection {CONNECTION_NAME} is used; this one has no effect"
        self._emit(connection, "Ignored", text)
        log.warning("CompassConnection ignored", extra={"connection": name, "served": CONNECTION_NAME})

    def _announce(self, written: Object, state: State, problem: Problem | None, warnings: tuple[Problem, ...]) -> None:
        before, done = state.connection, state.memory.unreported
        if state.is_usable and done is not None:
            until = status.timestamp(state.credentials.not_after)
            if not done.renewed_because:
                known = state.registration
                text = f"Paired with Compass through {known.origin} as Runtime {known.runtime_id}"
                self._emit(written, "Connected", f"{text}; the certificate is valid until {until}", kind="Normal")
            else:
                text = f"Renewed because {done.renewed_because}; the certificate is valid until {until}"
                self._emit(written, "CertificateRenewed", text, kind="Normal")
        elif problem is None and _has_failed(before) and not _revocation_is_done(before, state):
            text = "The credentials are valid, and the Connector accepts the certificate"
            self._emit(written, "ConnectionRestored", text, kind="Normal")
        if problem is not None and problem != self._problem and not _is_written(before, problem):
            call = {"requestID": problem.request_id} if problem.request_id else {}
            log.warning("Connection to Compass failed", extra={"error": problem.text(with_id=True), **call})
            self._emit(written, problem.kind, problem.text())
        for warning in warnings:
            if warning.kind not in _WITHOUT_EVENT and warning not in self._warnings:
                self._emit(written, warning.kind, warning.text())

    def _emit(self, obj: Object, reason: str, text: str, *, kind: EventType = "Warning") -> None:
        self._recorder.event(obj, kind, reason, text)


def _write(obj: Object, state: State, problem: Problem | None, warnings: tuple[Problem, ...]) -> None:
    if not has_spec_token(obj):
        remove_applied_token(obj)
    if state.stored_pairing is not None and state.stored_pairing.is_from_spec:
        remove_token(obj, state.stored_pairing.configuration)  # applied again during its pairing
    _write_certificate(obj, state)
    done = state.memory.unreported
    if done is not None and done.fulfils_request:
        obj["spec"].pop("refreshCredentialsNow", None)
    if state.status_shows_credentials:
        _write_connection(obj, state, done)
    if state.pairing_failure is not None and (state.pairing_failure.final or state.reconnect_abandoned):
        # It was applied again after it was given up, and hides the other places.
        remove_token(obj, state.attempt_fingerprint)
    if problem is not None:
        _write_problem(obj, problem, now=state.now)
    elif _revocation_is_done(obj, state):
        pass  # the deletion of the Secret comes through another watch, so the state may still have the credentials
    elif status.state_of(obj) is None or _has_failed(obj):
        status.set_works(obj, state=state.observations.sync_state or status.ConnectionState.CONNECTED, now=state.now)
    else:
        status.connection_part(obj).pop("error", None)
    _write_lasting(obj, state)
    part = status.connection_part(obj)
    part.pop("warning", None)
    if warnings:
        part["warning"] = status.shorten("; ".join(warning.text() for warning in warnings))


def _write_connection(obj: Object, state: State, done: NewCredentials | None) -> None:
    """The certificate that is used, its Runtime, the URLs of Compass. Remove a token that is not needed now."""
    registration = state.registration
    is_new = status.state_of(obj) is None or not status.was_established(obj) or state.is_new_object
    paired = done is not None and not done.renewed_because
    if paired or is_new:
        # Of older credentials, the time of the pairing is not stored: they are at least this old.
        paired_at = registration.paired_at or registration.acquired or state.credentials.not_before
        contact = state.now if paired or state.connector_accepts else None
        status.set_established(obj, at=min(paired_at, state.now), last_success=contact)
        _write_certificate(obj, state)
    if done is not None and not paired:
        status.set_contacted(obj, at=state.now)
        status.connection_part(obj)["renewed"] = status.timestamp(state.now)
    obj.setdefault("spec", {})["managementInfo"] = status.management_info(
        connector_url=registration.connector_url, director_url=registration.director_url
    )
    obj["status"]["runtime"] = {"id": registration.runtime_id, "tenant": registration.tenant}
    if state.token_already_exchanged:
        remove_token(obj, state.configuration.fingerprint)


def _write_lasting(obj: Object, state: State) -> None:
    """Since when the certificate is refused and a pairing fails."""
    failure, failing = state.memory.pairing_failure, None
    if failure is not None:
        failing = status.LastingCondition(
            configuration_label(failure.fingerprint),
            failure.problem.kind,
            failure.problem.text(),
            since=state.now - (state.monotonic - failure.since),
        )
    status.write_lasting(obj, status.Lasting.PAIRING_FAILING, failing)
    refusals, refused = sorted((*state.refusals, *state.unanswered), key=lambda refusal: refusal.by), None
    if refusals:
        refused = status.LastingCondition(
            certificate_label(state.credentials.fingerprint),
            f"RefusedBy{'And'.join(refusal.by for refusal in refusals)}",
            describe_refusals(refusals),
            since=state.now - state.refused_for,
        )
    status.write_lasting(obj, status.Lasting.CERTIFICATE_REFUSED, refused)


def _write_problem(obj: Object, problem: Problem, *, now: float) -> None:
    if problem.state is not None and not _is_written(obj, problem):
        status.set_failed(obj, problem.state, problem.text(with_id=True), now=now)


def _write_certificate(obj: Object, state: State) -> None:
    """The dates of the certificate, also after they were edited or removed. If the time of its receipt is unknown, the
    one in the status stays.
    """
    part, stored = status.connection_part(obj), state.stored
    if stored is None:
        part["certificateStatus"] = {}
        return
    acquired = stored.registration.acquired if stored.registration else 0
    received = status.timestamp(acquired) if acquired else (part.get("certificateStatus") or {}).get("acquired")
    dates = {"notBefore": status.timestamp(stored.not_before), "notAfter": status.timestamp(stored.not_after)}
    part["certificateStatus"] = dates | ({"acquired": received} if received else {})


def _has_failed(obj: Mapping[str, Any] | None) -> bool:
    return status.state_of(obj) in status.FAILED_CONNECTION_STATES


def _revocation_is_done(obj: Mapping[str, Any] | None, state: State) -> bool:
    """Whether `revoke` has written its result."""
    return state.revoked and status.state_of(obj) is status.ConnectionState.CONNECTION_FAILED


def _is_written(obj: Mapping[str, Any] | None, problem: Problem) -> bool:
    written = (problem.state, status.shorten(problem.text(with_id=True)))
    return (status.state_of(obj), status.connection_error(obj)) == written
