"""The decisions about the connection. A rule is one function that looks at one State and returns a decision or None.

Three tables, read from the top; the first rule with a decision decides. `WITHOUT_CREDENTIALS` and `WITH_CREDENTIALS`
return decisions. `PAIRING` returns the next step of a pairing, or the problem why there is none; rules of the other two
use it. The docstring of a rule is its row in docs/connection.md (`python -m tests.support.rules_page`).

A decision is an action, or a Rest: a problem (None if there is none) until the next reconcile.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from controller.connection import problem, status
from controller.connection.configuration import (
    SPEC_PAIRING,
    ConfigurationProblem,
    PairingConfiguration,
    has_spec_token,
    ids_of,
)
from controller.connection.credentials import GatewaySecret, Registration, StoredPairing
from controller.connection.observations import CompassService
from controller.connection.problem import Problem
from controller.connection.state import State, renewal_due_at

_LONGEST_WAIT_SECONDS = 60.0
"""Certificates expire by the wall clock, which may change while a timer of the monotonic clock runs. So each Rest ends
after this time, also without an event.
"""

_JUST_NOW_SECONDS = 1.0
"""Maximum age of the last refusal of the Connector before a token is tried."""

_BETWEEN_RENEWALS_SECONDS = 1.0
"""The minimum for certificates of any validity. One that is valid for less cannot be maintained."""

_SHORTEST_WAIT_SECONDS = 0.001  # rounding must not turn a wait into a loop


# --- decisions ---


@dataclass(frozen=True)
class Pair:
    """Begin this pairing, or continue it."""

    pairing: StoredPairing


@dataclass(frozen=True)
class StoreRegistration:
    """Store the registration of the certificate beside it."""

    registration: Registration


class Renew(StrEnum):
    """Request a new certificate, or use the pending one. The value is the reason, for people."""

    TOO_OLD = "its validity is below the renewal threshold"
    REQUESTED = "refreshCredentialsNow is set"
    CA_MISSING = "the Secret with the CA certificates is missing"  # as for the Go agent: a way to request a renewal


class Act(Enum):
    """Actions that need nothing but the state."""

    ABANDON_PAIRING = auto()
    """Remove a pairing in progress, because the credentials work."""
    CHECK_CONNECTOR = auto()
    """Check with the Connector that it accepts the certificate, and read the URLs of Compass."""
    WRITE_GATEWAY_CA = auto()
    """Write the gateway's copy of the CA certificates."""


@dataclass(frozen=True)
class Rest:
    """Nothing is done for `requeue_after` seconds, or until an event."""

    problem: Problem | None
    requeue_after: float


Action = Pair | StoreRegistration | Renew | Act
Decision = Action | Rest


def decide(state: State) -> Decision:
    """The next action, or a Rest. It depends only on the state."""
    rules = WITH_CREDENTIALS if state.is_usable else WITHOUT_CREDENTIALS
    return next(decision for rule in rules if (decision := rule(state)) is not None)


def pairing_step(state: State) -> Pair | Problem:
    """The next step of the configured pairing or of the one in progress, or the problem."""
    return next(step for rule in PAIRING if (step := rule(state)) is not None)


# --- the next step of a pairing ---


def revoked(state: State) -> Problem | None:
    """An operator has revoked the connection, and no other token has been configured since: no step."""
    if not state.revoked:
        return None
    configuration = state.configuration
    fault = ""
    if isinstance(configuration, ConfigurationProblem) and not configuration.is_absent:
        fault = configuration.text
    return problem.revoked_by_operator(configuration.origin, fault=fault)


def given_up(state: State) -> Problem | None:
    """The last attempt has failed for good: no step, until the configuration changes."""
    failure = state.pairing_failure
    return failure.problem if failure is not None and failure.final else None


def back_off(state: State) -> Problem | None:
    """The last attempt failed, and its back-off has not ended: no step until then."""
    failure = state.pairing_failure
    return failure.problem if failure is not None and state.pairing_pause > 0 else None


