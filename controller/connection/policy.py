"""The decisions about the connection: a pure function from the facts to one decision.

Three tables, read from the top; the first row that applies decides. `WITHOUT_CREDENTIALS` and `WITH_CREDENTIALS` return
decisions. `PAIRING` returns the next step of a pairing, or the obstacle; both of the others use it.

A decision is either an action, or a state with a reason (None if there is no problem) until the next reconcile.
docs/connection.md shows the tables.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

from controller.connection import status as cc
from controller.connection.configuration import ConfigurationProblem, PairingConfiguration, ProblemKind
from controller.connection.credentials import Pairing, Registration
from controller.connection.facts import Facts, GatewaySecret
from controller.connection.health import Party
from controller.connection.reasons import (
    MaintenanceFailed,
    NotConfigured,
    NotValidYet,
    Obstacle,
    Reason,
    ReconnectFailed,
    RenewalFailed,
    RevokedByOperator,
    Suspected,
    TokenUsed,
    UnknownTenant,
    Unpaired,
    WrongRuntime,
)

_T = TypeVar("_T")

_LATEST_LOOK_SECONDS = 60.0
"""Certificates expire by the wall clock, which may change while a timer of the monotonic clock runs. So the wait for an
event, too, has this limit.
"""

_JUST_NOW_SECONDS = 1.0
"""Maximum age of the last answer of the Connector about the certificate before a token is tried."""

_BETWEEN_RENEWALS_SECONDS = 1.0
"""The minimum for certificates of any validity. One that is valid for less cannot be maintained."""

_SHORTEST_LOOK_SECONDS = 0.001  # rounding must not turn a wait into a loop


class RenewalCause(StrEnum):
    """Why the certificate is renewed, for people."""

    TOO_OLD = "its validity is below the renewal threshold"
    ASKED_FOR = "refreshCredentialsNow is set"
    CA_MISSING = "the Secret with the CA certificates is missing"


# --- decisions ---


@dataclass(frozen=True)
class Pair:
    """Exchange the configured token for credentials."""

    configuration: PairingConfiguration


@dataclass(frozen=True)
class Resume:
    """Continue the pairing in progress."""

    pairing: Pairing


@dataclass(frozen=True)
class GiveUp:
    """Remove a pairing in progress, because the credentials work."""


@dataclass(frozen=True)
class Adopt:
    """Store the registration of the certificate beside it."""

    registration: Registration


@dataclass(frozen=True)
class Renew:
    """Request a new certificate, or use one that was signed before."""

    cause: RenewalCause


@dataclass(frozen=True)
class Check:
    """Check with the Connector that it accepts the certificate, and read the URLs of Compass."""


@dataclass(frozen=True)
class Share:
    """Write the gateway's copy of the CA certificates."""


@dataclass(frozen=True)
class Keep:
    """There is no problem."""

    look_again: float | None = None


@dataclass(frozen=True)
class Wait:
    """A failure that is retried; no manual work is needed."""

    reason: Reason
    look_again: float | None = None


@dataclass(frozen=True)
class Blocked:
    """A problem that needs manual work, which the text of the reason describes."""

    reason: Reason
    look_again: float | None = None


Action = Pair | Resume | GiveUp | Adopt | Renew | Check | Share
Rest = Keep | Wait | Blocked
Decision = Action | Rest


@dataclass(frozen=True)
class Stop:
    """Why the agent cannot pair. `by_itself`: it is retried without manual work."""

    obstacle: Obstacle
    by_itself: bool = False


@dataclass(frozen=True)
class Rule(Generic[_T]):
    """A row of a table. `when` in words is for people; docs/connection.md has the same."""

    when: str
    applies: Callable[[Facts], bool]
    then: Callable[[Facts], _T]


def decide(facts: Facts) -> Decision:
    """The next action. It depends only on the facts."""
    decision = _first(WITH_CREDENTIALS if facts.usable else WITHOUT_CREDENTIALS, facts).then(facts)
    return replace(decision, look_again=_next_look(facts)) if isinstance(decision, Rest) else decision


