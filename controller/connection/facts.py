"""The input of a decision about the connection, read at one moment. The decision itself is in `policy`."""

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from controller.compass.types import SignedCertificate
from controller.connection import configuration as sources
from controller.connection import revocation
from controller.connection import status as cc
from controller.connection.configuration import ConfigurationProblem, PairingConfiguration, ProblemKind
from controller.connection.credentials import Pairing, Registration, StoredCredentials, fingerprint_of, going_on
from controller.connection.health import HealthFacts, Party, Refusal
from controller.connection.reasons import Failure, GatewaySecretFailed, PairingFailed, Token
from controller.settings import Settings

Object = dict[str, Any]

_SECOND_TOKEN_SECONDS = 300.0
"""Lifetime of the token that the Connector returns for the configured one. After that, a refusal is final."""

_FIRST_TOKEN_SECONDS = 3600.0
"""The same for the one-time token of a Runtime."""


_REFUSAL_TOLERANCE_SECONDS = 120.0
"""Outages of Compass that look like refusals are shorter. At least two sync periods are tolerated."""

_APPLIED_AGAIN_SECONDS = 3600.0
"""Tools that apply the objects of a repository do so more often than this."""


_UNKNOWN_TENANT = frozenset({24, 25})
"""Error codes of the Director: the tenant is missing or not found."""


class GatewaySecret(Enum):
    """The gateway's copy of the CA certificates."""

    AS_WANTED = auto()
    DIFFERENT = auto()
    MISSING = auto()


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


# --- memory between two reconciles; a restart may lose all of it ---


@dataclass(frozen=True)
class Seen:
    """The last observed configuration. `since`: when it was first observed, epoch and monotonic seconds.

    `changed`: another one was observed before it, so `since` is the time of the change.
    """

    fingerprint: str
    since: float
    since_monotonic: float
    changed: bool


@dataclass(frozen=True)
class PairingTrouble:
    """The result of the last attempt to pair with the configuration `what`.

    `since`: the first failure, `tried`: the last one, `applied`: when its literal token was last found in the
    CompassConnection; monotonic seconds.
    """

    what: str
    failed: PairingFailed
    since: float
    tried: float
    final: bool
    applied: float = 0.0

    def is_hopeless(self, now: float, tolerance: float) -> bool:
        """It has failed for longer than an outage can last, and not because Compass could not be reached."""
        failed = self.failed.token not in (Token.UNTOUCHED, Token.UNCERTAIN)
        return failed and now - self.since >= tolerance

    def is_recent(self, now: float) -> bool:
        """The token was tried, or applied again, recently enough to be intended."""
        return now - max(self.tried, self.applied) < _APPLIED_AGAIN_SECONDS


@dataclass(frozen=True)
class MaintenanceTrouble:
    """The result of the last call to the Connector with a certificate."""

    certificate: str
    failure: Failure
    renewing: bool


@dataclass(frozen=True)
class Unstored:
    """An answer of the Connector that could not be stored yet, and must not be requested again."""

    pairing: Pairing
    signed: SignedCertificate | None = None
    request_id: str = ""  # of the call that signed it


@dataclass(frozen=True)
class Fresh:
    """A renewed certificate that does not replace the current one yet. `received`: epoch seconds.

    `request_id`: the x-request-id of the call that signed it.
    """

    replaces: str
    key_pem: bytes = field(repr=False)
    signed: SignedCertificate
    registration: Registration
    received: float
    request_id: str

    @property
    def valid_from(self) -> float:
        """Epoch seconds."""
        return self.signed.leaf.not_before.timestamp()


@dataclass(frozen=True)
class Asked:
    """The last call to the Connector with a certificate. Monotonic seconds; `next`: the time of the next one."""

    certificate: str
    at: float
    next: float


@dataclass(frozen=True)
class Paired:
    """A success that is not reported yet. `origin`: the object with the token."""

    certificate: str
    origin: str