def resume(state: State) -> Pair | None:
    """A pairing with the current configuration is in progress: it continues."""
    return Pair(state.active_pairing) if state.active_pairing is not None else None


def not_configured(state: State) -> Problem | None:
    """There is no usable configuration: no step."""
    configuration = state.relevant_configuration
    if not isinstance(configuration, ConfigurationProblem):
        return None
    last = state.memory.pairing_failure if configuration.is_absent else None
    return problem.not_configured(configuration, last.problem if last is not None else None)


def token_used(state: State) -> Problem | None:
    """The configured token has obtained the stored credentials: no step, until another one is configured."""
    return problem.token_used(state.configuration.origin) if state.token_already_exchanged else None


def exchange_token(state: State) -> Pair | None:
    """Otherwise: the token is exchanged for credentials."""
    configuration = state.relevant_configuration
    if not isinstance(configuration, PairingConfiguration):
        return None
    return Pair(
        StoredPairing(
            configuration=configuration.fingerprint,
            origin=configuration.origin,
            runtime_id=configuration.runtime_id,
            tenant=configuration.tenant,
            token_url=configuration.connector_url,
            token=configuration.token,
            configured_token=configuration.token_fingerprint,
            fallback_fingerprint=state.fallback_fingerprint,
            connection_uid=state.connection["metadata"]["uid"] if state.connection else "",
            since=int(state.now),
        )
    )


PAIRING: tuple[Callable[[State], Pair | Problem | None], ...] = (
    revoked,
    given_up,
    back_off,
    resume,
    not_configured,
    token_used,
    exchange_token,
)


# --- without usable credentials ---


def adopt(state: State) -> StoreRegistration | None:
    """Runtime id, tenant or URLs are not stored (as by the Go agent) or damaged, and are known from elsewhere: the
    agent stores them and uses the credentials.
    """
    return StoreRegistration(state.adoptable) if state.adoptable is not None else None


def pair(state: State) -> Decision:
    """Otherwise: the next step of a pairing, or ConnectionFailed with the reason."""
    step = pairing_step(state)
    return _rest(state, problem.without_credentials(step, loss=state.loss)) if isinstance(step, Problem) else step


WITHOUT_CREDENTIALS: tuple[Callable[[State], Decision | None], ...] = (adopt, pair)


# --- with usable credentials ---


def correct_runtime(state: State) -> StoreRegistration | None:
    """The credentials belong to the Runtime that is configured now, and were stored for another one: the agent stores
    it and uses the credentials.
    """
    if state.wrong_owner is None:
        return None
    configuration, corrected, actual = state.relevant_configuration, _corrected(state), state.wrong_owner.actual
    if (corrected is None or corrected.runtime_id != actual) and isinstance(configuration, PairingConfiguration):
        corrected = replace(
            state.registration,
            runtime_id=configuration.runtime_id,
            tenant=configuration.tenant,
            origin=configuration.origin,
        )
    return StoreRegistration(corrected) if corrected is not None and corrected.runtime_id == actual else None


def correct_ids(state: State) -> Decision | None:
    """Only the Director refuses the credentials, and their token is configured with other ids: the agent calls the
    Connector; if it accepts the credentials, the agent stores the ids and uses the credentials with these.
    """
    # The Connector does not need Runtime id and tenant. In an outage of the database it refuses as well.
    only_director = all(refusal.by is CompassService.DIRECTOR for refusal in state.refusals)
    corrected = _corrected(state)
    if state.director_refusal is None or not only_director or corrected is None:
        return None
    call = state.last_call
    if state.connector_accepts and call is not None and call.at >= state.director_refusal.since:
        return StoreRegistration(corrected)
    return Act.CHECK_CONNECTOR if _connector_may_be_called(state) else None


def other_token(state: State) -> Pair | None:
    """The credentials belong to a Runtime other than the configured one, and a newer token can be tried: the next step
    of a pairing.
    """
    if state.wrong_owner is None or not state.token_is_newer:
        return None
    return _possible_step(state)


