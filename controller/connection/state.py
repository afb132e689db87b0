"""The state of the connection at one moment: all that the rules look at. They are in `rules`.

The reconciler reads it. Each fact is a property, computed once from what was read. A State is immutable, and nothing is
read between a decision and its action, except where the action says so.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from controller.compass.errors import Refused
from controller.compass.types import SignedCertificate
from controller.connection import status
from controller.connection.backoff import Pauses
from controller.connection.configuration import (
    SPEC_PAIRING,
    Configuration,
    ConfigurationProblem,
    PairingConfiguration,
    has_spec_token,
    is_revoked,
    revocation_mark,
)
from controller.connection.credentials import (
    ClientSecret,
    CredentialsMissing,
    GatewaySecret,
    PendingCertificate,
    Registration,
    StoredCredentials,
    StoredPairing,
    fault_of_registration,
    resume_with,
)
from controller.connection.observations import CompassService, Failure, Observations, Owner, Refusal
from controller.connection.problem import Problem, TokenFate
from controller.settings import Settings
from controller.validation import fault_of, fault_of_url

Object = dict[str, Any]

_REFUSAL_TOLERANCE_SECONDS = 120.0
"""Refusals are taken for an outage of Compass for this time, and for two sync periods at least. Outages end sooner."""

_APPLIED_AGAIN_SECONDS = 3600.0
"""GitOps tools re-apply a manifest at least hourly."""

_SHOWN_DIGITS = 12  # of a fingerprint

_UNKNOWN_TENANT = frozenset({24, 25})
"""Error codes of the Director: the tenant is missing or not found."""

_UNANSWERED = Failure(Refused, "refused the certificate before a restart of the agent, and has not answered since")

GATEWAY = "gateway"
"""The subject of the pauses between writes of its Secret."""


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
class PairingProgress:
    """How far a pairing is. `signed`: the answer of the Connector, and `request_id`: the x-request-id of that call.
    `is_saved`: the pairing is stored as it is here.
    """

    pairing: StoredPairing
    signed: SignedCertificate | None = None
    request_id: str = ""
    is_saved: bool = True

    @property
    def has_unsaved_answer(self) -> bool:
        """An answer of the Connector is not stored, and must not be requested again."""
        return bool(self.pairing.key) and (self.signed is not None or not self.is_saved)


@dataclass(frozen=True)
class PairingFailure:
    """The last attempt to pair with the configuration of this fingerprint.

    `since`: the first failure, `tried`: the last one, `applied`: when its token was last found in
    spec.pairing; monotonic seconds. `final`: no attempt with this configuration can succeed any more. `may_have_used`:
    the text of a failure that may have used the token.
    `unsaved`: the pairing, if it has an answer that is not stored yet. `retry_after`: of the server, in seconds.
    """

    fingerprint: str
    problem: Problem
    fate: TokenFate
    origin: str
    since: float
    tried: float
    final: bool
    may_have_used: str = ""
    applied: float = 0.0
    unsaved: PairingProgress | None = None
    retry_after: float | None = None


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
class DeferredRenewal:
    """Before the time `until` (epoch seconds), a renewed certificate would end before this one. `text`: for people."""

    certificate: str
    until: float
    text: str


@dataclass(frozen=True)
class NewCredentials:
    """New credentials were stored. `renewed_because`: the reason of the renewal, for people; "" after a pairing.
    `fulfils_request`: refreshCredentialsNow was set before.
    """

    fulfils_request: bool
    renewed_because: str = ""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What this process knows and does not store.

    `refused_before`, `failing_before`: read once, from the status that an earlier process has left: the refusals of a
    certificate, and the failing pairing with the time of its first failure. Their times are monotonic seconds, so they
    may be negative. Their certificate and configuration are labels, as in the status. `unsaved`: a pairing with an
    answer that is not stored yet. `unreported`: what was done and is not in the status yet.
    """

    refused_before: tuple[Refusal, ...] = ()
    failing_before: tuple[str, float] | None = None
    configuration: ObservedConfiguration | None = None
    pairing_failure: PairingFailure | None = None
    unsaved: PairingProgress | None = None
    last_call: LastConnectorCall | None = None
    gateway_failure: Failure | None = None
    renewed_at: float | None = None  # monotonic seconds
    deferred_renewal: DeferredRenewal | None = None
    unreported: NewCredentials | None = None

    @classmethod
    def after_restart(cls, connection: Object | None, *, now: float, monotonic: float) -> "Memory":
        def since(condition: status.LastingCondition) -> float:
            return monotonic - max(now - condition.since, 0.0)

        refused = status.read_lasting(connection, status.Lasting.CERTIFICATE_REFUSED)
        failing = status.read_lasting(connection, status.Lasting.PAIRING_FAILING)
        refusals = (
            Refusal(service, refused.subject, _UNANSWERED, since(refused), last=since(refused))
            for service in CompassService
            if refused is not None and service in refused.reason
        )
        return cls(
            refused_before=tuple(refusals),
            failing_before=(failing.subject, since(failing)) if failing is not None else None,
        )


