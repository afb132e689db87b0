"""The state of the connection at one moment: all that the rules look at. They are in `rules`.

`Observer.observe` reads; `derive` computes each fact once from what was read. A State is immutable, and nothing is read
between a decision and its action, except where the action says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from controller.compass.types import SignedCertificate
from controller.connection import status
from controller.connection.backoff import Pauses
from controller.connection.configuration import (
    SPEC_PAIRING,
    Configuration,
    ConfigurationProblem,
    ConfigurationReader,
    PairingConfiguration,
    fault_of,
    fault_of_url,
    fingerprint_of,
    has_literal_token,
    is_revoked,
    revocation_mark,
)
from controller.connection.credentials import (
    CredentialsError,
    CredentialsMissing,
    PendingCertificate,
    Registration,
    StoredCredentials,
    StoredPairing,
    fault_of_registration,
    resume_with,
)
from controller.connection.health import CompassService, Failure, Health, Observations, Owner, Refusal
from controller.connection.problem import Problem, Token
from controller.connection.sessions import Dependencies
from controller.settings import Settings

Object = dict[str, Any]

_REFUSAL_TOLERANCE_SECONDS = 120.0
"""Outages of Compass that look like refusals are shorter. At least two sync periods are tolerated."""

_APPLIED_AGAIN_SECONDS = 3600.0
"""Tools that apply the objects of a repository do so more often than this."""

_SHOWN_DIGITS = 12  # of a fingerprint

_UNKNOWN_TENANT = frozenset({24, 25})
"""Error codes of the Director: the tenant is missing or not found."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Settings of the operator; seconds, and a fraction of the validity."""

    renewal_threshold: float
    minimal_sync_time: float
    sync_period: float
    refusal_tolerance: float

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(
            renewal_threshold=settings.renewal_threshold,
            minimal_sync_time=settings.minimal_sync_time,
            sync_period=settings.sync_period,
            refusal_tolerance=max(_REFUSAL_TOLERANCE_SECONDS, 2 * settings.sync_period),
        )

    def renewal_due_at(self, *, not_before: float, not_after: float, acquired: float = 0.0) -> float:
        """The time from which a certificate is due for renewal; epoch seconds.

        One that is past its threshold when it is received, because of a short validity or different clocks, is used for
        half of its remaining time, so that renewals do not follow each other without a pause.
        """
        validity = not_after - not_before
        margin = max(validity * self.renewal_threshold, min(2 * self.minimal_sync_time, validity / 2))
        threshold = not_after - margin
        return threshold if acquired < threshold else (acquired + not_after) / 2


class GatewaySecret(Enum):
    """The gateway's copy of the CA certificates."""

    AS_WANTED = auto()
    DIFFERENT = auto()
    MISSING = auto()


# --- the memory of the process; a restart may lose all of it ---


@dataclass(frozen=True)
class ObservedConfiguration:
    """The last observed configuration. `since`: when it was first observed, epoch and monotonic seconds.

    `changed`: another one was observed before it, so `since` is the time of the change.
    """

    fingerprint: str
    since: float
    since_monotonic: float
    changed: bool


@dataclass(frozen=True)
class PairingFailure:
    """The last attempt to pair with the configuration `attempt_key`.

    `since`: the first failure, `tried`: the last one, `applied`: when its literal token was last found in the
    CompassConnection; monotonic seconds. `may_have_used`: the text of a failure that may have used the token.
    """

    attempt_key: str
    problem: Problem
    token: Token
    origin: str
    since: float
    tried: float
    final: bool
    may_have_used: str = ""
    applied: float = 0.0


@dataclass(frozen=True)
class UnsavedAnswer:
    """An answer of the Connector that could not be stored yet, and must not be requested again. `request_id`: the
    x-request-id of the call that signed it.
    """

    pairing: StoredPairing
    signed: SignedCertificate | None = None
    request_id: str = ""


@dataclass(frozen=True)
class LastConnectorCall:
    """The last call with a certificate. Monotonic seconds; `next`: the time of the next one. `failure`: None if the
    Connector accepted the certificate. `renewing`: the failure was that of a renewal.
    """

    certificate: str
    at: float
    next: float
    failure: Failure | None = None
    renewing: bool = False