def reconnect(state: State) -> Pair | None:
    """New credentials are requested, and a token can be tried: the next step of a pairing."""
    return _possible_step(state) if state.reconnect_wanted else None


def replace_refused(state: State) -> Decision | None:
    """The credentials are refused for too long or a token is newer, and a token can be tried: the agent calls the
    Connector. If it refuses the credentials as the Director does, or if it accepts them and the Director refuses them
    again after that, the next step of a pairing.
    """
    # An outage looks like a refusal, and must not use up a token that was configured for later.
    step = _possible_step(state)
    if not state.refusals or step is None or state.unknown_tenant is not None or state.not_valid_yet:
        return None
    if not state.token_is_newer and state.refused_for < state.refusal_tolerance:
        return None
    director, call = state.director_refusal, state.last_call
    if director is not None and call is not None:
        tried = state.pairing_failure.tried if state.pairing_failure is not None else 0.0
        if state.connector_accepts:
            if call.at >= director.last:
                return None  # until the Director is called again: the outage may be over
            if director.since <= call.at and director.last >= tried:
                return step
        elif _refused_just_now(state) and call.at >= tried:
            return step
    return Act.CHECK_CONNECTOR if _connector_may_be_called(state) else None


def renew(state: State) -> Renew | None:
    """The certificate is due for renewal, or its renewal is requested, by refreshCredentialsNow or by a missing Secret
    of the gateway: the agent renews it.
    """
    if state.connector_pause > 0 or state.revoked:  # after a revocation there must not be another certificate
        return None
    if state.deferred_renewal is not None:
        return None
    reason = _renewal_reason(state)
    if state.pending is not None:
        return (reason or Renew.TOO_OLD) if state.now >= state.pending.valid_from else None
    pause = _BETWEEN_RENEWALS_SECONDS if reason is Renew.TOO_OLD else _between_requested_renewals(state)
    if state.since_renewal < pause:
        return None
    # A request is granted once: the field is removed with the report.
    return None if reason is not Renew.TOO_OLD and state.memory.unreported is not None else reason


def check(state: State) -> Act | None:
    """The Connector was not called for a period, or its last call failed: the agent calls it."""
    call = state.last_call
    due = call is None or state.monotonic >= call.next or call.failure is not None
    return Act.CHECK_CONNECTOR if due and state.connector_pause <= 0 else None


def write_gateway_ca(state: State) -> Act | None:
    """The gateway's Secret has other CA certificates, or is missing and no renewal is possible now: the agent writes
    it.
    """
    if state.gateway is GatewaySecret.AS_WANTED or state.gateway_pause > 0 or state.revoked:
        return None
    cannot_renew = state.connector_pause > 0 or state.deferred_renewal is not None or state.pending is not None
    return Act.WRITE_GATEWAY_CA if cannot_renew or not _missing_ca_requests_renewal(state) else None


def abandon_pairing(state: State) -> Act | None:
    """A pairing is in progress that is no longer needed: the agent removes it."""
    # It has failed for too long, or Connector and Director have both accepted the credentials.
    if state.stored_pairing is None or state.refusals or state.reconnect_wanted or not state.connector_accepts:
        return None
    return Act.ABANDON_PAIRING if state.reconnect_abandoned or state.accepted else None


def wrong_runtime(state: State) -> Rest | None:
    """The credentials belong to a Runtime other than the configured one: ConnectionFailed, until RUNTIME_ID is
    corrected.
    """
    if state.wrong_owner is None:
        return None
    configuration, failure = state.relevant_configuration, state.pairing_failure
    configured, origin = state.registration.runtime_id, state.registration.origin
    if isinstance(configuration, PairingConfiguration) and configuration.origin == origin:
        configured = configuration.runtime_id
    wrong = problem.wrong_runtime(
        state.wrong_owner,
        configured=configured,
        origin=origin,
        failed=failure.problem if failure is not None else None,
    )
    return _rest(state, wrong)


