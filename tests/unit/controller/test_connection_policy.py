"""The policy over every combination of facts: it decides, and what it decides keeps what must be kept.

Facts are made of few values for each question that the policy asks. Their product is enumerated whole; what is a number
(clocks, delays) is left to hypothesis.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compass.errors import Refused, Unavailable
from controller.connection import policy, texts
from controller.connection.configuration import SPEC_PAIRING, ConfigurationProblem, PairingConfiguration, ProblemKind
from controller.connection.credentials import Pairing, Registration, StoredCredentials
from controller.connection.facts import (
    Asked,
    Facts,
    GatewaySecret,
    Limits,
    MaintenanceTrouble,
    Memory,
    PairingTrouble,
    Seen,
    Waits,
)
from controller.connection.health import HealthFacts, Party, Refusal, Verdict
from controller.connection.policy import (
    Adopt,
    Blocked,
    Check,
    GiveUp,
    Keep,
    Pair,
    Renew,
    Resume,
    Share,
    Wait,
    decide,
)
from controller.connection.reasons import Failure, PairingFailed, Token, Unpaired
from controller.connection.report import TOLD
from controller.connection.revocation import ANNOTATION
from controller.connection.status import State
from tests.support.connection_bench import SYNC_PERIOD

NOW, MONOTONIC = 1_900_000_000.0, 10_000.0
TOLERANCE = 2 * SYNC_PERIOD
LIMITS = Limits(renewal_threshold=0.3, minimal_sync_time=15.0, sync_period=SYNC_PERIOD, refusal_tolerance=TOLERANCE)
CONFIG_MAP = "ConfigMap kyma-system/compass-agent-configuration"

USED = PairingConfiguration(CONFIG_MAP, "https://connector", "runtime", "tenant", "used")
NEWER = replace(USED, token="newer")
ELSEWHERE = replace(NEWER, origin="Secret kyma-system/compass-agent-configuration")
LITERAL = replace(NEWER, origin=SPEC_PAIRING, literal=True)
CORRECTED = replace(USED, runtime_id="another")
NOTHING = ConfigurationProblem(ProblemKind.NOTHING, "no pairing configuration found")
INCOMPLETE = ConfigurationProblem(ProblemKind.UNUSABLE, f"{CONFIG_MAP}: TENANT is empty")
CONFIGURATIONS = (USED, NEWER, ELSEWHERE, LITERAL, CORRECTED, NOTHING, INCOMPLETE)

REGISTRATION = Registration(
    runtime_id="runtime",
    tenant="tenant",
    connector_url="https://c",
    director_url="https://d",
    paired_with=USED.fingerprint,
    origin=CONFIG_MAP,
)
REFUSAL = Failure(Refused, "HTTP 400, empty answer")
UNKNOWN_TENANT = Failure(Refused, "Tenant not found", code=25)
OUTAGE = Failure(Unavailable, "HTTP 503")


@dataclass(frozen=True)
class _Certificate(StoredCredentials):
    """Credentials whose certificate is of any time."""

    age: float = 0.0
    validity: float = 90 * 86400.0

    @property
    def fingerprint(self) -> str:
        return "present"

    @property
    def not_before(self) -> float:
        return NOW - self.age

    @property
    def not_after(self) -> float:
        return self.not_before + self.validity


def certificate(*, age: float = 0.0, registration: Registration | None = REGISTRATION) -> _Certificate:
    return _Certificate(pair=Any, registration=registration, age=age)  # type: ignore[arg-type]


DAY = 86400.0
CREDENTIALS = {
    "none": None,
    "young": certificate(age=DAY),
    "old": certificate(age=80 * DAY),
    "expired": certificate(age=91 * DAY),
    "not valid yet": certificate(age=-DAY),
    "of the Go agent": certificate(age=DAY, registration=None),
}


def connection(*, told: bool, configuration: object, revoked: bool) -> dict[str, Any]:
    """The CompassConnection; `told`: its status and addresses are those of the credentials."""
    obj: dict[str, Any] = {"metadata": {"name": "compass-connection", "uid": "uid", "annotations": {}}, "spec": {}}
    if told:
        obj["status"] = {
            "connectionState": "Synchronized",
            "connectionStatus": {"established": "2026-01-01T00:00:00Z"},
        }
        obj["spec"]["managementInfo"] = {"connectorUrl": "https://c", "directorUrl": "https://d"}
    if isinstance(configuration, PairingConfiguration):
        if configuration.literal:
            obj["spec"]["pairing"] = {
                "connectorUrl": configuration.connector_url,
                "runtimeId": configuration.runtime_id,
                "tenant": configuration.tenant,
                "token": configuration.token,
            }
        mark = configuration.fingerprint
    else:
        mark = "none"
    if revoked:
        obj["metadata"]["annotations"][ANNOTATION] = mark
    return obj


def under_way(configuration: object) -> Pairing:
    of = configuration if isinstance(configuration, PairingConfiguration) else NEWER
    return Pairing(
        configuration=of.fingerprint,
        origin=of.origin,
        runtime_id="runtime",
        tenant="tenant",
        token_url="https://connector",
        token="second",
        key="key",
        since=int(NOW),
    )


def trouble(what: str, token: Token, *, final: bool, since: float) -> PairingTrouble:
    failed = PairingFailed("Failed to retrieve certificate", CONFIG_MAP, token, REFUSAL)
    return PairingTrouble(what, failed, MONOTONIC - since, MONOTONIC - 5, final)


REFUSALS = {
    "nobody refuses": (),
    "refused just now": (Refusal(Party.CONNECTOR, "present", REFUSAL, MONOTONIC - 10, MONOTONIC - 10),),
    "refused by the Director alone": (Refusal(Party.DIRECTOR, "present", REFUSAL, MONOTONIC - 10, MONOTONIC - 10),),
    "refused by the Director again": (Refusal(Party.DIRECTOR, "present", REFUSAL, MONOTONIC - 10, MONOTONIC),),
    "the tenant is unknown": (Refusal(Party.DIRECTOR, "present", UNKNOWN_TENANT, MONOTONIC - 10, MONOTONIC),),
    "refused for long": (
        Refusal(Party.CONNECTOR, "present", REFUSAL, MONOTONIC - TOLERANCE - 1, MONOTONIC - 10),
        Refusal(Party.DIRECTOR, "present", REFUSAL, MONOTONIC - 10, MONOTONIC - 10),
    ),
    "an earlier certificate was refused": (
        Refusal(Party.DIRECTOR, "earlier", REFUSAL, MONOTONIC - 10, MONOTONIC - 10),
    ),
}
MAINTENANCE = {
    "never asked": (None, None),
    "accepted just now": (Asked("present", MONOTONIC - 1, MONOTONIC + 100), None),
    "accepted a period ago": (Asked("present", MONOTONIC - 200, MONOTONIC - 1), None),
    "refused just now": (
        Asked("present", MONOTONIC - 1, MONOTONIC + 100),
        MaintenanceTrouble("present", REFUSAL, renewing=False),
    ),
    "down": (
        Asked("present", MONOTONIC - 1, MONOTONIC + 100),
        MaintenanceTrouble("present", OUTAGE, renewing=True),
    ),
}
TROUBLES = {
    "not tried": None,
    "failed just now": (Token.REFUSED, False, 5.0),
    "failed for long": (Token.REFUSED, False, TOLERANCE + 1),
    "outage for long": (Token.UNCERTAIN, False, TOLERANCE + 1),
    "spent": (Token.SPENT, True, 5.0),
}
VERDICTS = {
    "not asked": None,
    "ours": Verdict("present", "runtime", "runtime", settled=True),
    "another": Verdict("present", "runtime", "another", settled=False),
}


def combinations() -> Iterator[Facts]:
    """Every combination of what the policy distinguishes."""
    for name, credentials in CREDENTIALS.items():
        usable = name in ("young", "old", "not valid yet")
        for configuration, told, revoked, pairing, tried in itertools.product(
            CONFIGURATIONS, (True, False), (True, False), (True, False), TROUBLES
        ):
            obj = connection(told=told, configuration=configuration, revoked=revoked)
            facts = Facts(
                now=NOW,
                monotonic=MONOTONIC,
                limits=LIMITS,
                connection=obj,
                credentials=credentials,
                problem="" if credentials else "the Secret does not exist",
                configuration=configuration,  # type: ignore[arg-type]
                under_way=under_way(configuration) if pairing else None,
                takeover=REGISTRATION if name == "of the Go agent" and told else None,
                paired_with=USED.fingerprint,
            )
            failed = TROUBLES[tried]
            memory = Memory(
                trouble=trouble(facts.what, failed[0], final=failed[1], since=failed[2]) if failed else None,
                seen=Seen("x", NOW - 20, MONOTONIC - 20, changed=told),
            )
            facts = replace(facts, memory=memory, waits=Waits(pairing=30.0 if tried == "failed just now" else 0.0))
            yield from _maintained(facts) if usable else (facts,)


def _maintained(facts: Facts) -> Iterator[Facts]:
    for refusals, maintained, verdict in itertools.product(REFUSALS.values(), MAINTENANCE.values(), VERDICTS.values()):
        asked, failed = maintained
        yield replace(
            facts,
            health=HealthFacts(refusals=refusals, verdict=verdict, sync_state=State.SYNCHRONIZED),
            memory=replace(facts.memory, asked=asked, maintenance=failed),
            waits=replace(facts.waits, maintenance=20.0 if failed else 0.0),
        )


ALL = [(facts, decide(facts)) for facts in combinations()]
"""No combination is without a decision, or this would have failed."""

DIFFERENT = replace(
    next(facts for facts, decision in ALL if isinstance(decision, Keep)), gateway=GatewaySecret.DIFFERENT
)


def test_there_are_many_combinations() -> None:
    """So that nobody shrinks them by mistake."""
    assert len(ALL) > 25_000


def test_every_rule_is_needed() -> None:
    """No rule is without a combination that it decides, but for the one of the gateway's Secret, shown by itself."""
    applied = set()
    for facts, _ in ALL:
        tables: tuple[Any, ...] = (policy.WITH_CREDENTIALS if facts.usable else policy.WITHOUT_CREDENTIALS,)
        if facts.configuration is not None:
            tables += (policy.PAIRING,)
        applied |= {next(rule.when for rule in table if rule.applies(facts)) for table in tables}
    rules = {r.when for table in (policy.WITH_CREDENTIALS, policy.WITHOUT_CREDENTIALS, policy.PAIRING) for r in table}
    assert rules - applied == {"the gateway's Secret has other CA certificates, or could not be written"}
    assert decide(DIFFERENT) == Share()
    assert isinstance(decide(replace(DIFFERENT, waits=Waits(gateway=1.0))), Keep)