@dataclass(frozen=True)
class Obtained:
    """New credentials are stored: by a pairing, or by a renewal and why, for people. `fulfils_request`:
    refreshCredentialsNow was set before.
    """

    fulfils_request: bool
    renewed_because: str = ""


@dataclass(frozen=True)
class BeforeRestart:
    """What the status says of the time before this process: since when which certificate is refused, and which pairing
    fails. Monotonic seconds, so they may be negative.
    """

    refused: tuple[str, float] | None = None
    failing: tuple[str, float] | None = None

    @classmethod
    def of(cls, connection: Object | None, *, now: float, monotonic: float) -> "BeforeRestart":
        def read(kind: status.Lasting) -> tuple[str, float] | None:
            known = status.lasting(connection, kind)
            return None if known is None else (known[0], monotonic - max(now - known[1], 0.0))

        return cls(read(status.Lasting.CERTIFICATE_REFUSED), read(status.Lasting.PAIRING_FAILING))


@dataclass(frozen=True, kw_only=True)
class Memory:
    """`unreported`: what was done and is not in the status yet. `before_restart` is read once."""

    before_restart: BeforeRestart | None = None

    configuration: ObservedConfiguration | None = None
    pairing_failure: PairingFailure | None = None
    unsaved_answer: UnsavedAnswer | None = None
    last_call: LastConnectorCall | None = None
    gateway_failure: Failure | None = None
    renewed_at: float | None = None  # monotonic seconds
    unreported: Obtained | None = None


# --- the state ---