def pairing_step(facts: Facts) -> Pair | Resume | Stop:
    """The next step of the configured pairing or of the one in progress, or the obstacle."""
    return _first(PAIRING, facts).then(facts)


def _first(rules: "tuple[Rule[_T], ...]", facts: Facts) -> "Rule[_T]":
    return next(rule for rule in rules if rule.applies(facts))


def _otherwise(_: Facts) -> bool:
    return True


# --- the next step of a pairing ---


def _failed_for_good(facts: Facts) -> bool:
    return facts.trouble is not None and facts.trouble.final


def _failed_just_now(facts: Facts) -> bool:
    return facts.trouble is not None and facts.waits.pairing > 0


def _what_failed(facts: Facts) -> Stop:
    assert facts.trouble is not None
    return Stop(facts.trouble.failed, by_itself=not facts.trouble.final)


def _resume(facts: Facts) -> Resume:
    assert facts.pairing is not None
    return Resume(facts.pairing)


def _not_configured(facts: Facts) -> Stop:
    assert isinstance(facts.configuration, ConfigurationProblem)
    earlier = facts.memory.trouble
    nothing = facts.configuration.kind is ProblemKind.NOTHING
    return Stop(NotConfigured(facts.configuration, after=earlier.failed if earlier and nothing else None))


def _configured(facts: Facts) -> PairingConfiguration:
    assert isinstance(facts.configuration, PairingConfiguration)
    return facts.configuration


def _origin(facts: Facts) -> str:
    return facts.configuration.origin if isinstance(facts.configuration, PairingConfiguration) else ""


PAIRING: tuple[Rule[Pair | Resume | Stop], ...] = (
    Rule(
        "an operator has revoked the connection, and the configuration has not changed since",
        lambda facts: facts.revoked,
        lambda facts: Stop(RevokedByOperator(_origin(facts))),
    ),
    Rule("the last attempt used the token", _failed_for_good, _what_failed),
    Rule("the last attempt failed, and its back-off has not ended", _failed_just_now, _what_failed),
    Rule("a pairing with the current configuration is in progress", lambda facts: facts.pairing is not None, _resume),
    Rule(
        "there is no usable configuration",
        lambda facts: not isinstance(facts.configuration, PairingConfiguration),
        _not_configured,
    ),
    Rule(
        "the configured token has obtained the stored credentials",
        lambda facts: facts.token_has_won,
        lambda facts: Stop(TokenUsed(_origin(facts))),
    ),
    Rule("otherwise", _otherwise, lambda facts: Pair(_configured(facts))),
)


# --- without usable credentials ---


def _pair_or_say_why_not(facts: Facts) -> Pair | Resume | Wait | Blocked:
    step = pairing_step(facts)
    if not isinstance(step, Stop):
        return step
    reason = Unpaired(step.obstacle, loss=facts.loss)
    return Wait(reason) if step.by_itself else Blocked(reason)


def _takeover(facts: Facts) -> Adopt:
    assert facts.takeover is not None
    return Adopt(facts.takeover)


WITHOUT_CREDENTIALS: tuple[Rule[Decision], ...] = (
    Rule(
        "Runtime id, tenant or URLs are not stored (as by the Go agent) or damaged, and they are known from elsewhere",
        lambda facts: facts.takeover is not None and facts.credentials is not None,
        _takeover,
    ),
    Rule("otherwise", _otherwise, _pair_or_say_why_not),
)


# --- with usable credentials ---


def _token_can_be_tried(facts: Facts) -> bool:
    return facts.configuration is not None and not isinstance(pairing_step(facts), Stop)


def _step(facts: Facts) -> Decision:
    step = pairing_step(facts)
    assert not isinstance(step, Stop)
    return step


