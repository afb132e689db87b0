"""The only writer of the connection's part of the status, and of its Events.

The report is a function of the state and the problem. A problem is reported when it changes, so a repeated failure
leads to one write and one Event.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.connection import status
from controller.connection.configuration import (
    fingerprint_of,
    has_literal_token,
    holds_token,
    remove_applied_token,
    remove_revocation_mark,
    remove_token,
)
from controller.connection.problem import Kind, Problem, describe_refusals
from controller.connection.state import Connected, Obtained, State, certificate_subject, pairing_subject
from controller.connection.store import ConnectionStore
from controller.resources import CONNECTION_NAME
from controller.runtime.events import EventRecorder, EventType

log = logging.getLogger(__name__)

Object = dict[str, Any]

_WITHOUT_EVENT = frozenset({Kind.REVOCATION_UNFINISHED})
"""A normal state during `revoke`."""


@dataclass(frozen=True)
class _Reported:
    """The last report. `text` has the id of the first failed call; those of later calls do not lead to a write."""

    problem: Problem | None = None
    text: str = ""
    warnings: tuple[Problem, ...] = ()


class Reporter:
    """Not thread-safe: one worker reports."""

    def __init__(self, connections: ConnectionStore, recorder: EventRecorder) -> None:
        self._connections = connections
        self._recorder = recorder
        self._reported = _Reported()

    def report(self, state: State, problem: Problem | None, warnings: Sequence[Problem]) -> bool:
        """Write the changes. Returns whether there is a CompassConnection to write to.

        Raises informers.ApiError; then the next call writes everything.
        """
        reported = self._rendered(problem, tuple(warnings))
        written = self._connections.apply_to(state.connection, lambda obj: _write(obj, state, reported))
        if written is None:
            return False
        self._announce(written, state, reported)
        self._reported = reported
        return True

    def report_internal_error(self, problem: Problem, now: float) -> None:
        """A defect of the agent, for which there is no state. Raises informers.ApiError."""
        reported = self._rendered(problem, self._reported.warnings)
        connection = self._connections.get(CONNECTION_NAME)
        written = self._connections.apply_to(connection, lambda obj: _write_problem(obj, reported, now=now))
        if written is not None and problem != self._reported.problem:
            self._emit(written, problem.kind, reported.text)
            self._reported = reported

    def ignore(self, name: str) -> None:
        """Report that a CompassConnection with another name has no effect."""
        connection = self._connections.get(name)
        if connection is None:
            return
        text = f"Only the CompassConnection {CONNECTION_NAME} is used; this one has no effect"
        self._emit(connection, "Ignored", text)
        log.warning("CompassConnection ignored", extra={"connection": name, "served": CONNECTION_NAME})

    def _rendered(self, problem: Problem | None, warnings: tuple[Problem, ...]) -> _Reported:
        if problem == self._reported.problem:
            return _Reported(problem, self._reported.text, warnings)
        return _Reported(problem, problem.text(with_id=True) if problem is not None else "", warnings)

    def _announce(self, written: Object, state: State, reported: _Reported) -> None:
        before, problem, done = state.connection, reported.problem, state.memory.unreported
        if isinstance(state, Connected) and done is not None:
            until = status.timestamp(state.credentials.not_after)
            if not done.renewed_because:
                known = state.registration
                text = f"Paired with Compass through {known.origin} as Runtime {known.runtime_id}"
                self._emit(written, "Connected", f"{text}; the certificate is valid until {until}", kind="Normal")
            else:
                text = f"Renewed because {done.renewed_because}; the certificate is valid until {until}"
                self._emit(written, "CertificateRenewed", text, kind="Normal")
        elif problem is None and _is_lost(before) and not _revocation_is_done(before, state):
            text = "The credentials are valid, and the Connector accepts the certificate"
            self._emit(written, "ConnectionRestored", text, kind="Normal")
        if problem is not None and problem != self._reported.problem and not _is_written(before, reported):
            call = {"requestID": problem.request_id} if problem.request_id else {}
            log.warning("Connection to Compass failed", extra={"error": reported.text, **call})
            self._emit(written, problem.kind, problem.text())
        for warning in reported.warnings:
            if warning.kind not in _WITHOUT_EVENT and warning not in self._reported.warnings:
                self._emit(written, warning.kind, warning.text())

    def _emit(self, obj: Object, reason: str, text: str, *, kind: EventType = "Warning") -> None:
        self._recorder.event(obj, kind, reason, text)


def _write(obj: Object, state: State, reported: _Reported) -> None:
    if not has_literal_token(obj):
        remove_applied_token(obj)
    if state.stored_pairing is not None and state.stored_pairing.fallback_fingerprint:
        _remove_token(obj, state.stored_pairing.configuration)  # applied again during its pairing
    _write_certificate(obj, state)
    done = state.memory.unreported
    if done is not None and done.fulfils_request:
        obj["spec"].pop("refreshCredentialsNow", None)
    if isinstance(state, Connected) and state.in_use:
        _write_connection(obj, state, done)
    elif not isinstance(state, Connected) and state.pairing_failure is not None and state.pairing_failure.final:
        _remove_token(obj, state.attempt_key)  # applied again after it was given up; it hides the other places
    if reported.problem is not None:
        _write_problem(obj, reported, now=state.now)
    elif _revocation_is_done(obj, state):
        pass  # the deletion of the Secret comes through another watch, so the state may still have the credentials
    elif status.state_of(obj) is None or _is_lost(obj):
        known = state.sync_state if isinstance(state, Connected) else None
        status.works(obj, state=known or status.State.CONNECTED, now=state.now)
    else:
        status.clear_error(obj)
    _write_lasting(obj, state)
    status.warn(obj, "; ".join(warning.text() for warning in reported.warnings))


def _write_connection(obj: Object, state: Connected, done: Obtained | None) -> None:
    """The certificate that is used, its Runtime, the URLs of Compass. Remove a token that is not needed now."""
    registration = state.registration
    is_new = status.state_of(obj) is None or not status.was_established(obj) or state.is_new_object
    paired = done is not None and not done.renewed_because
    if paired or is_new:
        # Of older credentials, the time of the pairing is not stored: they are at least this old.
        paired_at = registration.paired_at or registration.acquired or state.credentials.not_before
        status.established(obj, at=min(paired_at, state.now), now=state.now)
        _write_certificate(obj, state)
    if paired:
        remove_revocation_mark(obj)
    elif done is not None:
        status.renewed(obj, now=state.now)
    obj.setdefault("spec", {})["managementInfo"] = status.management_info(
        connector_url=registration.connector_url, director_url=registration.director_url
    )
    status.describe_runtime(obj, runtime_id=registration.runtime_id, tenant=registration.tenant)
    if has_literal_token(obj) and state.reconnect_given_up:
        remove_token(obj)
    _remove_token(obj, registration.paired_with)
    if state.token_already_exchanged and state.configuration is not None:
        _remove_token(obj, fingerprint_of(state.configuration))  # the same token with other ids


def _write_lasting(obj: Object, state: State) -> None:
    """Since when the certificate is refused and a pairing fails."""
    failure = state.memory.pairing_failure
    if failure is None:
        status.ended(obj, status.Lasting.PAIRING_FAILING)
    else:
        status.lasts(
            obj,
            status.Lasting.PAIRING_FAILING,
            subject=pairing_subject(failure.attempt_key),
            reason=failure.problem.kind,
            text=failure.problem.text(),
            since=state.now - (state.monotonic - failure.since),
        )
    if isinstance(state, Connected) and state.refusals:
        status.lasts(
            obj,
            status.Lasting.CERTIFICATE_REFUSED,
            subject=certificate_subject(state.credentials.fingerprint),
            reason=f"RefusedBy{'And'.join(refusal.by for refusal in state.refusals)}",
            text=describe_refusals(state.refusals),
            since=state.now - state.refused_for,
        )
    elif not isinstance(state, Connected) or state.accepted or state.memory.unreported is not None:
        status.ended(obj, status.Lasting.CERTIFICATE_REFUSED)


def _write_problem(obj: Object, reported: _Reported, *, now: float) -> None:
    problem = reported.problem
    if problem is not None and problem.state is not None and not _is_written(obj, reported):
        status.failed(obj, problem.state, reported.text, now=now)


def _write_certificate(obj: Object, state: State) -> None:
    stored = state.stored
    if stored is None:
        status.no_certificate(obj)
        return
    acquired = stored.registration.acquired if stored.registration else 0
    status.describe_certificate(obj, not_before=stored.not_before, not_after=stored.not_after, acquired=acquired)


def _remove_token(obj: Object, configuration: str) -> None:
    """Remove the literal token of this configuration."""
    if holds_token(obj, configuration):
        remove_token(obj)


def _is_lost(obj: Mapping[str, Any] | None) -> bool:
    return status.state_of(obj) in status.CONNECTION_LOST


def _revocation_is_done(obj: Mapping[str, Any] | None, state: State) -> bool:
    """Whether `revoke` has written its result."""
    return state.revoked and status.state_of(obj) is status.State.CONNECTION_FAILED


def _is_written(obj: Mapping[str, Any] | None, reported: _Reported) -> bool:
    state = reported.problem.state if reported.problem is not None else None
    return (status.state_of(obj), status.connection_error(obj)) == (state, status.shorten(reported.text))