@dataclass(frozen=True, kw_only=True)
class State:
    """Without usable credentials, or the part that does not depend on them. Pauses in seconds.

    `stored`: the credentials that can be read, though they may have expired. `loss`: what is wrong with them, "" if
    there never were any. `adoptable`: the registration for credentials of the Go agent, or for damaged ones.
    `configuration` is None while nothing depends on it. `stored_pairing`: a pairing in progress, for any configuration;
    `active_pairing`: the one for the current configuration. `pairing_failure`: that of the attempt `attempt_key`;
    `pairing_failing_since`: the first one, monotonic seconds, also before a restart.
    """

    now: float
    monotonic: float
    limits: Limits
    connection: Object | None
    stored: StoredCredentials | None
    loss: str
    adoptable: Registration | None
    configuration: Configuration | None
    fallback_fingerprint: str
    stored_pairing: StoredPairing | None
    active_pairing: StoredPairing | None
    attempt_key: str
    pairing_failure: PairingFailure | None
    pairing_failing_since: float | None
    pairing_pause: float
    token_already_exchanged: bool
    revoked: bool
    memory: Memory = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Connected(State):
    """With credentials that can be used, even if Compass refuses them.

    `is_new_object`: neither status nor URLs of the CompassConnection are those of the credentials. `in_use`: the status
    of the CompassConnection is that of the credentials, even if new ones are requested. `reconnect_given_up`: a
    requested pairing has failed for longer than an outage can last. `token_failure`: that of a token in the
    CompassConnection while the credentials are used.

    `refusals`: those of this certificate, `refused_for`: seconds since the first, also before a restart.
    `connector_accepts`: its last call was answered, `accepted`: the Director has answered, too. `wrong_owner`: the
    certificate is not that of the configured Runtime. `corrected`: the registration with the currently configured ids,
    if they differ. `renewal_due_at`: epoch seconds.
    """

    credentials: StoredCredentials
    registration: Registration
    is_new_object: bool
    reconnect_wanted: bool
    reconnect_given_up: bool
    in_use: bool
    token_failure: PairingFailure | None
    token_is_newer: bool
    refusals: tuple[Refusal, ...]
    director_refusal: Refusal | None
    refused_for: float
    last_call: LastConnectorCall | None
    connector_accepts: bool
    accepted: bool
    connector_pause: float
    unknown_tenant: Refusal | None
    not_valid_yet: bool
    wrong_owner: Owner | None
    pending: PendingCertificate | None
    renewal_due_at: float
    since_renewal: float
    gateway: GatewaySecret
    gateway_pause: float
    sync_state: status.State | None


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What was read, and nothing computed. `paired_with`: the configuration that obtained the credentials, also if they
    cannot be read. `read_configuration` returns the configuration, and the fingerprint of the one in Secret or
    ConfigMap, for a literal token.
    """

    now: float
    monotonic: float
    limits: Limits
    read_configuration: Callable[[], tuple[Configuration, str]]
    pauses: Pauses
    connection: Object | None = None
    stored: StoredCredentials | None = None
    damage: str = ""
    adoptable: Registration | None = None
    paired_with: str = ""
    stored_pairing: StoredPairing | None = None
    pending: PendingCertificate | None = None
    gateway: GatewaySecret = GatewaySecret.AS_WANTED
    gateway_secret: str = ""  # its name
    observations: Observations = field(default_factory=Observations)
    memory: Memory = field(default_factory=Memory)


class Observer:
    """Reads caches, and the API server only if a cache may be outdated or does not have the object."""

    def __init__(
        self,
        dependencies: Dependencies,
        *,
        configurations: ConfigurationReader,
        health: Health,
        limits: Limits,
        pauses: Pauses,
    ) -> None:
        self._connections = dependencies.connections
        self._credentials = dependencies.credentials
        self._clock = dependencies.clock
        self._configurations = configurations
        self._health = health
        self._limits = limits
        self._pauses = pauses

    def observe(self, name: str, memory: Memory) -> State:
        """The state, with the configuration remembered in its memory. Raises informers.ApiError."""
        connection = self._connections.get(name)
        secret = self._credentials.read()
        stored = secret.credentials if isinstance(secret.credentials, StoredCredentials) else None
        registration = secret.registration
        now, monotonic = self._clock.time(), self._clock.monotonic()
        if memory.before_restart is None:
            memory = replace(memory, before_restart=BeforeRestart.of(connection, now=now, monotonic=monotonic))
        return derive(
            Reads(
                now=now,
                monotonic=monotonic,
                limits=self._limits,
                read_configuration=lambda: self._read_configuration(connection),
                pauses=self._pauses,
                connection=connection,
                stored=stored,
                damage=_damage(secret.credentials, connection),
                adoptable=self._adoptable(connection, stored, registration),
                paired_with=registration.paired_with if registration else "",
                stored_pairing=secret.pairing,
                pending=secret.pending,
                gateway=self._gateway(stored),
                gateway_secret=str(self._credentials.ca_name),
                observations=self._health.observations(),
                memory=memory,
            )
        )

    def _adoptable(
        self, connection: Object | None, stored: StoredCredentials | None, registration: Registration | None
    ) -> Registration | None:
        if stored is None or stored.registration is not None:
            return None
        ids = self._configurations.identity(connection) or ("", "")
        urls = (connection or {}).get("spec", {}).get("managementInfo") or {}
        known = registration or Registration(runtime_id="", tenant="", connector_url="", director_url="")
        found = replace(
            known,
            runtime_id=ids[0] if fault_of(known.runtime_id) else known.runtime_id,
            tenant=ids[1] if fault_of(known.tenant) else known.tenant,
            connector_url=_usable_url(known.connector_url, urls.get("connectorUrl")),
            director_url=_usable_url(known.director_url, urls.get("directorUrl")),
        )
        return None if fault_of_registration(found) else found

    def _gateway(self, stored: StoredCredentials | None) -> GatewaySecret:
        if stored is None or not stored.ca_pem:
            return GatewaySecret.AS_WANTED
        if not self._credentials.ca_secret_exists():
            return GatewaySecret.MISSING
        differs = self._credentials.ca_secret_differs(stored.ca_pem)
        return GatewaySecret.DIFFERENT if differs else GatewaySecret.AS_WANTED

    def _read_configuration(self, connection: Object | None) -> tuple[Configuration, str]:
        # The configuration may have been changed just before the CompassConnection was deleted.
        deleted_or_new = status.state_of(connection) is None
        configuration = self._configurations.resolve(connection, live=deleted_or_new)
        if not has_literal_token(connection):
            return configuration, ""
        return configuration, fingerprint_of(self._configurations.resolve(None))


def _damage(credentials: StoredCredentials | CredentialsError, connection: Object | None) -> str:
    """Why the credentials cannot be used. Before the first pairing there are none, which is no loss."""
    if isinstance(credentials, StoredCredentials):
        return ""
    lost = not isinstance(credentials, CredentialsMissing) or status.was_established(connection)
    return str(credentials) if lost else ""


def _usable_url(*candidates: object) -> str:
    urls = (value for value in candidates if isinstance(value, str) and not fault_of_url(value))
    return next(urls, "")


def derive(reads: Reads) -> State:
    """A Connected if there are usable credentials. Each fact is computed once."""
    stored, connection = reads.stored, reads.connection
    registration = stored.registration if stored is not None else None
    if stored is None or registration is None or reads.now >= stored.not_after:
        return _state(reads, *reads.read_configuration())
    observations = reads.observations
    refusals = _refusals(reads, stored)
    owner = observations.owner
    if owner is not None and (
        owner.certificate != stored.fingerprint or owner.actual in (None, registration.runtime_id)
    ):
        owner = None
    is_new_object = _is_new(connection, registration)
    # While the connection works, the configuration is not read, so an invalid one has no effect.
    configuration_matters = (
        is_new_object
        or bool(refusals)
        or owner is not None
        or has_literal_token(connection)
        or reads.stored_pairing is not None
        or revocation_mark(connection) is not None
    )
    configuration, fallback = reads.read_configuration() if configuration_matters else (None, "")
    return _connected(
        _state(reads, configuration, fallback),
        reads,
        stored,
        registration,
        is_new_object=is_new_object,
        refusals=refusals,
        wrong_owner=owner,
    )


def _refusals(reads: Reads, stored: StoredCredentials) -> tuple[Refusal, ...]:
    """Those of this certificate, with the time before a restart."""
    earlier = reads.memory.before_restart
    known = earlier.refused if earlier is not None else None
    refusals = (refusal for refusal in reads.observations.refusals if refusal.certificate == stored.fingerprint)
    if known is None or known[0] != certificate_subject(stored.fingerprint):
        return tuple(refusals)
    return tuple(replace(refusal, since=min(refusal.since, known[1])) for refusal in refusals)


def certificate_subject(fingerprint: str) -> str:
    """The certificate in the status."""
    return f"certificate {fingerprint[:_SHOWN_DIGITS]}"


def pairing_subject(attempt_key: str) -> str:
    """The configuration of a pairing in the status. It does not disclose the token."""
    return f"configuration {attempt_key[:_SHOWN_DIGITS]}"


def _failing_since(failure: PairingFailure | None, attempt_key: str, memory: Memory) -> float | None:
    if failure is not None:
        return failure.since
    known = memory.before_restart.failing if memory.before_restart is not None else None
    return known[1] if known is not None and known[0] == pairing_subject(attempt_key) else None


def _state(reads: Reads, configuration: Configuration | None, fallback: str) -> State:
    memory, connection = reads.memory, reads.connection
    active = None if configuration is None else _active_pairing(configuration, reads)
    if active is not None:
        attempt_key = active.configuration
    else:
        attempt_key = "" if configuration is None else fingerprint_of(configuration)
    failure = memory.pairing_failure
    failure = failure if failure is not None and failure.attempt_key == attempt_key else None
    if failure is not None and has_literal_token(connection):
        failure = replace(failure, applied=reads.monotonic)
        memory = replace(memory, pairing_failure=failure)
    registration = reads.stored.registration if reads.stored is not None else None
    return State(
        now=reads.now,
        monotonic=reads.monotonic,
        limits=reads.limits,
        connection=connection,
        stored=reads.stored,
        loss=_loss(reads),
        adoptable=reads.adoptable,
        configuration=configuration,
        fallback_fingerprint=fallback,
        stored_pairing=reads.stored_pairing,
        active_pairing=active,
        attempt_key=attempt_key,
        pairing_failure=failure,
        pairing_failing_since=_failing_since(failure, attempt_key, memory),
        pairing_pause=reads.pauses.pairing.wait(attempt_key),
        token_already_exchanged=_already_exchanged(configuration, registration, reads.paired_with),
        revoked=configuration is not None and is_revoked(connection, configuration),
        memory=replace(memory, configuration=None if configuration is None else _observed(configuration, reads)),
    )


def _connected(
    state: State,
    reads: Reads,
    stored: StoredCredentials,
    registration: Registration,
    *,
    is_new_object: bool,
    refusals: tuple[Refusal, ...],
    wrong_owner: Owner | None,
) -> Connected:
    monotonic, memory, sync_state = state.monotonic, state.memory, reads.observations.sync_state
    given_up = _reconnect_given_up(state)
    wanted = _reconnect_wanted(state, is_new_object=is_new_object, given_up=given_up)
    in_use = not (wanted and is_new_object)
    call = memory.last_call
    call = call if call is not None and call.certificate == stored.fingerprint else None
    accepts = call is not None and call.failure is None
    director_refusal = next((one for one in refusals if one.by is CompassService.DIRECTOR), None)
    tenant_is_unknown = director_refusal is not None and director_refusal.failure.code in _UNKNOWN_TENANT
    refused_for = max((monotonic - refusal.since for refusal in refusals), default=0.0)
    return Connected(
        **{name: getattr(state, name) for name in State.__dataclass_fields__},
        credentials=stored,
        registration=registration,
        is_new_object=is_new_object,
        reconnect_wanted=wanted,
        reconnect_given_up=given_up,
        in_use=in_use,
        token_failure=_token_failure(memory.pairing_failure, monotonic, wanted=wanted) if in_use else None,
        token_is_newer=_token_is_newer(state, registration, refused_for=refused_for),
        refusals=refusals,
        director_refusal=director_refusal,
        refused_for=refused_for,
        last_call=call,
        connector_accepts=accepts,
        accepted=accepts and not refusals and sync_state not in (None, status.State.SYNCHRONIZATION_FAILED),
        connector_pause=reads.pauses.connector.wait(stored.fingerprint),
        unknown_tenant=director_refusal if tenant_is_unknown and accepts else None,
        # One that the Connector accepts is valid by the clock that matters.
        not_valid_yet=state.now < stored.not_before and not accepts,
        wrong_owner=wrong_owner,
        **_renewal(state, reads, stored, registration),
        gateway=reads.gateway,
        gateway_pause=reads.pauses.gateway.wait(reads.gateway_secret),
        sync_state=sync_state,
    )


def _renewal(state: State, reads: Reads, stored: StoredCredentials, registration: Registration) -> dict[str, Any]:
    """The facts about the renewal of the certificate."""
    pending, renewed_at = reads.pending, state.memory.renewed_at
    # If the certificate was received in the future, the clock was wrong then.
    acquired = registration.acquired if registration.acquired <= state.now else 0
    validity = {"not_before": stored.not_before, "not_after": stored.not_after}
    return {
        "pending": pending if pending is not None and pending.replaces == stored.fingerprint else None,
        "renewal_due_at": state.limits.renewal_due_at(**validity, acquired=acquired),
        "since_renewal": float("inf") if renewed_at is None else state.monotonic - renewed_at,
    }


def _active_pairing(configuration: Configuration, reads: Reads) -> StoredPairing | None:
    """The pairing in progress for this configuration; the one in memory is more recent."""
    unsaved = reads.memory.unsaved_answer
    known = (unsaved.pairing if unsaved is not None else None, reads.stored_pairing)
    adapted = (resume_with(pairing, configuration) for pairing in known if pairing is not None)
    return next((pairing for pairing in adapted if pairing is not None), None)


def _is_new(connection: Mapping[str, Any] | None, registration: Registration) -> bool:
    """Neither status nor URLs of the CompassConnection are those of the credentials: the earlier one was deleted."""
    if connection is None:
        return True
    if connection["metadata"]["uid"] == registration.connection_uid:
        return False  # they were obtained for it, and its status is written next
    urls = status.management_info(connector_url=registration.connector_url, director_url=registration.director_url)
    return not status.was_established(connection) and connection.get("spec", {}).get("managementInfo") != urls


def _observed(configuration: Configuration, reads: Reads) -> ObservedConfiguration:
    fingerprint, before = fingerprint_of(configuration), reads.memory.configuration
    if before is not None and before.fingerprint == fingerprint:
        return before
    return ObservedConfiguration(fingerprint, reads.now, reads.monotonic, changed=before is not None)


def _loss(reads: Reads) -> str:
    stored = reads.stored
    if stored is None:
        return reads.damage
    if reads.now >= stored.not_after:
        return f"the client certificate expired at {status.timestamp(stored.not_after)}"
    if stored.registration is None:
        return stored.damage or "Runtime id, tenant or URLs of the stored credentials are not known"
    return ""


def _already_exchanged(
    configuration: Configuration | None, registration: Registration | None, paired_with: str
) -> bool:
    """The configured token has obtained the stored credentials, maybe with another Runtime id or tenant."""
    if not isinstance(configuration, PairingConfiguration) or not paired_with:
        return False
    before = configuration
    if registration is not None:
        before = replace(configuration, runtime_id=registration.runtime_id, tenant=registration.tenant)
    return paired_with in (configuration.fingerprint, before.fingerprint)


def _reconnect_given_up(state: State) -> bool:
    """It has failed for longer than an outage can last, and not because Compass could not be reached."""
    failure, observed, tolerance = state.pairing_failure, state.memory.configuration, state.limits.refusal_tolerance
    if failure is not None:
        unreached = failure.token in (Token.UNTOUCHED, Token.WRONG_ADDRESS, Token.UNCERTAIN)
        return not unreached and state.monotonic - failure.since >= tolerance
    problem = isinstance(state.configuration, ConfigurationProblem) and state.active_pairing is None
    return problem and observed is not None and state.monotonic - observed.since_monotonic >= tolerance


def _reconnect_wanted(state: State, *, is_new_object: bool, given_up: bool) -> bool:
    """Whether new credentials are requested although there are usable ones.

    A token in the CompassConnection requests them, and so does a CompassConnection whose status does not match the
    stored credentials, because the earlier object was deleted. But the token that obtained them is used, and without a
    token a pairing is neither possible nor intended; this is also the state after a crash between storing credentials
    and writing the status. If a pairing has failed for long enough, the credentials are used.
    """
    configuration = state.configuration
    if configuration is None or given_up:
        return False
    if state.active_pairing is not None and state.active_pairing.fallback_fingerprint:
        return True  # its token was removed from the CompassConnection
    if state.token_already_exchanged:
        return False
    nothing = isinstance(configuration, ConfigurationProblem) and configuration.nothing
    return has_literal_token(state.connection) or (is_new_object and not nothing)


def _token_failure(failure: PairingFailure | None, now: float, *, wanted: bool) -> PairingFailure | None:
    """Of a token in the CompassConnection: tried, or applied again, recently enough to be intended."""
    if failure is None or failure.origin != SPEC_PAIRING:
        return None
    recent = now - max(failure.tried, failure.applied) < _APPLIED_AGAIN_SECONDS
    return failure if wanted or recent else None


def _token_is_newer(state: State, registration: Registration, *, refused_for: float) -> bool:
    """The token was configured after the credentials were obtained, or after the first refusal."""
    configuration = state.configuration
    if not isinstance(configuration, PairingConfiguration):
        return state.active_pairing is not None
    if registration.paired_with and configuration.origin == registration.origin:
        return not state.token_already_exchanged
    observed = state.memory.configuration
    if observed is None or not observed.changed:
        return False
    refused_since = state.monotonic - refused_for
    return observed.since_monotonic >= refused_since or observed.since >= registration.acquired