def _runtime_corrected(facts: Facts) -> Registration | None:
    """The registration with the Runtime of the certificate, if that is configured now."""
    if facts.wrong_runtime is None:
        return None
    if facts.corrected is not None and facts.corrected.runtime_id == facts.wrong_runtime:
        return facts.corrected
    configured = facts.configuration
    if not isinstance(configured, PairingConfiguration) or configured.runtime_id != facts.wrong_runtime:
        return None
    return replace(
        facts.registration,
        runtime_id=configured.runtime_id,
        tenant=configured.tenant,
        origin=configured.origin,
    )


def _correct_runtime(facts: Facts) -> Adopt:
    registration = _runtime_corrected(facts)
    assert registration is not None
    return Adopt(registration)


def _other_ids_may_be_meant(facts: Facts) -> bool:
    """The Connector does not need Runtime id and tenant; the Director refuses unknown ones."""
    only_director = all(refusal.by is Party.DIRECTOR for refusal in facts.refusals)
    return bool(facts.refusals) and only_director and facts.corrected is not None


def _connector_accepted_since(facts: Facts) -> bool:
    """During an outage of the database the Director refuses all certificates, but so does the Connector."""
    accepted = facts.maintenance is None and facts.asked is not None
    return accepted and facts.asked is not None and facts.asked.at >= facts.monotonic - facts.refused_for


def _correct_ids(facts: Facts) -> Adopt:
    assert facts.corrected is not None
    return Adopt(facts.corrected)


def _another_token_for_the_right_runtime(facts: Facts) -> bool:
    return facts.wrong_runtime is not None and facts.token_is_newer and _token_can_be_tried(facts)


def _wrong_runtime(facts: Facts) -> Blocked:
    registration = facts.registration
    verdict = facts.health.verdict
    kind = verdict.kind if verdict is not None else ""
    return Blocked(WrongRuntime(facts.wrong_runtime or "", registration.runtime_id, registration.origin, kind))


def _token_may_replace_refused_credentials(facts: Facts) -> bool:
    """The refusals may be caused by an outage, and must not use up a token that was configured for later."""
    if not facts.refusals or not _token_can_be_tried(facts) or _mended_without_a_token(facts):
        return False
    return facts.token_is_newer or facts.refused_for >= facts.limits.refusal_tolerance


def _mended_without_a_token(facts: Facts) -> bool:
    return facts.tenant_unknown is not None or facts.not_valid_yet


def _connector_was_asked(facts: Facts) -> bool:
    """It has answered just now."""
    return facts.asked is not None and facts.monotonic - facts.asked.at <= _JUST_NOW_SECONDS


def _refusals_are_confirmed(facts: Facts) -> bool:
    """Connector and Director both refuse at this moment, or the Director after the Connector has accepted.

    After an outage of the database, the last answer of the Director is a refusal until it is called again.
    """
    director, asked, trouble = facts.director_refusal, facts.asked, facts.trouble
    if director is None or asked is None:
        return False
    tried = trouble.tried if trouble is not None else 0.0
    if facts.maintenance is None:
        return director.since <= asked.at < director.last and director.last >= tried
    refused = any(r.by is Party.CONNECTOR and r.failure == facts.maintenance.failure for r in facts.refusals)
    return refused and _connector_was_asked(facts) and asked.at >= tried


def _connector_has_accepted(facts: Facts) -> bool:
    """After the last refusal of the Director, which must be confirmed then."""
    director = facts.director_refusal
    accepted = facts.asked is not None and facts.maintenance is None
    return accepted and director is not None and facts.asked is not None and facts.asked.at >= director.last


def _connector_may_be_asked(facts: Facts) -> bool:
    if _connector_has_accepted(facts):
        return False
    if facts.waits.maintenance <= 0:
        return True
    seen, asked = facts.memory.seen, facts.asked
    # A new token is tried without back-off.
    return seen is not None and asked is not None and seen.since_monotonic > asked.at


