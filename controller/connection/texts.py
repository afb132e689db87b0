"""The texts of reasons and remarks, for status, Events and log. They are for people; no code parses them.

A text says what failed, why, and what to do.
"""

from controller.compass.errors import UnexpectedAnswer
from controller.connection import status as cc
from controller.connection.configuration import SPEC_NAMES, SPEC_PAIRING
from controller.connection.reasons import (
    Failure,
    GatewaySecretFailed,
    InternalError,
    MaintenanceFailed,
    NotConfigured,
    NotValidYet,
    Obstacle,
    PairingFailed,
    Reason,
    ReconnectFailed,
    Remark,
    RenewalFailed,
    RenewalWaits,
    RevocationUnfinished,
    RevokedByOperator,
    ShortLived,
    Suspected,
    Token,
    TokenFailed,
    TokenUsed,
    UnknownTenant,
    Unpaired,
    WrongRuntime,
)
from controller.connection.revocation import ANNOTATION

_MAINTENANCE = "Error while trying to maintain connection: "  # the same prefix as in the Go agent
_ALSO_AN_OUTAGE = "Compass gives the same answer while its Director or its database is down"


def reason_text(reason: Reason, *, with_ids: bool = True) -> str:
    """`with_ids`: include the x-request-id of the failed call, which is also in the logs of Compass."""
    match reason:
        case Unpaired(obstacle, loss):
            text = obstacle_text(obstacle, with_ids=with_ids)
            return f"{text} (a new pairing is needed: {loss})" if loss else text
        case Suspected(refusals, runtime_id, tenant, obstacle):
            refused = "; ".join(f"{by}: {failure.text}" for by, failure in refusals)
            # Compass refuses an unknown tenant or Runtime like a revoked certificate, so the text shows both.
            request = f"{refused} (requested as Runtime {runtime_id} of tenant {tenant})"
            return f"{_MAINTENANCE}{request}; {_way_out(obstacle, with_ids)}"
        case ReconnectFailed(obstacle):
            text = obstacle_text(obstacle, with_ids=with_ids)
            return f"{text} (a new pairing was requested; the stored credentials are used until it succeeds)"
        case MaintenanceFailed(failure):
            return f"{_MAINTENANCE}{failure.text}"
        case RenewalFailed(failure, valid_until):
            until = cc.timestamp(valid_until)
            return f"{_MAINTENANCE}the certificate could not be renewed and is valid until {until}: {failure.text}"
        case UnknownTenant(failure, tenant, origin):
            where = _key("TENANT", origin)
            return (
                f"{_MAINTENANCE}Director: {failure.text}; the Connector accepts the certificate, and {where} is "
                f"{tenant}: correct {where}; no new token is needed"
            )
        case NotValidYet(refusals, valid_from):
            refused = "; ".join(f"{by}: {failure.text}" for by, failure in refusals)
            return (
                f"{_MAINTENANCE}Compass refuses the certificate ({refused}), which by the clock of this cluster is not "
                f"valid before {cc.timestamp(valid_from)}; correct the clocks of Compass and this cluster, or wait "
                f"until then"
            )
        case InternalError(failure):
            return failure.text
        case WrongRuntime(actual, configured, origin, kind) if kind == "APPLICATION":
            return (
                f"the certificate belongs to the application {actual}, because the one-time token was that of an "
                f"application; the agent does not fetch or change anything; put a one-time token for Runtime "
                f"{configured} into {origin or 'the configuration'}"
            )
        case WrongRuntime(actual, configured, origin):
            where = _key("RUNTIME_ID", origin)
            return (
                f"the certificate belongs to Runtime {actual}, but {where} is {configured}; the agent does not fetch "
                f"or change anything; correct {where}, or put a one-time token for Runtime {configured} there"
            )


