"""The texts of reasons and remarks, for status, Events and log. Nothing reads them but people.

A text says what failed, why, and what to do.
"""

from controller.compass.errors import UnexpectedAnswer
from controller.connection import status as cc
from controller.connection.configuration import SPEC_PAIRING
from controller.connection.reasons import (
    Failure,
    GatewaySecretFailed,
    MaintenanceFailed,
    NotConfigured,
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
    TokenUsed,
    Unpaired,
    WrongRuntime,
)
from controller.connection.revocation import ANNOTATION

_MAINTENANCE = "Error while trying to maintain connection: "  # as the Go agent says it
_ALSO_AN_OUTAGE = "Compass answers the same while its Director or its database is down"


def reason_text(reason: Reason, *, with_ids: bool = True) -> str:
    """``with_ids``: with the x-request-id of the call that failed, by which the operators of Compass find it."""
    match reason:
        case Unpaired(obstacle, loss):
            text = obstacle_text(obstacle, with_ids=with_ids)
            return f"{text} (a new pairing is needed: {loss})" if loss else text
        case Suspected(refusals, runtime_id, tenant, obstacle):
            told = "; ".join(f"{by}: {failure.text}" for by, failure in refusals)
            # An unknown tenant or Runtime is refused like a revoked certificate, so whoever reads this has to see both.
            asked = f"{told} (asked as Runtime {runtime_id} of tenant {tenant})"
            return f"{_MAINTENANCE}{asked}; {_way_out(obstacle, with_ids)}"
        case ReconnectFailed(obstacle):
            text = obstacle_text(obstacle, with_ids=with_ids)
            return f"{text} (a new pairing was asked for; the stored credentials stay in use)"
        case MaintenanceFailed(failure):
            return f"{_MAINTENANCE}{failure.text}"
        case RenewalFailed(failure, valid_until):
            until = cc.timestamp(valid_until)
            return f"{_MAINTENANCE}renewal failed, the certificate is valid until {until}: {failure.text}"
        case WrongRuntime(actual, configured, origin):
            key = "runtimeId" if origin == SPEC_PAIRING else "RUNTIME_ID"
            where = f"{key} in {origin}" if origin else f"{key} in the configuration"
            return (
                f"the certificate belongs to Runtime {actual}, and {where} is {configured}: nothing is fetched and "
                f"nothing is changed; correct {where}, or put a one-time token of Runtime {configured} there"
            )


def obstacle_text(obstacle: Obstacle, *, with_ids: bool = True) -> str:
    """Why no pairing comes about, and what to do."""
    match obstacle:
        case NotConfigured(problem, after):
            earlier = f"; the last pairing failed: {obstacle_text(after, with_ids=with_ids)}" if after else ""
            return f"{problem.text}{earlier}"
        case RevokedByOperator(origin):
            return f"the certificate was revoked by an operator; to connect, {_new_token(origin)}"
        case TokenUsed(origin):
            return f"the configured one-time token is used; {_new_token(origin)}"
        case PairingFailed(step, origin, token, failure, after):
            identified = f"x-request-id: {failure.request_id} failed: " if with_ids and failure.request_id else ""
            advice = _advice(token, failure, origin)
            if after is not None:
                advice = f"the one-time token may have been used up before: {after.text}; {_new_token(origin)}"
            return f"{step}: {identified}{failure.text}{f' ({advice})' if advice else ''}"


def remark_text(remark: Remark) -> str:
    match remark:
        case GatewaySecretFailed(secret, failure):
            return f"the CA certificates for the gateway cannot be written to the Secret {secret}: {failure.text}"
        case ShortLived(not_before, not_after, acquired, next_renewal):
            return (
                f"the certificate was due for renewal when it came at {cc.timestamp(acquired)}, since it is valid from "
                f"{cc.timestamp(not_before)} to {cc.timestamp(not_after)}; it is renewed at "
                f"{cc.timestamp(next_renewal)}. Check the clocks of Compass and of this cluster, and the validity of "
                f"certificates in Compass"
            )
        case RenewalWaits(valid_from, received):
            return (
                f"the renewed certificate came at {cc.timestamp(received)}, and is valid and used from "
                f"{cc.timestamp(valid_from)} on: {clock_difference(valid_from - received)}"
            )
        case RevocationUnfinished():
            return (
                f"an operator has begun to revoke the certificate, so it is not renewed; run revoke again, or remove "
                f"the annotation {ANNOTATION}"
            )


def clock_difference(seconds: float) -> str:
    """What a certificate tells that is not valid when it comes."""
    return f"the clocks of Compass and of this cluster differ by {duration(seconds)} or more"


def duration(seconds: float) -> str:
    """Rounded to something that people can read."""
    whole = int(abs(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _way_out(obstacle: Obstacle | None, with_ids: bool) -> str:
    match obstacle:
        case None:
            return "the configured one-time token is tried if that goes on"
        case NotConfigured(problem):
            return f"to reconnect, configure a new one-time token; {problem.text}"
        case TokenUsed(origin):
            return f"to reconnect, configure a new one-time token in {origin}"
        case _:
            return f"pairing anew failed too: {obstacle_text(obstacle, with_ids=with_ids)}"


def _advice(token: Token, failure: Failure, origin: str) -> str:
    match token:
        case Token.UNTOUCHED:
            return "the one-time token is not used up, and is tried again" if failure.kind is UnexpectedAnswer else ""
        case Token.UNCERTAIN:
            return f"the one-time token may be used up by this; if it is refused from now on, {_new_token(origin)}"
        case Token.REFUSED:
            return f"the one-time token is unknown, used or expired, or {_ALSO_AN_OUTAGE}; else {_new_token(origin)}"
        case Token.ANSWER_LOST:
            return (
                f"an answer of the Connector was lost, and the one-time token with it, or {_ALSO_AN_OUTAGE}; else "
                f"{_new_token(origin)}"
            )
        case Token.SPENT:
            return f"the one-time token is used up by now; {_new_token(origin)}"


def _new_token(origin: str) -> str:
    return f"put a new one-time token into {origin or 'the configuration'}"