def _renewal_cause(facts: Facts) -> RenewalCause | None:
    if facts.revoked:
        return None  # after a revocation there must not be another certificate
    if facts.fresh is not None:
        return RenewalCause.TOO_OLD if facts.now >= facts.fresh.valid_from else None
    if facts.since_renewal < _BETWEEN_RENEWALS_SECONDS:
        return None
    if facts.now >= facts.renewal_due_at:
        return RenewalCause.TOO_OLD
    if facts.since_renewal < _between_wishes(facts):
        return None
    done = facts.memory.news is not None  # and the field is reset together with the report
    if cc.flag(facts.connection, "refreshCredentialsNow") and not done:
        return RenewalCause.ASKED_FOR
    if facts.gateway is GatewaySecret.MISSING and facts.memory.gateway is None:
        return RenewalCause.CA_MISSING
    return None


def _between_wishes(facts: Facts) -> float:
    """Seconds between renewals for other reasons than the age: a tool may set the field, or delete the Secret, in a
    loop.
    """
    return max(facts.limits.minimal_sync_time, _BETWEEN_RENEWALS_SECONDS)


def _renewal_is_due(facts: Facts) -> bool:
    return facts.waits.maintenance <= 0 and _renewal_cause(facts) is not None


def _renew(facts: Facts) -> Renew:
    cause = _renewal_cause(facts)
    assert cause is not None
    return Renew(cause)


def _check_is_due(facts: Facts) -> bool:
    period_is_over = facts.asked is None or facts.monotonic >= facts.asked.next
    return facts.waits.maintenance <= 0 and (period_is_over or facts.maintenance is not None)


def _share_is_due(facts: Facts) -> bool:
    if facts.gateway is GatewaySecret.AS_WANTED or facts.waits.gateway > 0:
        return False
    return facts.gateway is GatewaySecret.DIFFERENT or facts.memory.gateway is not None


def _pairing_is_superfluous(facts: Facts) -> bool:
    """It has failed for too long, or Connector and Director have both accepted the credentials since this process
    started.
    """
    if facts.under_way is None or facts.refusals or facts.reconnect_wanted:
        return False
    accepted = facts.asked is not None and facts.maintenance is None
    return accepted and (facts.reconnect_is_hopeless or facts.health.director_answered)


def _not_reconnected(facts: Facts) -> Wait | Blocked:
    step = pairing_step(facts)
    assert isinstance(step, Stop)
    reason = ReconnectFailed(step.obstacle)
    return Wait(reason) if step.by_itself else Blocked(reason)


def _suspected(facts: Facts) -> Wait | Blocked:
    step = pairing_step(facts)
    obstacle = step.obstacle if isinstance(step, Stop) else None
    refusals = tuple((refusal.by.value, refusal.failure) for refusal in facts.refusals)
    reason = Suspected(refusals, facts.registration.runtime_id, facts.registration.tenant, obstacle)
    by_itself = not isinstance(step, Stop) or step.by_itself
    return Wait(reason) if by_itself else Blocked(reason)


def _unknown_tenant(facts: Facts) -> Blocked:
    assert facts.tenant_unknown is not None
    registration = facts.registration
    return Blocked(UnknownTenant(facts.tenant_unknown.failure, registration.tenant, registration.origin))


def _not_valid_yet(facts: Facts) -> Wait:
    refusals = tuple((refusal.by.value, refusal.failure) for refusal in facts.refusals)
    return Wait(NotValidYet(refusals, facts.current.not_before))


def _maintenance_failed(facts: Facts) -> Wait:
    trouble = facts.maintenance
    assert trouble is not None
    if trouble.renewing:
        return Wait(RenewalFailed(trouble.failure, facts.current.not_after))
    return Wait(MaintenanceFailed(trouble.failure))