def test_each_kind_of_decision_is_met() -> None:
    """Else the rules that follow would hold of nothing."""
    kinds = {type(decision) for _, decision in ALL}
    assert kinds == {Pair, Resume, GiveUp, Adopt, Renew, Check, Keep, Wait, Blocked}


def test_usable_and_accepted_credentials_are_never_given_up() -> None:
    """A pairing is begun beside them only when it was asked for, or somebody refuses them, or they are another's."""
    for facts, decision in ALL:
        if not facts.usable or not isinstance(decision, Pair | Resume):
            continue
        assert facts.reconnect_wanted or facts.refusals or facts.wrong_runtime


def test_a_token_that_is_known_to_be_used_is_never_tried() -> None:
    """The one that won the credentials, and one whose last pairing cost it."""
    for facts, decision in ALL:
        if isinstance(decision, Pair):
            assert decision.configuration.fingerprint != facts.paired_with
            assert not facts.usable or decision.configuration.token != USED.token, "nor for other ids"
        if isinstance(decision, Pair | Resume):
            assert facts.trouble is None or not facts.trouble.final


def test_other_ids_are_used_only_when_the_director_alone_refuses() -> None:
    """Or when it has said whose the certificate is. A database that is down makes the Connector refuse as well."""
    for facts, decision in ALL:
        if isinstance(decision, Adopt) and facts.usable and facts.wrong_runtime is None:
            assert {refusal.by for refusal in facts.refusals} == {Party.DIRECTOR}
            assert facts.asked is not None
            assert facts.maintenance is None