# --- the state ---


@dataclass(frozen=True, kw_only=True)
class State:
    """The fields are what was observed; the rest is computed from them. Pauses in seconds.

    `secret`: that of the client. `ids`: Runtime id and tenant for credentials that do not include them.
    `configuration`: also if nothing depends on it. `fallback_fingerprint`: that of the configuration in Secret or
    ConfigMap, which applies after a token in spec.pairing.
    """

    now: float
    monotonic: float
    settings: Settings
    connection: Object | None
    secret: ClientSecret
    ids: tuple[str, str] | None
    gateway: GatewaySecret
    configuration: Configuration
    fallback_fingerprint: str
    pauses: Pauses = field(repr=False)
    observations: Observations
    memory: Memory = field(repr=False)

    # --- the stored credentials ---

    @property
    def stored(self) -> StoredCredentials | None:
        """Credentials that can be read, though they may have expired."""
        found = self.secret.credentials
        return found if isinstance(found, StoredCredentials) else None

    @cached_property
    def loss(self) -> str:
        """What is wrong with the credentials; "" if they are usable, or if there never were any."""
        found = self.secret.credentials
        if not isinstance(found, StoredCredentials):
            lost = not isinstance(found, CredentialsMissing) or status.was_established(self.connection)
            return str(found) if lost else ""
        if self.now >= found.not_after:
            return f"the client certificate expired at {status.timestamp(found.not_after)}"
        if found.registration is None:
            return found.damage or "Runtime id, tenant or URLs of the stored credentials are not known"
        return ""

    @cached_property
    def is_usable(self) -> bool:
        """There are credentials that can be used, even if Compass refuses them."""
        return self.stored is not None and not self.loss

    @property
    def credentials(self) -> StoredCredentials:
        """Only if there are some."""
        assert self.stored is not None
        return self.stored

    @property
    def registration(self) -> Registration:
        """Only if the credentials are usable."""
        assert self.credentials.registration is not None
        return self.credentials.registration

    @cached_property
    def adoptable(self) -> Registration | None:
        """The registration for credentials of the Go agent, or for damaged ones."""
        if self.stored is None or self.stored.registration is not None:
            return None
        runtime_id, tenant = self.ids or ("", "")
        urls = (self.connection or {}).get("spec", {}).get("managementInfo") or {}
        known = self.secret.registration or Registration(runtime_id="", tenant="", connector_url="", director_url="")
        found = replace(
            known,
            runtime_id=runtime_id if fault_of(known.runtime_id) else known.runtime_id,
            tenant=tenant if fault_of(known.tenant) else known.tenant,
            connector_url=_usable_url(known.connector_url, urls.get("connectorUrl")),
            director_url=_usable_url(known.director_url, urls.get("directorUrl")),
        )
        return None if fault_of_registration(found) else found

    # --- what Compass says of usable credentials ---

    @cached_property
    def refusals(self) -> tuple[Refusal, ...]:
        """Those of this certificate, with the time before a restart."""
        if not self.is_usable:
            return ()
        certificate = self.credentials.fingerprint
        since = {refusal.by: refusal.since for refusal in self.refused_before}
        return tuple(
            replace(refusal, since=min(refusal.since, since.get(refusal.by, refusal.since)))
            for refusal in self.observations.refusals
            if refusal.certificate == certificate
        )

    @property
    def refused_before(self) -> tuple[Refusal, ...]:
        """Refusals of this certificate before a restart, by services that have not accepted it since."""
        if not self.is_usable:
            return ()
        label = certificate_label(self.credentials.fingerprint)
        over = {CompassService.CONNECTOR: self.connector_accepts, CompassService.DIRECTOR: self.director_accepts}
        return tuple(one for one in self.memory.refused_before if one.certificate == label and not over[one.by])

    @cached_property
    def unanswered(self) -> tuple[Refusal, ...]:
        """Refusals before a restart, by services that have not answered since."""
        answered = {refusal.by for refusal in self.refusals}
        return tuple(refusal for refusal in self.refused_before if refusal.by not in answered)

    @cached_property
    def refused_for(self) -> float:
        """Seconds since the first refusal, also before a restart."""
        refusals = (*self.refusals, *self.unanswered)
        return max((self.monotonic - refusal.since for refusal in refusals), default=0.0)

    @property
    def refusal_tolerance(self) -> float:
        return max(_REFUSAL_TOLERANCE_SECONDS, 2 * self.settings.sync_period)

    @cached_property
    def director_refusal(self) -> Refusal | None:
        return next((refusal for refusal in self.refusals if refusal.by is CompassService.DIRECTOR), None)

    @property
    def last_call(self) -> LastConnectorCall | None:
        """The last call to the Connector with this certificate."""
        call = self.memory.last_call
        return call if call is not None and call.certificate == self.credentials.fingerprint else None

    @property
    def connector_accepts(self) -> bool:
        """The Connector accepted this certificate in its last call."""
        return self.last_call is not None and self.last_call.failure is None

    @property
    def director_accepts(self) -> bool:
        """The last fetch from the Director succeeded."""
        return self.observations.sync_state not in (None, status.ConnectionState.SYNCHRONIZATION_FAILED)

    @cached_property
    def accepted(self) -> bool:
        """The Connector accepts the credentials, and the Director has answered, too."""
        return self.is_usable and self.connector_accepts and self.director_accepts and not self.refusals

    @property
    def unknown_tenant(self) -> Refusal | None:
        """The Director does not know the tenant, and the Connector accepts the credentials."""
        refusal = self.director_refusal
        is_unknown = refusal is not None and refusal.failure.code in _UNKNOWN_TENANT
        return refusal if is_unknown and self.connector_accepts else None

    @property
    def not_valid_yet(self) -> bool:
        """By the clock of the cluster. One that the Connector accepts is valid by the clock that matters."""
        return self.now < self.credentials.not_before and not self.connector_accepts

    @cached_property
    def wrong_owner(self) -> Owner | None:
        """The certificate is not that of the configured Runtime."""
        owner = self.observations.owner
        if not self.is_usable or owner is None or owner.certificate != self.credentials.fingerprint:
            return None
        return owner if owner.actual not in (None, self.registration.runtime_id) else None

    @cached_property
    def connector_pause(self) -> float:
        return self.pauses.connector.wait(self.credentials.fingerprint)

    @cached_property
    def gateway_pause(self) -> float:
        return self.pauses.gateway.wait(GATEWAY)

    # --- the configuration, and pairings with it ---

    @cached_property
    def is_new_object(self) -> bool:
        """This CompassConnection replaces a deleted one: neither its status nor its URLs are those of the credentials.
        Also if there is none.
        """
        connection, known = self.connection, self.registration
        if connection is None:
            return True
        if connection["metadata"]["uid"] == known.connection_uid:
            return False  # they were obtained for it, and its status is written next
        urls = status.management_info(connector_url=known.connector_url, director_url=known.director_url)
        return not status.was_established(connection) and connection.get("spec", {}).get("managementInfo") != urls

    @cached_property
    def relevant_configuration(self) -> Configuration | None:
        """None while nothing depends on it, so an invalid one has no effect while the connection works."""
        matters = (
            not self.is_usable
            or self.is_new_object
            or bool(self.refusals)
            or self.wrong_owner is not None
            or has_spec_token(self.connection)
            or self.stored_pairing is not None
            or revocation_mark(self.connection) is not None
        )
        return self.configuration if matters else None

    @property
    def stored_pairing(self) -> StoredPairing | None:
        """A pairing in progress, for any configuration."""
        return self.secret.pairing

    @cached_property
    def active_pairing(self) -> StoredPairing | None:
        """The pairing in progress for the current configuration; the one in memory is more recent."""
        if self.relevant_configuration is None:
            return None
        unsaved = self.memory.unsaved
        for pairing in (unsaved.pairing if unsaved is not None else None, self.stored_pairing):
            adapted = resume_with(pairing, self.relevant_configuration) if pairing is not None else None
            if adapted is not None:
                return adapted
        return None

    @cached_property
    def attempt_fingerprint(self) -> str:
        """The fingerprint of the configuration of the next attempt to pair; "" while nothing depends on it."""
        if self.active_pairing is not None:
            return self.active_pairing.configuration
        return "" if self.relevant_configuration is None else self.relevant_configuration.fingerprint

    @property
    def pairing_failure(self) -> PairingFailure | None:
        """The failure of the last attempt, if the next one has the same configuration."""
        failure = self.memory.pairing_failure
        return failure if failure is not None and failure.fingerprint == self.attempt_fingerprint else None

    @property
    def pairing_failing_since(self) -> float | None:
        """The first failure, monotonic seconds, also before a restart."""
        if self.pairing_failure is not None:
            return self.pairing_failure.since
        known = self.memory.failing_before
        return known[1] if known is not None and known[0] == configuration_label(self.attempt_fingerprint) else None

    @cached_property
    def pairing_pause(self) -> float:
        return self.pauses.pairing.wait(self.attempt_fingerprint)

    @cached_property
    def token_already_exchanged(self) -> bool:
        """The configured token has obtained the stored credentials, maybe with other values beside it."""
        configuration, known = self.relevant_configuration, self.secret.registration
        if not isinstance(configuration, PairingConfiguration) or known is None:
            return False
        return known.paired_with == configuration.token_fingerprint

    @property
    def revoked(self) -> bool:
        return self.relevant_configuration is not None and is_revoked(self.connection, self.relevant_configuration)

    # --- a pairing that is requested although there are usable credentials ---

    @cached_property
    def reconnect_wanted(self) -> bool:
        """Whether new credentials are requested although there are usable ones.

        A token in the CompassConnection requests them, and so does a CompassConnection whose status does not match the
        stored credentials, because the earlier object was deleted. But nothing is requested by the token that obtained
        them (so not after a crash between storing credentials and writing the status), nor without a token. If a
        pairing has failed for long enough, the stored credentials are used.
        """
        configuration = self.relevant_configuration
        if configuration is None or self.reconnect_abandoned:
            return False
        if self.active_pairing is not None and self.active_pairing.is_from_spec:
            return True  # its token was removed from the CompassConnection
        if self.token_already_exchanged:
            return False
        nothing = isinstance(configuration, ConfigurationProblem) and configuration.is_absent
        return has_spec_token(self.connection) or (self.is_new_object and not nothing)

    @cached_property
    def reconnect_abandoned(self) -> bool:
        """The new pairing has failed for longer than an outage lasts, and not because Compass could not be reached; or
        its configuration has been unusable for as long.
        """
        failure, observed = self.pairing_failure, self.memory.configuration
        if failure is not None:
            unreached = failure.fate in (TokenFate.UNTOUCHED, TokenFate.WRONG_ADDRESS, TokenFate.UNCERTAIN)
            return not unreached and self.monotonic - failure.since >= self.refusal_tolerance
        problem = isinstance(self.relevant_configuration, ConfigurationProblem) and self.active_pairing is None
        return problem and observed is not None and self.monotonic - observed.since_monotonic >= self.refusal_tolerance

    @property
    def status_shows_credentials(self) -> bool:
        """The status of the CompassConnection is that of the credentials, even if new ones are requested."""
        return self.is_usable and not (self.reconnect_wanted and self.is_new_object)

    @cached_property
    def token_failure(self) -> PairingFailure | None:
        """The failure of a token in spec.pairing while the credentials are used. The token was tried, or applied again,
        recently enough to be intended.
        """
        failure = self.memory.pairing_failure
        if failure is None or failure.origin != SPEC_PAIRING or not self.status_shows_credentials:
            return None
        recent = self.monotonic - max(failure.tried, failure.applied) < _APPLIED_AGAIN_SECONDS
        return failure if self.reconnect_wanted or recent else None

    @cached_property
    def token_is_newer(self) -> bool:
        """The token was configured after the credentials were obtained, or after the first refusal."""
        configuration, known, observed = self.relevant_configuration, self.registration, self.memory.configuration
        if not isinstance(configuration, PairingConfiguration):
            return self.active_pairing is not None
        if known.paired_with and configuration.origin == known.origin:
            return not self.token_already_exchanged
        if observed is None or not observed.changed:
            return False
        refused_since = self.monotonic - self.refused_for
        return observed.since_monotonic >= refused_since or observed.since >= known.acquired

    # --- the renewal of usable credentials ---

    @property
    def pending(self) -> PendingCertificate | None:
        """The renewed certificate that waits until it is valid."""
        pending = self.secret.pending
        return pending if pending is not None and pending.replaces == self.credentials.fingerprint else None

    @cached_property
    def renewal_due_at(self) -> float:
        """Epoch seconds."""
        acquired = self.registration.acquired
        if acquired > self.now:
            acquired = 0  # the clock was wrong then
        return renewal_due_at(
            self.settings,
            not_before=self.credentials.not_before,
            not_after=self.credentials.not_after,
            acquired=acquired,
        )

    @property
    def deferred_renewal(self) -> DeferredRenewal | None:
        """The reason not to renew the certificate yet."""
        deferred = self.memory.deferred_renewal
        if deferred is None or deferred.certificate != self.credentials.fingerprint or self.now >= deferred.until:
            return None
        return deferred

    @property
    def since_renewal(self) -> float:
        renewed_at = self.memory.renewed_at
        return float("inf") if renewed_at is None else self.monotonic - renewed_at

    # --- what is remembered for the next one ---

    def remembered(self) -> Memory:
        """The memory with what this state has observed."""
        memory = self.memory
        if self.is_usable:
            memory = replace(memory, refused_before=self.refused_before)
        if self.pairing_failure is not None and has_spec_token(self.connection):
            memory = replace(memory, pairing_failure=replace(self.pairing_failure, applied=self.monotonic))
        if self.relevant_configuration is None:
            return replace(memory, configuration=None)
        fingerprint, before = self.relevant_configuration.fingerprint, memory.configuration
        if before is not None and before.fingerprint == fingerprint:
            return memory
        observed = ObservedConfiguration(fingerprint, self.now, self.monotonic, changed=before is not None)
        return replace(memory, configuration=observed)


def renewal_due_at(settings: Settings, *, not_before: float, not_after: float, acquired: float = 0.0) -> float:
    """The time from which a certificate is due for renewal; epoch seconds.

    One that is past its threshold when it is received, because of a short validity or different clocks, is used for
    half of its remaining time, so that renewals do not follow each other without a pause.
    """
    validity = not_after - not_before
    margin = max(validity * settings.renewal_threshold, min(2 * settings.minimal_sync_time, validity / 2))
    threshold = not_after - margin
    return threshold if acquired < threshold else (acquired + not_after) / 2


def certificate_label(fingerprint: str) -> str:
    """The certificate in the status."""
    return f"certificate {fingerprint[:_SHOWN_DIGITS]}"


def configuration_label(fingerprint: str) -> str:
    """The configuration of a pairing in the status. It does not disclose the token."""
    return f"configuration {fingerprint[:_SHOWN_DIGITS]}"


def _usable_url(*candidates: object) -> str:
    urls = (value for value in candidates if isinstance(value, str) and not fault_of_url(value))
    return next(urls, "")