@dataclass(frozen=True)
class Renewed:
    """A success that is not reported yet. `why`: for people."""

    certificate: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Memory:
    seen: Seen | None = None
    trouble: PairingTrouble | None = None
    unstored: Unstored | None = None
    fresh: Fresh | None = None
    maintenance: MaintenanceTrouble | None = None
    gateway: GatewaySecretFailed | None = None
    asked: Asked | None = None
    renewed_at: float | None = None  # monotonic seconds
    news: Paired | Renewed | None = None


# --- facts ---


@dataclass(frozen=True, kw_only=True)
class Waits:
    """Seconds until the next attempt after a failure."""

    pairing: float = 0.0
    maintenance: float = 0.0
    gateway: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """`credentials` can be read, though they may have expired; else `problem` says what is wrong with them.

    `configuration` is None while nothing depends on it. `beside`: the fingerprint of what is configured beside the
    CompassConnection. `under_way`: a pairing in progress, for any configuration. `takeover`: the registration for
    credentials of the Go agent, or for damaged ones. `paired_with`: the configuration that obtained the credentials,
    also if they cannot be read.
    """

    now: float
    monotonic: float
    limits: Limits
    connection: Object | None = None
    credentials: StoredCredentials | None = None
    problem: str = ""
    configuration: PairingConfiguration | ConfigurationProblem | None = None
    beside: str = ""
    under_way: Pairing | None = None
    takeover: Registration | None = None
    paired_with: str = ""
    gateway: GatewaySecret = GatewaySecret.AS_WANTED
    health: HealthFacts = field(default_factory=HealthFacts)
    memory: Memory = field(default_factory=Memory)
    waits: Waits = field(default_factory=Waits)

    # --- the credentials ---

    @property
    def usable(self) -> bool:
        """There are credentials that can be used, even if Compass refuses them."""
        return (
            self.credentials is not None
            and self.credentials.registration is not None
            and self.now < self.credentials.not_after
        )

    @property
    def current(self) -> StoredCredentials:
        """The usable credentials."""
        assert self.credentials is not None
        return self.credentials

    @property
    def registration(self) -> Registration:
        """The registration of the usable credentials."""
        assert self.credentials is not None
        assert self.credentials.registration is not None
        return self.credentials.registration

    @property
    def loss(self) -> str:
        """The problem of the credentials; "" if there never were any, or if there is no problem."""
        if self.credentials is None:
            return self.problem
        if self.now >= self.credentials.not_after:
            return f"the client certificate expired at {cc.timestamp(self.credentials.not_after)}"
        if self.credentials.registration is None:
            return self.credentials.damage or "Runtime id, tenant or URLs of the stored credentials are not known"
        return ""

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Refusals of the current certificate: those of an earlier one are ignored."""
        return tuple(r for r in self.health.refusals if r.certificate == self.current.fingerprint)

    @property
    def refused_for(self) -> float:
        """Seconds since the first refusal of the certificate."""
        return max((self.monotonic - refusal.since for refusal in self.refusals), default=0.0)

    @property
    def director_refusal(self) -> Refusal | None:
        """The Director's refusal of the certificate."""
        return next((refusal for refusal in self.refusals if refusal.by is Party.DIRECTOR), None)

    @property
    def tenant_unknown(self) -> Refusal | None:
        """The Director's refusal, if it does not know the tenant, and the Connector has accepted the certificate."""
        refusal = self.director_refusal
        accepted = self.asked is not None and self.maintenance is None
        return refusal if refusal is not None and refusal.failure.code in _UNKNOWN_TENANT and accepted else None

    @property
    def not_valid_yet(self) -> bool:
        """By the clock of the cluster. One that the Connector accepts is valid by the clock that matters."""
        accepted = self.asked is not None and self.maintenance is None
        return self.now < self.current.not_before and not accepted

    @property
    def wrong_runtime(self) -> str | None:
        """The Runtime of the certificate, if it is not the configured one."""
        verdict = self.health.verdict
        if verdict is None or verdict.actual is None or verdict.certificate != self.current.fingerprint:
            return None
        return verdict.actual if verdict.actual != self.registration.runtime_id else None

    @property
    def renewal_due_at(self) -> float:
        """Epoch seconds. If the certificate was received in the future, the clock was wrong then."""
        acquired = self.registration.acquired
        return self.limits.renewal_due_at(
            not_before=self.current.not_before,
            not_after=self.current.not_after,
            acquired=acquired if acquired <= self.now else 0,
        )

    @property
    def past_threshold_on_arrival(self) -> bool:
        """The certificate was already due for renewal when it was received."""
        of_its_validity = self.limits.renewal_due_at(
            not_before=self.current.not_before, not_after=self.current.not_after
        )
        return self.registration.acquired >= of_its_validity

    @property
    def fresh(self) -> Fresh | None:
        """A renewed certificate that waits to replace this one."""
        fresh = self.memory.fresh
        return fresh if fresh is not None and fresh.replaces == self.current.fingerprint else None

    @property
    def asked(self) -> Asked | None:
        """The last call to the Connector with this certificate."""
        asked = self.memory.asked
        return asked if asked is not None and asked.certificate == self.current.fingerprint else None

    @property
    def maintenance(self) -> MaintenanceTrouble | None:
        """The current failure of calls to the Connector with this certificate."""
        trouble = self.memory.maintenance
        return trouble if trouble is not None and trouble.certificate == self.current.fingerprint else None

    @property
    def since_renewal(self) -> float:
        """Seconds since this process last renewed the certificate; infinite before the first time."""
        return float("inf") if self.memory.renewed_at is None else self.monotonic - self.memory.renewed_at

    # --- pairing ---

    @property
    def pairing(self) -> Pairing | None:
        """The pairing in progress for the current configuration; the one in memory is more recent."""
        if self.configuration is None:
            return None
        known = (self.memory.unstored.pairing if self.memory.unstored else None, self.under_way)
        wanted = (going_on(pairing, self.configuration) for pairing in known if pairing is not None)
        return next((pairing for pairing in wanted if pairing is not None), None)

    @property
    def what(self) -> str:
        """The fingerprint of the configuration for a pairing."""
        if self.pairing is not None:
            return self.pairing.configuration
        return "" if self.configuration is None else fingerprint_of(self.configuration)

    @property
    def trouble(self) -> PairingTrouble | None:
        """The result of the last attempt of this pairing."""
        trouble = self.memory.trouble
        return trouble if trouble is not None and trouble.what == self.what else None

    @property
    def revoked(self) -> bool:
        """An operator has revoked the connection, and the configuration has not changed since."""
        return self.configuration is not None and revocation.is_marked(self.connection, self.configuration)

    @property
    def established(self) -> bool:
        """This CompassConnection has been connected before."""
        return cc.was_established(self.connection)

    @property
    def token_has_won(self) -> bool:
        """The configured token has obtained the stored credentials, maybe with another Runtime id or tenant."""
        configured = self.configuration
        if not isinstance(configured, PairingConfiguration) or not self.paired_with:
            return False
        before = configured
        if self.credentials is not None and self.credentials.registration is not None:
            won = self.credentials.registration
            before = replace(configured, runtime_id=won.runtime_id, tenant=won.tenant)
        return self.paired_with in (configured.fingerprint, before.fingerprint)

    @property
    def corrected(self) -> Registration | None:
        """The registration with the currently configured ids, if they differ and its token is unchanged; else None.

        A literal token of the CompassConnection was removed after the pairing, but its ids stay.
        """
        configured, stored = self.configuration, self.registration
        ids, corrected = sources.ids_of(self.connection) if stored.origin == sources.SPEC_PAIRING else None, stored
        if isinstance(configured, PairingConfiguration) and self.token_has_won:
            ids = (configured.runtime_id, configured.tenant)
            corrected = replace(stored, paired_with=configured.fingerprint, origin=configured.origin)
        if ids is None or ids == (stored.runtime_id, stored.tenant):
            return None
        return replace(corrected, runtime_id=ids[0], tenant=ids[1])

    @property
    def reconnect_wanted(self) -> bool:
        """Whether new credentials are requested although there are usable ones.

        A token in the CompassConnection requests them, and so does a CompassConnection whose status does not match the
        stored credentials, because the earlier object was deleted. But the token that obtained them is used, and
        without a token a pairing is neither possible nor intended; this is also the state after a crash between storing
        credentials and writing the status. If a pairing has failed for long enough, the credentials are used.
        """
        configuration = self.configuration
        if configuration is None or self.reconnect_is_hopeless:
            return False
        if self._taken_over:
            return True
        if self.token_has_won:
            return False
        nothing = isinstance(configuration, ConfigurationProblem) and configuration.kind is ProblemKind.NOTHING
        return sources.has_literal_token(self.connection) or (self.knows_nothing_of_credentials and not nothing)

    @property
    def in_use(self) -> bool:
        """The stored credentials are the ones for the status of this CompassConnection, even if new ones are
        requested.
        """
        return self.usable and not (self.reconnect_wanted and self.knows_nothing_of_credentials)

    @property
    def reconnect_trouble(self) -> PairingTrouble | None:
        """The result of a token in the CompassConnection while the stored credentials are used."""
        trouble = self.memory.trouble
        if trouble is None or trouble.failed.origin != sources.SPEC_PAIRING or not self.in_use:
            return None
        return trouble if self.reconnect_wanted or trouble.is_recent(self.monotonic) else None

    @property
    def knows_nothing_of_credentials(self) -> bool:
        """The CompassConnection is new: neither its status nor its URLs are those of the stored credentials."""
        if self.connection is None:
            return True
        if self.connection["metadata"]["uid"] == self.registration.asked_by:
            return False  # they were obtained for it, and its status is written next
        urls = self.connection.get("spec", {}).get("managementInfo")
        return not self.established and urls != cc.management_info(self.registration)

    @property
    def _taken_over(self) -> bool:
        """A token was removed from the CompassConnection, and its pairing has not ended."""
        return self.pairing is not None and bool(self.pairing.beside)

    @property
    def reconnect_is_hopeless(self) -> bool:
        """It has failed for longer than an outage can last, and not because Compass could not be reached."""
        tolerance = self.limits.refusal_tolerance
        if self.trouble is not None:
            return self.trouble.is_hopeless(self.monotonic, tolerance)
        seen = self.memory.seen
        problem = isinstance(self.configuration, ConfigurationProblem) and self.pairing is None
        return problem and seen is not None and self.monotonic - seen.since_monotonic >= tolerance

    @property
    def token_is_newer(self) -> bool:
        """The token was configured after the credentials were obtained, or after the first refusal."""
        configuration = self.configuration
        if not isinstance(configuration, PairingConfiguration):
            return self.pairing is not None
        won_elsewhere = configuration.origin != self.registration.origin
        if self.registration.paired_with and not won_elsewhere:
            return not self.token_has_won
        seen = self.memory.seen
        if seen is None or not seen.changed:
            return False
        refused_since = self.monotonic - self.refused_for
        return seen.since_monotonic >= refused_since or seen.since >= self.registration.acquired


def is_final(failed: PairingFailed, pairing: Pairing | None, now: float) -> bool:
    """Whether a pairing with this failure can be given up. After a refusal, only when its token has expired."""
    if failed.token in (Token.SPENT, Token.LOST):
        return True
    if failed.token not in (Token.REFUSED, Token.ANSWER_LOST) or pairing is None:
        return False
    lifetime = _SECOND_TOKEN_SECONDS if pairing.key else _FIRST_TOKEN_SECONDS
    return now - pairing.since >= lifetime
