"""A problem of the connection: what failed, why, and what to do. The texts of the status and of Events are here.

A problem is made where the failure is known, and compared without the ids of calls, so that the same failure again is
no news. To add one: a Kind, which is the reason of its Event (a row of docs/operations.md; none for those in
`report._WITHOUT_EVENT`), a function here with the text, and the rule that returns it in `rules` (or the line in
`rules.warnings` for a problem that does not stop the agent). For another failure of a pairing: a TokenFate with its
text in `_advice`, and its cause in `pairing._fate_of_token`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto

from controller.compass.errors import UnexpectedAnswer
from controller.connection import status
from controller.connection.configuration import (
    REVOKED,
    SPEC_NAMES,
    SPEC_PAIRING,
    ConfigurationProblem,
)
from controller.connection.observations import Failure, Owner, Refusal

_MAINTENANCE = "Error while trying to maintain connection: "  # the same prefix as in the Go agent
_ALSO_AN_OUTAGE = "Compass gives the same answer while its Director or its database is down"


class Kind(StrEnum):
    """The reason of the Event of a problem."""

    PAIRING_FAILED = "PairingFailed"
    WRONG_RUNTIME = "WrongRuntime"
    UNKNOWN_TENANT = "UnknownTenant"
    CERTIFICATE_NOT_VALID_YET = "CertificateNotValidYet"
    CONNECTION_SUSPECTED = "ConnectionSuspected"
    CONNECTION_MAINTENANCE_FAILED = "ConnectionMaintenanceFailed"
    RENEWAL_FAILED = "RenewalFailed"
    INTERNAL_ERROR = "InternalError"
    GATEWAY_SECRET_FAILED = "GatewaySecretFailed"  # noqa: S105
    CERTIFICATE_SHORT_LIVED = "CertificateShortLived"
    RENEWAL_WAITS = "RenewalWaits"
    REVOCATION_UNFINISHED = "RevocationUnfinished"


class TokenFate(Enum):
    """The state of the one-time token after a failed pairing."""

    UNTOUCHED = auto()
    """Compass has not received it, or its answer is kept until it can be stored."""
    WRONG_ADDRESS = auto()
    """The server demands a client certificate, so it is the one for later calls. It has not seen the token."""
    UNCERTAIN = auto()
    """The answer was lost or invalid, or a component of Compass failed: Compass may have used the token."""
    REFUSED = auto()
    """The Connector refused it: it is unknown, used or expired, or Compass cannot look it up."""
    ANSWER_LOST = auto()
    """The second token is refused: most likely the Connector has signed, and its answer was lost."""
    SPENT = auto()
    """The Connector accepted it and did not sign."""
    STATE_CHANGED = auto()
    """The stored state of the pairing was changed, so its token is lost."""


@dataclass(frozen=True)
class Problem:
    """`message`: for people, without ids. `state`: that of the CompassConnection; None: the connection works, and the
    message is a warning.

    `prefix`: which part of a pairing failed, in the text of the Go agent. `cure`: what to do, as a part of other texts.
    `request_id`: the x-request-id of the failed call, "" if there was none.
    """

    kind: Kind
    message: str
    state: status.ConnectionState | None = status.ConnectionState.CONNECTION_MAINTENANCE_FAILED
    prefix: str = ""
    cure: str = ""
    request_id: str = field(default="", compare=False)

    def text(self, *, with_id: bool = False) -> str:
        """For the status, an Event or the log. `with_id`: with the id that is also in the logs of Compass."""
        if not self.prefix:
            return self.message
        identified = f"x-request-id: {self.request_id} failed: " if with_id and self.request_id else ""
        return f"{self.prefix}: {identified}{self.message}"


# --- no pairing ---


def not_configured(problem: ConfigurationProblem, last: Problem | None = None) -> Problem:
    """The configuration cannot be used. `last`: the last pairing, whose token may have been removed since."""
    earlier = f"; the last pairing failed: {last.text()}" if last is not None else ""
    return _no_pairing(f"{problem.text}{earlier}", cure=f"configure a new one-time token; {problem.text}")


def revoked_by_operator(origin: str, *, fault: str = "") -> Problem:
    """`fault`: that of the configuration, "" for none."""
    text = f"the certificate was revoked by an operator; to connect again, {_new_token(origin)}"
    return _no_pairing(f"{text}; {fault}" if fault else text)


def token_used(origin: str) -> Problem:
    """The configured token is the one that obtained the credentials."""
    return _no_pairing(
        f"the configured one-time token has already been used; {_new_token(origin)}",
        cure=f"configure a new one-time token in {origin}",
    )


def pairing_failed(prefix: str, failure: Failure, *, fate: TokenFate, origin: str, may_have_used: str = "") -> Problem:
    """`may_have_used`: an earlier failure that may have used the token which is refused now."""
    advice = _advice(fate, failure, origin)
    if may_have_used:
        advice = f"an earlier attempt may have used the one-time token: {may_have_used}; {_new_token(origin)}"
    return Problem(
        Kind.PAIRING_FAILED,
        f"{failure.text} ({advice})" if advice else failure.text,
        status.ConnectionState.CONNECTION_FAILED,
        prefix=prefix,
        request_id=failure.request_id,
    )


def without_credentials(obstacle: Problem, *, loss: str) -> Problem:
    """There are no usable credentials. `loss`: what happened to them, "" before the first pairing."""
    return replace(obstacle, message=f"{loss}, so a new pairing is needed: {obstacle.message}") if loss else obstacle


def reconnect_failed(obstacle: Problem) -> Problem:
    """A new pairing was requested and fails. The stored credentials are used until it succeeds."""
    kept = "a new pairing was requested; the stored credentials are used until it succeeds"
    return replace(
        obstacle, message=f"{obstacle.message} ({kept})", state=status.ConnectionState.CONNECTION_MAINTENANCE_FAILED
    )


# --- credentials that do not work ---


def wrong_runtime(owner: Owner, *, configured: str, origin: str, failed: Problem | None = None) -> Problem:
    """The certificate belongs to a Runtime other than the configured one, or to an application.

    `failed`: a new pairing, None if there was none.
    """
    stopped = "the agent does not fetch or change anything"
    if owner.kind == "APPLICATION":
        text = (
            f"the certificate belongs to the application {owner.actual}, because the one-time token was that of an "
            f"application; {stopped}; put a one-time token for Runtime {configured} into "
            f"{origin or 'the configuration'}"
        )
    else:
        where = _key("RUNTIME_ID", origin)
        text = (
            f"the certificate belongs to Runtime {owner.actual}, but {where} is {configured}; {stopped}; correct "
            f"{where}, or put a one-time token for Runtime {configured} there"
        )
    if failed is not None:
        text = f"{text}; a new pairing failed: {failed.text()}"
    return Problem(Kind.WRONG_RUNTIME, text, status.ConnectionState.CONNECTION_FAILED)


def unknown_tenant(refusal: Refusal, *, tenant: str, origin: str) -> Problem:
    where = _key("TENANT", origin)
    text = (
        f"{_MAINTENANCE}Director: {refusal.failure.text}; the Connector accepts the certificate, and {where} is "
        f"{tenant}: correct {where}; no new token is needed"
    )
    return Problem(Kind.UNKNOWN_TENANT, text, request_id=refusal.failure.request_id)


def not_valid_yet(refusals: Sequence[Refusal], *, valid_from: float) -> Problem:
    """`valid_from`: epoch seconds."""
    text = (
        f"{_MAINTENANCE}Compass refuses the certificate ({describe_refusals(refusals)}), which by the clock of this "
        f"cluster is not valid before {status.timestamp(valid_from)}; correct the clocks of Compass and this cluster, "
        f"or wait until then"
    )
    return Problem(Kind.CERTIFICATE_NOT_VALID_YET, text, request_id=refusals[0].failure.request_id)


def suspected(refusals: Sequence[Refusal], *, runtime_id: str, tenant: str, obstacle: Problem | None) -> Problem:
    """The credentials are refused, which may mean that the connection is lost. `obstacle`: why no token is tried.

    Compass refuses an unknown tenant or Runtime like a revoked certificate, so the text shows both.
    """
    return Problem(
        Kind.CONNECTION_SUSPECTED,
        f"{_MAINTENANCE}{describe_refusals(refusals)} (requested as Runtime {runtime_id} of tenant {tenant}); "
        f"{_next_step(obstacle)}",
        request_id=refusals[0].failure.request_id,
    )


def connector_failed(failure: Failure) -> Problem:
    return Problem(Kind.CONNECTION_MAINTENANCE_FAILED, f"{_MAINTENANCE}{failure.text}", request_id=failure.request_id)


def renewal_failed(failure: Failure, *, valid_until: float) -> Problem:
    """`valid_until`: epoch seconds."""
    until = status.timestamp(valid_until)
    return Problem(
        Kind.RENEWAL_FAILED,
        f"{_MAINTENANCE}the certificate could not be renewed and is valid until {until}: {failure.text}",
        request_id=failure.request_id,
    )


def internal_error(error: Exception) -> Problem:
    return Problem(Kind.INTERNAL_ERROR, Failure.of(error).text)


# --- warnings: the connection works ---


def gateway_secret_failed(secret: str, failure: Failure) -> Problem:
    return _warning(
        Kind.GATEWAY_SECRET_FAILED,
        f"the CA certificates for the gateway could not be written to the Secret {secret}: {failure.text}",
    )


def token_failed(obstacle: Problem) -> Problem:
    """Pairing with a token in the CompassConnection fails. The stored credentials are used."""
    return _warning(
        Kind.PAIRING_FAILED,
        f"the pairing with the token from {SPEC_PAIRING} failed, and the stored credentials are used: "
        f"{obstacle.text()}; if a tool applies the old token again, replace it there",
    )


def short_lived(*, not_before: float, not_after: float, acquired: float, next_renewal: float) -> Problem:
    """The certificate was past its renewal threshold when it was received. All in epoch seconds."""
    return _warning(
        Kind.CERTIFICATE_SHORT_LIVED,
        f"the certificate was already due for renewal when it was received at {status.timestamp(acquired)}: it is "
        f"valid from {status.timestamp(not_before)} to {status.timestamp(not_after)}. The next renewal is at "
        f"{status.timestamp(next_renewal)}. Check the clocks of Compass and of this cluster, and the validity of "
        f"certificates in Compass",
    )


def renewal_waits(*, valid_from: float, received: float) -> Problem:
    """A new certificate is not valid yet. It replaces the current one at `valid_from`; epoch seconds."""
    return _warning(
        Kind.RENEWAL_WAITS,
        f"the renewed certificate, received at {status.timestamp(received)}, is not valid before "
        f"{status.timestamp(valid_from)} and is used from then on: {clock_difference(valid_from - received)}",
    )


def renewal_deferred(text: str) -> Problem:
    """Compass issues certificates for a shorter time than before."""
    return _warning(Kind.RENEWAL_WAITS, text)


def revocation_unfinished() -> Problem:
    return _warning(
        Kind.REVOCATION_UNFINISHED,
        f"an operator has started to revoke the certificate, so it is not renewed; run revoke again, or remove the "
        f"annotation {REVOKED}",
    )


# --- parts of texts ---


def clock_difference(seconds: float) -> str:
    """The remark for a certificate that is not valid yet, or has already expired, when the agent receives it."""
    return f"the clocks of Compass and this cluster differ by {status.duration(seconds)} or more"


def _no_pairing(message: str, *, cure: str = "") -> Problem:
    return Problem(Kind.PAIRING_FAILED, message, status.ConnectionState.CONNECTION_FAILED, cure=cure)


def _warning(kind: Kind, message: str) -> Problem:
    return Problem(kind, message, state=None)


def describe_refusals(refusals: Sequence[Refusal]) -> str:
    """Who refuses the certificate, and how."""
    return "; ".join(f"{refusal.by}: {refusal.failure.text}" for refusal in refusals)


def _next_step(obstacle: Problem | None) -> str:
    if obstacle is None:
        return "the configured one-time token is tried if the refusals continue"
    if obstacle.cure:
        return f"to reconnect, {obstacle.cure}; {_ALSO_AN_OUTAGE}: then wait"
    return f"a new pairing failed too: {obstacle.text()}"


def _advice(fate: TokenFate, failure: Failure, origin: str) -> str:
    match fate:
        case TokenFate.UNTOUCHED:
            return "the one-time token was not used and is tried again" if failure.kind is UnexpectedAnswer else ""
        case TokenFate.WRONG_ADDRESS:
            return (
                f"this server demands a client certificate, so it is not the one for a one-time token: correct "
                f"{_key('CONNECTOR_URL', origin)}; the one-time token was not used"
            )
        case TokenFate.UNCERTAIN:
            return (
                f"this attempt may have used the one-time token; if Compass refuses the token now, {_new_token(origin)}"
            )
        case TokenFate.REFUSED:
            return (
                f"the one-time token is unknown, used or expired, or {_ALSO_AN_OUTAGE}; if Compass is available, "
                f"{_new_token(origin)}"
            )
        case TokenFate.ANSWER_LOST:
            return (
                f"the answer of the Connector was lost and the one-time token is used, or {_ALSO_AN_OUTAGE}; if "
                f"Compass is available, {_new_token(origin)}"
            )
        case TokenFate.SPENT:
            return f"the one-time token has been used; {_new_token(origin)}"
        case TokenFate.STATE_CHANGED:
            return f"the pairing cannot continue; {_new_token(origin)}"


def _key(name: str, origin: str) -> str:
    """A key of the configuration, and the object that has it."""
    shown = SPEC_NAMES[name] if origin == SPEC_PAIRING else name
    return f"{shown} in {origin or 'the configuration'}"


def _new_token(origin: str) -> str:
    return f"put a new one-time token into {origin or 'the configuration'}"