WITH_CREDENTIALS: tuple[Rule[Decision], ...] = (
    Rule(
        "they belong to the Runtime that is configured now, and were stored for another one",
        lambda facts: _runtime_corrected(facts) is not None,
        _correct_runtime,
    ),
    Rule(
        "only the Director refuses them, their token is configured with other ids, and the Connector accepted them "
        "just now",
        lambda facts: _other_ids_may_be_meant(facts) and _connector_accepted_since(facts),
        _correct_ids,
    ),
    Rule(
        "the same, and the Connector was not called just now for that",
        lambda facts: _other_ids_may_be_meant(facts) and _connector_may_be_asked(facts),
        lambda _: Check(),
    ),
    Rule(
        "they belong to a Runtime other than the configured one, and a newer token can be tried",
        _another_token_for_the_right_runtime,
        _step,
    ),
    Rule(
        "new ones are requested, and a token can be tried",
        lambda facts: facts.reconnect_wanted and _token_can_be_tried(facts),
        _step,
    ),
    Rule(
        "they are refused for too long or a token is newer, a token can be tried, and Connector and Director both "
        "refuse them now",
        lambda facts: _token_may_replace_refused_credentials(facts) and _refusals_are_confirmed(facts),
        _step,
    ),
    Rule(
        "the same, and the Connector was not called since the Director refused them",
        lambda facts: _token_may_replace_refused_credentials(facts) and _connector_may_be_asked(facts),
        lambda _: Check(),
    ),
    Rule("the certificate is due for renewal, or its renewal is requested", _renewal_is_due, _renew),
    Rule("the Connector was not called for a period", _check_is_due, lambda _: Check()),
    Rule(
        "the gateway's Secret has other CA certificates, or could not be written",
        _share_is_due,
        lambda _: Share(),
    ),
    Rule("a pairing is in progress that is no longer needed", _pairing_is_superfluous, lambda _: GiveUp()),
    Rule(
        "they belong to a Runtime other than the configured one",
        lambda facts: facts.wrong_runtime is not None,
        _wrong_runtime,
    ),
    Rule(
        "new ones are requested, and this CompassConnection has not been connected yet",
        lambda facts: not facts.in_use,
        _not_reconnected,
    ),
    Rule(
        "they are refused, and are not valid yet by the clock of the cluster",
        lambda facts: bool(facts.refusals) and facts.not_valid_yet,
        _not_valid_yet,
    ),
    Rule(
        "the Director does not know the tenant, and the Connector accepts them",
        lambda facts: facts.tenant_unknown is not None,
        _unknown_tenant,
    ),
    Rule("they are refused", lambda facts: bool(facts.refusals), _suspected),
    Rule("the call to the Connector failed", lambda facts: facts.maintenance is not None, _maintenance_failed),
    Rule("otherwise", _otherwise, lambda _: Keep()),
)


# --- the time of the next reconcile ---


def _next_look(facts: Facts) -> float:
    """Seconds until the next reconcile without an event."""
    looks: list[float] = [
        _LATEST_LOOK_SECONDS,
        *_pairing_looks(facts),
        *(_maintenance_looks(facts) if facts.usable else ()),
    ]
    ahead = [look for look in looks if look > 0]  # times in the past have had their effect already
    return max(min(ahead), _SHORTEST_LOOK_SECONDS)


def _pairing_looks(facts: Facts) -> list[float]:
    looks = []
    if facts.trouble is not None and not facts.trouble.final:
        looks.append(facts.waits.pairing)
    return looks


def _maintenance_looks(facts: Facts) -> list[float]:
    looks = [facts.current.not_after - facts.now]
    if facts.waits.maintenance > 0:
        looks.append(facts.waits.maintenance)
    elif facts.asked is not None:
        looks.append(facts.asked.next - facts.monotonic)
    renewal = facts.fresh.valid_from if facts.fresh is not None else facts.renewal_due_at
    looks.append(max(renewal - facts.now, facts.waits.maintenance))
    looks += [pause - facts.since_renewal for pause in (_BETWEEN_RENEWALS_SECONDS, _between_wishes(facts))]
    if facts.gateway is not GatewaySecret.AS_WANTED:
        looks.append(facts.waits.gateway)
    tolerance = facts.limits.refusal_tolerance
    if facts.refusals and facts.refused_for < tolerance:
        looks.append(tolerance - facts.refused_for)
    return looks