def test_a_token_is_not_tried_for_refusals_that_an_outage_explains() -> None:
    """Neither early, when it is not newer, nor when the Connector had no answer just now."""
    for facts, decision in ALL:
        if not facts.usable or facts.reconnect_wanted or facts.wrong_runtime:
            continue
        if isinstance(decision, Pair | Resume):
            assert facts.token_is_newer or facts.refused_for >= TOLERANCE
            assert facts.asked is not None
            assert facts.director_refusal is not None, "the Connector alone proves nothing"
            assert facts.tenant_unknown is None, "no token is needed"
            assert not facts.not_valid_yet, "no token is needed"
            if facts.maintenance is None:
                assert facts.director_refusal.since <= facts.asked.at < facts.director_refusal.last
            else:
                assert facts.maintenance.failure == REFUSAL
                assert MONOTONIC - facts.asked.at <= 1
                assert facts.trouble is None or facts.asked.at >= facts.trouble.tried


def test_nothing_is_done_again_before_its_pause_is_over() -> None:
    """Whatever failed."""
    for facts, decision in ALL:
        match decision:
            case Pair() | Resume():
                assert facts.trouble is None or facts.waits.pairing <= 0
            case Renew():
                assert facts.waits.maintenance <= 0
            case Check():
                newer = facts.memory.seen is not None and facts.memory.seen.since_monotonic > (
                    facts.asked.at if facts.asked else MONOTONIC
                )
                assert facts.waits.maintenance <= 0 or newer


