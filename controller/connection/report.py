"""The only writer of the connection's part of the status, and of its Events.

The report is a function of the facts and the decision. A reason is reported when it changes, so a repeated failure
leads to one write and one Event.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.connection import configuration as sources
from controller.connection import revocation, texts
from controller.connection import status as cc
from controller.connection.configuration import ConfigurationProblem
from controller.connection.credentials import fingerprint_of
from controller.connection.facts import Facts, Paired, Renewed
from controller.connection.policy import Blocked, Decision, Keep, Wait
from controller.connection.reasons import (
    Failure,
    GatewaySecretFailed,
    InternalError,
    MaintenanceFailed,
    NotConfigured,
    NotValidYet,
    Reason,
    ReconnectFailed,
    Remark,
    RenewalFailed,
    RenewalWaits,
    RevocationUnfinished,
    ShortLived,
    Suspected,
    TokenFailed,
    UnknownTenant,
    Unpaired,
    WrongRuntime,
    request_id_of,
)
from controller.connection.status import State
from controller.connection.store import ConnectionStore
from controller.resources import CONNECTION_NAME
from controller.runtime.events import EventRecorder, EventType

log = logging.getLogger(__name__)

Object = dict[str, Any]

TOLD: Mapping[type[Reason], tuple[State, str]] = {
    Unpaired: (State.CONNECTION_FAILED, "PairingFailed"),
    WrongRuntime: (State.CONNECTION_FAILED, "WrongRuntime"),
    UnknownTenant: (State.CONNECTION_MAINTENANCE_FAILED, "UnknownTenant"),
    NotValidYet: (State.CONNECTION_MAINTENANCE_FAILED, "CertificateNotValidYet"),
    InternalError: (State.CONNECTION_MAINTENANCE_FAILED, "InternalError"),
    ReconnectFailed: (State.CONNECTION_MAINTENANCE_FAILED, "PairingFailed"),
    Suspected: (State.CONNECTION_MAINTENANCE_FAILED, "ConnectionSuspected"),
    MaintenanceFailed: (State.CONNECTION_MAINTENANCE_FAILED, "ConnectionMaintenanceFailed"),
    RenewalFailed: (State.CONNECTION_MAINTENANCE_FAILED, "RenewalFailed"),
}
"""By reason: the state, and the reason of the Event."""

REMARKED: Mapping[type[Remark], str] = {
    GatewaySecretFailed: "GatewaySecretFailed",
    TokenFailed: "PairingFailed",
    ShortLived: "CertificateShortLived",
    RenewalWaits: "RenewalWaits",
    RevocationUnfinished: "",  # a normal state during `revoke`, so without an Event
}


@dataclass(frozen=True)
class _Told:
    """The last report. `text` has the ids of the first failed call; those of later calls do not lead to a write."""

    reason: Reason | None
    text: str
    remarks: tuple[Remark, ...]


class Report:
    """Not thread-safe: one worker reports."""

    def __init__(self, connections: ConnectionStore, recorder: EventRecorder) -> None:
        self._connections = connections
        self._recorder = recorder
        self._told = _Told(None, "", ())

    def tell(self, facts: Facts, decision: Decision) -> bool:
        """Write the changes. Returns whether there is a CompassConnection to write to.

        Before an action only the facts are written; the state follows with the decision after the action. Raises
        informers.ApiError; then the next call writes everything.
        """
        resting = isinstance(decision, Keep | Wait | Blocked)
        if not resting and not facts.in_use:
            return False
        if not resting:
            described = self._connections.apply_to(facts.connection, lambda obj: _describe(obj, facts))
            if described is not None:
                self._announce_news(described, facts)
            return described is not None
        reason = decision.reason if isinstance(decision, Wait | Blocked) else None
        told = self._rendered(reason, _remarks(facts))
        written = self._connections.apply_to(facts.connection, lambda obj: _tell(obj, facts, told))
        if written is None:
            return False
        self._announce(written, facts, told)
        self._told = told
        return True

    def fail(self, error: Exception, now: float) -> None:
        """Report a defect of the agent. Raises informers.ApiError."""
        reason = InternalError(Failure.unexpected(error))
        told = self._rendered(reason, self._told.remarks)

        def change(obj: Object) -> None:
            if not _says(obj, told):
                cc.failed(obj, TOLD[InternalError][0], told.text, now=now)

        written = self._connections.apply_to(self._connections.get(CONNECTION_NAME), change)
        if written is not None and reason != self._told.reason:
            self._emit(written, TOLD[InternalError][1], told.text)
            self._told = told

    def ignore(self, name: str) -> None:
        """Report that a CompassConnection with another name has no effect."""
        connection = self._connections.get(name)
        if connection is None:
            return
        text = f"Only the CompassConnection {CONNECTION_NAME} is used; this one has no effect"
        self._emit(connection, "Ignored", text)
        log.warning("CompassConnection ignored", extra={"connection": name, "served": CONNECTION_NAME})

    def _rendered(self, reason: Reason | None, remarks: tuple[Remark, ...]) -> _Told:
        if reason == self._told.reason:
            return replace(self._told, remarks=remarks)
        return _Told(reason, texts.reason_text(reason) if reason is not None else "", remarks)

    def _announce(self, written: Object, facts: Facts, told: _Told) -> None:
        before = facts.connection
        self._announce_news(written, facts)
        if facts.memory.news is None and told.reason is None and cc.state_of(before) in cc.CONNECTION_LOST:
            text = "The credentials are valid, and the Connector accepts the certificate"
            self._emit(written, "ConnectionRestored", text, kind="Normal")
        if told.reason is not None and told.reason != self._told.reason and not _says(before, told):
            call = {"requestID": identifier} if (identifier := request_id_of(told.reason)) else {}
            log.warning("Connection to Compass failed", extra={"error": told.text, **call})
            self._emit(written, TOLD[type(told.reason)][1], texts.reason_text(told.reason, with_ids=False))
        for remark in told.remarks:
            event = REMARKED[type(remark)]
            if event and remark not in self._told.remarks:
                self._emit(written, event, texts.remark_text(remark))

    def _announce_news(self, written: Object, facts: Facts) -> None:
        news = facts.memory.news
        if isinstance(news, Paired):
            self._emit(written, "Connected", _paired_text(facts, news), kind="Normal")
        elif isinstance(news, Renewed):
            self._emit(written, "CertificateRenewed", _renewed_text(facts, news), kind="Normal")

    def _emit(self, obj: Object, reason: str, text: str, *, kind: EventType = "Warning") -> None:
        self._recorder.event(obj, kind, reason, text)


def _tell(obj: Object, facts: Facts, told: _Told) -> None:
    _describe(obj, facts)
    if told.reason is not None:
        if not _says(obj, told):
            cc.failed(obj, TOLD[type(told.reason)][0], told.text, now=facts.now)
    elif cc.state_of(obj) in (None, *cc.CONNECTION_LOST):
        cc.works(obj, state=facts.health.sync_state or State.CONNECTED, now=facts.now)
    else:
        cc.clear_error(obj)
    cc.warn(obj, "; ".join(texts.remark_text(remark) for remark in told.remarks))


def _describe(obj: Object, facts: Facts) -> None:
    """Write the facts: the certificate, its Runtime, the URLs of Compass. Remove a token that is not needed now."""
    if not sources.has_literal_token(obj):
        sources.remove_applied_token(obj)
    _describe_certificate(obj, facts)
    news = facts.memory.news
    if news is not None:
        obj["spec"].pop("refreshCredentialsNow", None)  # granted, by a pairing as well as by a renewal
    if facts.under_way is not None and facts.under_way.beside:
        _remove_token(obj, facts.under_way.configuration)  # applied again during its pairing
    if not facts.in_use:
        if not facts.usable and facts.trouble is not None and facts.trouble.final:
            _remove_token(obj, facts.trouble.what)  # applied again after it was given up; it hides the other places
        return
    registration = facts.registration
    new = cc.state_of(obj) is None or not cc.was_established(obj) or facts.knows_nothing_of_credentials
    if isinstance(news, Paired) or new:
        # Of older credentials, the time of the pairing is not stored: they are at least this old.
        paired_at = registration.paired_at or registration.acquired or facts.current.not_before
        cc.established(obj, at=min(paired_at, facts.now), now=facts.now)
        _describe_certificate(obj, facts)
    if isinstance(news, Paired):
        revocation.unmark(obj)
    if isinstance(news, Renewed):
        cc.renewed(obj, now=facts.now)
    obj.setdefault("spec", {})["managementInfo"] = cc.management_info(registration)
    cc.describe_runtime(obj, runtime_id=registration.runtime_id, tenant=registration.tenant)
    if sources.has_literal_token(obj) and facts.reconnect_is_hopeless:
        sources.remove_token(obj)
    _remove_token(obj, registration.paired_with)
    if facts.token_has_won and facts.configuration is not None:
        _remove_token(obj, fingerprint_of(facts.configuration))  # the same token with other ids


def _remove_token(obj: Object, configuration: str) -> None:
    """Remove the literal token of this configuration."""
    if sources.holds_token(obj, configuration):
        sources.remove_token(obj)


def _describe_certificate(obj: Object, facts: Facts) -> None:
    credentials = facts.credentials
    if credentials is None:
        cc.describe_certificate(obj, None)
        return
    acquired = credentials.registration.acquired if credentials.registration else 0
    cc.describe_certificate(obj, cc.Validity(credentials.not_before, credentials.not_after, acquired))


def _says(obj: Mapping[str, Any] | None, told: _Told) -> bool:
    state = TOLD[type(told.reason)][0] if told.reason is not None else None
    return (cc.state_of(obj), cc.connection_error(obj)) == (state, cc.shorten(told.text))


def _remarks(facts: Facts) -> tuple[Remark, ...]:
    if not facts.usable:
        return ()
    remarks: list[Remark] = []
    if facts.reconnect_trouble is not None:
        remarks.append(TokenFailed(facts.reconnect_trouble.failed))
    elif facts.in_use and facts.reconnect_wanted and isinstance(facts.configuration, ConfigurationProblem):
        remarks.append(TokenFailed(NotConfigured(facts.configuration)))
    if facts.memory.gateway is not None:
        remarks.append(facts.memory.gateway)
    if facts.fresh is not None and facts.now < facts.fresh.valid_from:
        remarks.append(RenewalWaits(facts.fresh.valid_from, facts.fresh.received))
    elif facts.past_threshold_on_arrival:
        certificate = facts.current
        remarks.append(
            ShortLived(certificate.not_before, certificate.not_after, facts.registration.acquired, facts.renewal_due_at)
        )
    if facts.revoked:
        remarks.append(RevocationUnfinished())
    return tuple(remarks)


def _paired_text(facts: Facts, news: Paired) -> str:
    return (
        f"Paired with Compass through {news.origin} as Runtime {facts.registration.runtime_id}; the certificate is "
        f"valid until {cc.timestamp(facts.current.not_after)}"
    )


def _renewed_text(facts: Facts, news: Renewed) -> str:
    return f"Renewed because {news.why}; the certificate is valid until {cc.timestamp(facts.current.not_after)}"