def not_reconnected(state: State) -> Rest | None:
    """New credentials are requested, and this CompassConnection has not been connected yet: ConnectionMaintenanceFailed
    with the reason why pairing fails; the stored credentials are used.
    """
    step = None if state.status_shows_credentials else pairing_step(state)
    return _rest(state, problem.reconnect_failed(step)) if isinstance(step, Problem) else None


def not_valid_yet(state: State) -> Rest | None:
    """The credentials are refused, and are not valid yet by the clock of the cluster: ConnectionMaintenanceFailed,
    until they are valid; no token is tried.
    """
    if not state.refusals or not state.not_valid_yet:
        return None
    return _rest(state, problem.not_valid_yet(state.refusals, valid_from=state.credentials.not_before))


def unknown_tenant(state: State) -> Rest | None:
    """The Director does not know the tenant, and the Connector accepts the credentials: ConnectionMaintenanceFailed,
    until TENANT is corrected; no token is tried.
    """
    registration, refusal = state.registration, state.unknown_tenant
    if refusal is None:
        return None
    return _rest(state, problem.unknown_tenant(refusal, tenant=registration.tenant, origin=registration.origin))


def refused(state: State) -> Rest | None:
    """The credentials are refused: ConnectionMaintenanceFailed; the credentials are used."""
    if not state.refusals:
        return None
    step, registration = pairing_step(state), state.registration
    obstacle = step if isinstance(step, Problem) else None
    return _rest(
        state,
        problem.suspected(
            state.refusals, runtime_id=registration.runtime_id, tenant=registration.tenant, obstacle=obstacle
        ),
    )


def connector_failed(state: State) -> Rest | None:
    """The call to the Connector failed: ConnectionMaintenanceFailed."""
    call = state.last_call
    if call is None or call.failure is None:
        return None
    if call.renewing:
        return _rest(state, problem.renewal_failed(call.failure, valid_until=state.credentials.not_after))
    return _rest(state, problem.connector_failed(call.failure))


def keep(state: State) -> Rest:
    """Otherwise: the agent keeps the credentials."""
    return _rest(state, None)


WITH_CREDENTIALS: tuple[Callable[[State], Decision | None], ...] = (
    correct_runtime,
    correct_ids,
    other_token,
    reconnect,
    replace_refused,
    renew,
    check,
    write_gateway_ca,
    abandon_pairing,
    wrong_runtime,
    not_reconnected,
    not_valid_yet,
    unknown_tenant,
    refused,
    connector_failed,
    keep,
)


# --- problems that do not stop the agent ---


def warnings(state: State) -> tuple[Problem, ...]:
    """Those of the state, for `status.connectionStatus.warning` and Events."""
    if not state.is_usable:
        return ()
    found: list[Problem] = []
    if state.token_failure is not None:
        found.append(problem.token_failed(state.token_failure.problem))
    elif (
        state.status_shows_credentials
        and has_spec_token(state.connection)
        and isinstance(state.configuration, ConfigurationProblem)
    ):
        found.append(problem.token_failed(problem.not_configured(state.configuration)))
    if state.memory.gateway_failure is not None and state.gateway is not GatewaySecret.AS_WANTED:
        secret = str(state.settings.ca_certificates_secret)
        found.append(problem.gateway_secret_failed(secret, state.memory.gateway_failure))
    if state.pending is not None and state.now < state.pending.valid_from:
        found.append(problem.renewal_waits(valid_from=state.pending.valid_from, received=state.pending.received))
    elif state.deferred_renewal is not None:
        found.append(problem.renewal_deferred(state.deferred_renewal.text))
    elif _was_due_on_arrival(state):
        certificate = state.credentials
        found.append(
            problem.short_lived(
                not_before=certificate.not_before,
                not_after=certificate.not_after,
                acquired=state.registration.acquired,
                next_renewal=state.renewal_due_at,
            )
        )
    if state.revoked:
        found.append(problem.revocation_unfinished())
    return tuple(found)


# --- parts of rules ---