def obstacle_text(obstacle: Obstacle, *, with_ids: bool = True) -> str:
    """Why the agent cannot pair, and what to do."""
    match obstacle:
        case NotConfigured(problem, after):
            earlier = f"; the last pairing failed: {obstacle_text(after, with_ids=with_ids)}" if after else ""
            return f"{problem.text}{earlier}"
        case RevokedByOperator(origin):
            return f"the certificate was revoked by an operator; to connect again, {_new_token(origin)}"
        case TokenUsed(origin):
            return f"the configured one-time token has already been used; {_new_token(origin)}"
        case PairingFailed(step, origin, token, failure, after):
            identified = f"x-request-id: {failure.request_id} failed: " if with_ids and failure.request_id else ""
            advice = _advice(token, failure, origin)
            if after is not None:
                advice = f"an earlier attempt may have used the one-time token: {after.text}; {_new_token(origin)}"
            return f"{step}: {identified}{failure.text}{f' ({advice})' if advice else ''}"


def remark_text(remark: Remark) -> str:
    match remark:
        case GatewaySecretFailed(secret, failure):
            return f"the CA certificates for the gateway could not be written to the Secret {secret}: {failure.text}"
        case TokenFailed(obstacle):
            return (
                f"the pairing with the token from {SPEC_PAIRING} failed, and the stored credentials are used: "
                f"{obstacle_text(obstacle, with_ids=False)}; if a tool applies the old token again, replace it there"
            )
        case ShortLived(not_before, not_after, acquired, next_renewal):
            return (
                f"the certificate was already due for renewal when it was received at {cc.timestamp(acquired)}: it is "
                f"valid from {cc.timestamp(not_before)} to {cc.timestamp(not_after)}. The next renewal is at "
                f"{cc.timestamp(next_renewal)}. Check the clocks of Compass and of this cluster, and the validity of "
                f"certificates in Compass"
            )
        case RenewalWaits(valid_from, received):
            return (
                f"the renewed certificate, received at {cc.timestamp(received)}, is not valid before "
                f"{cc.timestamp(valid_from)} and is used from then on: {clock_difference(valid_from - received)}"
            )
        case RevocationUnfinished():
            return (
                f"an operator has started to revoke the certificate, so it is not renewed; run revoke again, or remove "
                f"the annotation {ANNOTATION}"
            )


def clock_difference(seconds: float) -> str:
    """The remark for a certificate that is not valid yet when the agent receives it."""
    return f"the clocks of Compass and this cluster differ by {duration(seconds)} or more"


def duration(seconds: float) -> str:
    """A duration for people, rounded down to one unit."""
    whole = int(abs(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _way_out(obstacle: Obstacle | None, with_ids: bool) -> str:
    match obstacle:
        case None:
            return "the configured one-time token is tried if the refusals continue"
        case NotConfigured(problem):
            return f"to reconnect, configure a new one-time token; {problem.text}"
        case TokenUsed(origin):
            return f"to reconnect, configure a new one-time token in {origin}"
        case _:
            return f"a new pairing failed too: {obstacle_text(obstacle, with_ids=with_ids)}"


def _advice(token: Token, failure: Failure, origin: str) -> str:
    match token:
        case Token.UNTOUCHED:
            return "the one-time token was not used and is tried again" if failure.kind is UnexpectedAnswer else ""
        case Token.WRONG_ADDRESS:
            return (
                f"this server demands a client certificate, so it is not the one for a one-time token: correct "
                f"{_key('CONNECTOR_URL', origin)}; the one-time token was not used"
            )
        case Token.UNCERTAIN:
            return (
                f"this attempt may have used the one-time token; if Compass refuses the token now, {_new_token(origin)}"
            )
        case Token.REFUSED:
            return (
                f"the one-time token is unknown, used or expired, or {_ALSO_AN_OUTAGE}; if Compass is available, "
                f"{_new_token(origin)}"
            )
        case Token.ANSWER_LOST:
            return (
                f"the answer of the Connector was lost and the one-time token is used, or {_ALSO_AN_OUTAGE}; if "
                f"Compass is available, {_new_token(origin)}"
            )
        case Token.SPENT:
            return f"the one-time token has been used; {_new_token(origin)}"
        case Token.LOST:
            return f"the pairing cannot continue; {_new_token(origin)}"


def _key(name: str, origin: str) -> str:
    """A key of the configuration, and the object that has it."""
    shown = SPEC_NAMES[name] if origin == SPEC_PAIRING else name
    return f"{shown} in {origin or 'the configuration'}"


def _new_token(origin: str) -> str:
    return f"put a new one-time token into {origin or 'the configuration'}"