def test_rest_has_an_end_and_never_none_at_all() -> None:
    """Whoever waits comes back by itself; no look follows at once on another."""
    for _, decision in ALL:
        if isinstance(decision, Keep | Wait | Blocked):
            assert decision.look_again is not None
            assert 0 < decision.look_again <= 60


def test_nobody_who_was_revoked_pairs_or_renews() -> None:
    """As long as nothing else is configured."""
    for facts, decision in ALL:
        if facts.revoked:
            assert not isinstance(decision, Pair | Resume | Renew)


def test_every_blocked_says_what_to_do() -> None:
    """The text of the reason names what somebody has to change, or how to get a new token."""
    for _, decision in ALL:
        if not isinstance(decision, Blocked):
            continue
        text = texts.reason_text(decision.reason)
        assert any(
            part in text
            for part in (
                "put a new one-time token into",
                "configure a new one-time token",
                "correct RUNTIME_ID in",
                "correct TENANT in",
                "no pairing configuration found",
                "TENANT is empty",
            )
        ), text


def test_every_reason_has_a_state_and_without_credentials_it_is_failed() -> None:
    """And a reason that is told while the credentials work is never that there is no pairing."""
    for facts, decision in ALL:
        if isinstance(decision, Wait | Blocked):
            state, event = TOLD[type(decision.reason)]
            assert event
            assert isinstance(decision.reason, Unpaired) != facts.usable
            if not facts.usable:
                assert state is State.CONNECTION_FAILED


def test_the_same_facts_give_the_same_reason() -> None:
    """Ids of calls are no part of it."""
    for facts, first in ALL[:: len(ALL) // 500]:
        second = decide(replace(facts, memory=_other_ids(facts.memory)))
        assert getattr(first, "reason", None) == getattr(second, "reason", None)


def _other_ids(memory: Memory) -> Memory:
    if memory.trouble is None:
        return memory
    failed = memory.trouble.failed
    failure = replace(failed.failure, request_id="another", retry_after=7.0)
    return replace(memory, trouble=replace(memory.trouble, failed=replace(failed, failure=failure)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    index=st.integers(0, len(ALL) - 1),
    now=st.floats(NOW - 200 * DAY, NOW + 200 * DAY),
    monotonic=st.floats(0, MONOTONIC * 3),
    waits=st.tuples(*[st.floats(0, 400)] * 3),
    acquired=st.integers(0, int(NOW + 200 * DAY)),
)
def test_clocks_and_delays_of_any_kind(
    index: int, now: float, monotonic: float, waits: tuple[float, float, float], acquired: int
) -> None:
    """No clock makes it fail, loop, pair beside credentials that nobody refuses, or try a used token."""
    facts = replace(ALL[index][0], now=now, monotonic=monotonic, waits=Waits(pairing=waits[0], maintenance=waits[1]))
    credentials = facts.credentials
    if credentials is not None and credentials.registration is not None:
        stored = replace(credentials, registration=replace(credentials.registration, acquired=acquired))
        facts = replace(facts, credentials=stored)
    decision = decide(facts)
    if isinstance(decision, Keep | Wait | Blocked):
        assert decision.look_again is None or decision.look_again > 0
        texts.reason_text(decision.reason) if isinstance(decision, Wait | Blocked) else None
    if isinstance(decision, Pair | Resume) and facts.usable:
        assert facts.reconnect_wanted or facts.refusals or facts.wrong_runtime
    if isinstance(decision, Pair):
        assert decision.configuration.fingerprint != facts.paired_with


@given(
    validity=st.floats(1, 400 * DAY),
    behind=st.floats(0, 1),
    threshold=st.floats(0.01, 0.99),
    minimal=st.floats(0, 3600),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_renewals_are_spaced_whatever_clocks_and_validities(
    validity: float, behind: float, threshold: float, minimal: float
) -> None:
    """A certificate is used until its threshold; one that comes later than that, for a half of what it has left."""
    limits = replace(LIMITS, renewal_threshold=threshold, minimal_sync_time=minimal)
    acquired = NOW + validity * behind
    due = limits.renewal_due_at(not_before=NOW, not_after=NOW + validity, acquired=acquired)
    threshold_at = limits.renewal_due_at(not_before=NOW, not_after=NOW + validity)
    left = NOW + validity - acquired
    assert due == (threshold_at if acquired < threshold_at else acquired + left / 2)
    assert due > acquired or left < 1e-5  # seconds; clocks of floats know nothing smaller
    assert due <= NOW + validity