def _corrected(state: State) -> Registration | None:
    """The registration with the currently configured ids, if they differ and its token is unchanged; else None.

    A token in spec.pairing was removed after the pairing, but its ids stay.
    """
    configuration, stored = state.relevant_configuration, state.registration
    ids, corrected = ids_of(state.connection) if stored.origin == SPEC_PAIRING else None, stored
    if isinstance(configuration, PairingConfiguration) and state.token_already_exchanged:
        ids = (configuration.runtime_id, configuration.tenant)
        corrected = replace(stored, origin=configuration.origin)
    if ids is None or ids == (stored.runtime_id, stored.tenant):
        return None
    return replace(corrected, runtime_id=ids[0], tenant=ids[1])


def _renewal_reason(state: State) -> Renew | None:
    if state.now >= state.renewal_due_at:
        return Renew.TOO_OLD
    if status.flag(state.connection, "refreshCredentialsNow"):
        return Renew.REQUESTED
    return Renew.CA_MISSING if _missing_ca_requests_renewal(state) else None


def _missing_ca_requests_renewal(state: State) -> bool:
    """The Secret of the gateway is missing, and could be written."""
    return state.gateway is GatewaySecret.MISSING and state.memory.gateway_failure is None


def _was_due_on_arrival(state: State) -> bool:
    """The certificate was past its renewal threshold when it was received."""
    certificate = state.credentials
    due = renewal_due_at(state.settings, not_before=certificate.not_before, not_after=certificate.not_after)
    return state.registration.acquired >= due


def _possible_step(state: State) -> Pair | None:
    """The next step of a pairing, if a token can be tried now."""
    if state.relevant_configuration is None:
        return None
    step = pairing_step(state)
    return None if isinstance(step, Problem) else step


def _refused_just_now(state: State) -> bool:
    """By the Connector, with its last answer."""
    call = state.last_call
    if call is None or state.monotonic - call.at > _JUST_NOW_SECONDS:
        return False
    return any(one.by is CompassService.CONNECTOR and one.failure == call.failure for one in state.refusals)


def _connector_may_be_called(state: State) -> bool:
    """Its back-off has ended, or there is a new configuration, which waits for none."""
    if state.connector_pause <= 0:
        return True
    observed, call = state.memory.configuration, state.last_call
    return observed is not None and call is not None and observed.since_monotonic > call.at


def _between_requested_renewals(state: State) -> float:
    """Seconds between renewals for other reasons than the age: a tool may set the field, or delete the Secret, in a
    loop.
    """
    return max(state.settings.minimal_sync_time, _BETWEEN_RENEWALS_SECONDS)


# --- the time of the next reconcile ---


def _rest(state: State, found: Problem | None) -> Rest:
    """With the seconds until the next reconcile without an event."""
    waits = [_LONGEST_WAIT_SECONDS]
    if state.pairing_failure is not None and not state.pairing_failure.final:
        waits.append(state.pairing_pause)
    if state.is_usable:
        waits += _maintenance_waits(state)
    ahead = [wait for wait in waits if wait > 0]  # times in the past have had their effect already
    return Rest(found, max(min(ahead), _SHORTEST_WAIT_SECONDS))


def _maintenance_waits(state: State) -> list[float]:
    renewal = state.pending.valid_from if state.pending is not None else state.renewal_due_at
    if state.deferred_renewal is not None:
        renewal = state.deferred_renewal.until
    waits = [
        state.credentials.not_after - state.now,
        max(renewal - state.now, state.connector_pause),
        _BETWEEN_RENEWALS_SECONDS - state.since_renewal,
        _between_requested_renewals(state) - state.since_renewal,
    ]
    if state.connector_pause > 0:
        waits.append(state.connector_pause)
    elif state.last_call is not None:
        waits.append(state.last_call.next - state.monotonic)
    if state.gateway is not GatewaySecret.AS_WANTED:
        waits.append(state.gateway_pause)
    if state.refusals:
        waits.append(state.refusal_tolerance - state.refused_for)
    return waits
