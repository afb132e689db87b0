"""The rules over every combination of what they look at: they decide, and what they decide keeps what must be kept.

What is read is made of few values for each question that the rules ask. Their product is enumerated whole; what is a
number (clocks, delays) is left to hypothesis.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.compass.errors import Refused, Unavailable
from controller.connection import problem, rules
from controller.connection.backoff import Backoff, Pauses
from controller.connection.configuration import (
    REVOKED,
    SPEC_PAIRING,
    Configuration,
    ConfigurationProblem,
    PairingConfiguration,
)
from controller.connection.credentials import (
    ClientSecret,
    CredentialsError,
    GatewaySecret,
    PendingCertificate,
    Registration,
    StoredCredentials,
    StoredPairing,
)
from controller.connection.observations import CompassService, Failure, Observations, Owner, Refusal
from controller.connection.problem import Problem, TokenFate
from controller.connection.rules import (
    Act,
    Decision,
    Pair,
    Renew,
    Rest,
    StoreRegistration,
    decide,
)
from controller.connection.state import (
    DeferredRenewal,
    LastConnectorCall,
    Memory,
    ObservedConfiguration,
    PairingFailure,
    State,
)
from controller.connection.status import ConnectionState
from controller.settings import Settings
from tests.clock import VirtualClock
from tests.support.connection_bench import SYNC_PERIOD

pytestmark = pytest.mark.timeout(600)  # the combinations take a busy machine minutes

NOW, MONOTONIC = 1_900_000_000.0, 10_000.0
TOLERANCE = 2 * SYNC_PERIOD
SETTINGS = Settings(renewal_threshold=0.3, minimal_sync_time=15.0, sync_period=SYNC_PERIOD)
CONFIG_MAP = "ConfigMap kyma-system/compass-agent-configuration"

USED = PairingConfiguration(CONFIG_MAP, "https://connector", "runtime", "tenant", "used")
NEWER = replace(USED, token="newer")
ELSEWHERE = replace(NEWER, origin="Secret kyma-system/compass-agent-configuration")
LITERAL = replace(NEWER, origin=SPEC_PAIRING)
CORRECTED = replace(USED, runtime_id="another", connector_url="https://moved")
NOTHING = ConfigurationProblem("no pairing configuration found", "", is_absent=True)
INCOMPLETE = ConfigurationProblem(f"{CONFIG_MAP}: TENANT is empty", "-")
CONFIGURATIONS: tuple[Configuration, ...] = (USED, NEWER, ELSEWHERE, LITERAL, CORRECTED, NOTHING, INCOMPLETE)

REGISTRATION = Registration(
    runtime_id="runtime",
    tenant="tenant",
    connector_url="https://c",
    director_url="https://d",
    paired_with=USED.token_fingerprint,
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
        if configuration.is_from_spec:
            obj["spec"]["pairing"] = {
                "connectorUrl": configuration.connector_url,
                "runtimeId": configuration.runtime_id,
                "tenant": configuration.tenant,
                "token": configuration.token,
            }
        mark = configuration.token_fingerprint
    else:
        mark = "none"
    if revoked:
        obj["metadata"]["annotations"][REVOKED] = mark
    return obj


def stored_pairing(configuration: Configuration) -> StoredPairing:
    of = configuration if isinstance(configuration, PairingConfiguration) else NEWER
    return StoredPairing(
        configuration=of.fingerprint,
        configured_token=of.token_fingerprint,
        origin=of.origin,
        runtime_id="runtime",
        tenant="tenant",
        token_url="https://connector",
        token="second",
        key="key",
        since=int(NOW),
    )


def pairing_failure(attempt_key: str, fate: TokenFate, *, final: bool, since: float) -> PairingFailure:
    shown = problem.pairing_failed("Failed to retrieve certificate", REFUSAL, fate=fate, origin=CONFIG_MAP)
    return PairingFailure(attempt_key, shown, fate, CONFIG_MAP, MONOTONIC - since, MONOTONIC - 5, final)


class Pause(Backoff):
    """The same for every subject."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(cap=1.0, clock=VirtualClock(), random=lambda: 0.0)
        self.seconds = seconds

    def wait(self, _: str) -> float:
        return self.seconds


def pauses_of(pairing: float = 0.0, connector: float = 0.0, gateway: float = 0.0) -> Pauses:
    return Pauses(pairing=Pause(pairing), connector=Pause(connector), gateway=Pause(gateway), internal=Pause())


REFUSALS = {
    "nobody refuses": (),
    "refused just now": (Refusal(CompassService.CONNECTOR, "present", REFUSAL, MONOTONIC - 10, MONOTONIC - 10),),
    "refused by the Director alone": (
        Refusal(CompassService.DIRECTOR, "present", REFUSAL, MONOTONIC - 10, MONOTONIC - 10),
    ),
    "refused by the Director again": (Refusal(CompassService.DIRECTOR, "present", REFUSAL, MONOTONIC - 10, MONOTONIC),),
    "the tenant is unknown": (Refusal(CompassService.DIRECTOR, "present", UNKNOWN_TENANT, MONOTONIC - 10, MONOTONIC),),
    "refused for long": (
        Refusal(CompassService.CONNECTOR, "present", REFUSAL, MONOTONIC - TOLERANCE - 1, MONOTONIC - 10),
        Refusal(CompassService.DIRECTOR, "present", REFUSAL, MONOTONIC - 10, MONOTONIC - 10),
    ),
    "an earlier certificate was refused": (
        Refusal(CompassService.DIRECTOR, "earlier", REFUSAL, MONOTONIC - 10, MONOTONIC - 10),
    ),
}
LAST_CALLS = {
    "never called": None,
    "accepted just now": LastConnectorCall("present", MONOTONIC - 1, MONOTONIC + 100),
    "accepted a period ago": LastConnectorCall("present", MONOTONIC - 200, MONOTONIC - 1),
    "refused just now": LastConnectorCall("present", MONOTONIC - 1, MONOTONIC + 100, REFUSAL),
    "down": LastConnectorCall("present", MONOTONIC - 1, MONOTONIC + 100, OUTAGE, renewing=True),
}
FAILURES = {
    "not tried": None,
    "failed just now": (TokenFate.REFUSED, False, 5.0),
    "failed for long": (TokenFate.REFUSED, False, TOLERANCE + 1),
    "outage for long": (TokenFate.UNCERTAIN, False, TOLERANCE + 1),
    "spent": (TokenFate.SPENT, True, 5.0),
}
PENDING = PendingCertificate(
    replaces="present",
    key="key",
    chain="chain",
    received=int(NOW),
    valid_from=int(NOW) + 60,
    valid_until=int(NOW + DAY),
    request_id="",
)
ANOTHER = Owner("present", "runtime", "another", settled=False)
OWNERS = {
    "not asked": None,
    "ours": Owner("present", "runtime", "runtime", settled=True),
    "another": ANOTHER,
}


def _is_kept(decision: Decision) -> bool:
    return isinstance(decision, Rest) and decision.problem is None


def combinations() -> Iterator[State]:
    """Every combination of what the rules distinguish."""
    for name, credentials in CREDENTIALS.items():
        known = replace(REGISTRATION, runtime_id="", connector_url="", director_url="")
        for configuration, told, revoked, pairing, tried in itertools.product(
            CONFIGURATIONS, (True, False), (True, False), (True, False), FAILURES
        ):
            state = State(
                now=NOW,
                monotonic=MONOTONIC,
                settings=SETTINGS,
                configuration=configuration,
                fallback_fingerprint="",
                pauses=pauses_of(pairing=30.0 if tried == "failed just now" else 0.0),
                connection=connection(told=told, configuration=configuration, revoked=revoked),
                secret=ClientSecret(
                    credentials or CredentialsError("the Secret does not exist"),
                    registration=known if name == "of the Go agent" else REGISTRATION,
                    pairing=stored_pairing(configuration) if pairing else None,
                ),
                ids=("runtime", "tenant"),
                gateway=GatewaySecret.AS_WANTED,
                observations=Observations(),
                memory=Memory(
                    configuration=ObservedConfiguration(
                        configuration.fingerprint, NOW - 20, MONOTONIC - 20, changed=told
                    )
                ),
            )
            failed = FAILURES[tried]
            if failed:
                failure = pairing_failure(state.attempt_fingerprint, failed[0], final=failed[1], since=failed[2])
                state = replace(state, memory=replace(state.memory, pairing_failure=failure))
            yield from _maintained(state) if name in ("young", "old", "not valid yet") else (state,)


def _maintained(state: State) -> Iterator[State]:
    for refusals, call, owner in itertools.product(REFUSALS.values(), LAST_CALLS.values(), OWNERS.values()):
        pause = Pause(20.0 if call is not None and call.failure is not None else 0.0)
        yield replace(
            state,
            observations=Observations(refusals=refusals, owner=owner, sync_state=ConnectionState.SYNCHRONIZED),
            memory=replace(state.memory, last_call=call),
            pauses=replace(state.pauses, connector=pause),
        )


Decided = list[tuple[State, Decision]]


@pytest.fixture(
    scope="module", params=[pytest.param(11, id="each eleventh"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def decided(request: pytest.FixtureRequest) -> Decided:
    """No combination is without a decision, or this would fail. No question has a multiple of eleven answers, so each
    answer is combined with each other one in the sample, too.
    """
    return [(state, decide(state)) for state in itertools.islice(combinations(), 0, None, request.param)]


@functools.cache
def kept() -> State:
    return next(state for state in combinations() if not state.revoked and _is_kept(decide(state)))


def test_there_are_many_combinations(decided: Decided) -> None:
    """So that nobody shrinks them by mistake."""
    assert len(decided) > 3_000


def test_every_rule_is_needed(decided: Decided) -> None:
    """No rule is without a combination that it decides, but for the one of the gateway's Secret, shown by itself."""
    applied: set[str] = set()
    for state, _ in decided:
        tables: list[Any] = [rules.WITH_CREDENTIALS if state.is_usable else rules.WITHOUT_CREDENTIALS]
        if state.relevant_configuration is not None:
            tables.append(rules.PAIRING)
        applied |= {next(rule for rule in table if rule(state) is not None).__name__ for table in tables}
    known = (rules.WITH_CREDENTIALS, rules.WITHOUT_CREDENTIALS, rules.PAIRING)
    assert {rule.__name__ for table in known for rule in table} - applied == {"write_gateway_ca"}
    different = replace(kept(), gateway=GatewaySecret.DIFFERENT)
    assert decide(different) is Act.WRITE_GATEWAY_CA
    assert _is_kept(decide(replace(different, pauses=pauses_of(gateway=1.0))))


def test_usable_and_accepted_credentials_are_never_given_up(decided: Decided) -> None:
    """A pairing is begun beside them only when it was asked for, or somebody refuses them, or they are another's."""
    for state, decision in decided:
        if state.is_usable and isinstance(decision, Pair):
            assert state.reconnect_wanted or state.refusals or state.wrong_owner


def test_a_token_that_is_known_to_be_used_is_never_tried(decided: Decided) -> None:
    """The one that won the credentials, and one whose last pairing cost it."""
    for state, decision in decided:
        if isinstance(decision, Pair):
            if decision.pairing != state.active_pairing:
                assert decision.pairing.token != USED.token, "nor with other values beside it"
            assert state.pairing_failure is None or not state.pairing_failure.final


def test_other_ids_are_used_only_when_the_director_alone_refuses(decided: Decided) -> None:
    """Or when it has said whose the certificate is. A database that is down makes the Connector refuse as well."""
    for state, decision in decided:
        if isinstance(decision, StoreRegistration) and state.is_usable and state.wrong_owner is None:
            assert {refusal.by for refusal in state.refusals} == {CompassService.DIRECTOR}
            assert state.connector_accepts


def test_a_token_is_not_tried_for_refusals_that_an_outage_explains(decided: Decided) -> None:
    """Neither early, when it is not newer, nor when Connector and Director did not both refuse just now."""
    tried = 0
    for state, decision in decided:
        if not state.is_usable or state.reconnect_wanted or state.wrong_owner:
            continue
        if isinstance(decision, Pair):
            tried += 1
            director, call = state.director_refusal, state.last_call
            assert state.token_is_newer or state.refused_for >= TOLERANCE
            assert call is not None
            assert director is not None, "the Connector alone proves nothing"
            assert state.unknown_tenant is None, "no token is needed"
            assert not state.not_valid_yet, "no token is needed"
            if call.failure is None:
                assert director.since <= call.at < director.last
            else:
                assert call.failure == REFUSAL
                assert MONOTONIC - call.at <= 1
                assert state.pairing_failure is None or call.at >= state.pairing_failure.tried
    assert tried


def test_nothing_is_done_again_before_its_pause_is_over(decided: Decided) -> None:
    """Whatever failed."""
    for state, decision in decided:
        match decision:
            case Pair():
                assert state.pairing_failure is None or state.pairing_pause <= 0
            case Renew():
                assert state.connector_pause <= 0
            case Act.CHECK_CONNECTOR:
                observed, call = state.memory.configuration, state.last_call
                newer = observed is not None and call is not None and observed.since_monotonic > call.at
                assert state.connector_pause <= 0 or newer


def test_rest_has_an_end(decided: Decided) -> None:
    """Whoever waits comes back by itself; no look follows at once on another."""
    for _, decision in decided:
        if isinstance(decision, Rest):
            assert 0 < decision.requeue_after <= 60


def _remembering(state: State, **changes: Any) -> State:
    return replace(state, memory=replace(state.memory, **changes))


def _called(state: State, *, next_in: float) -> State:
    return _remembering(state, last_call=LastConnectorCall("present", MONOTONIC - 1, MONOTONIC + next_in))


def _refused(state: State, *, seconds: float) -> State:
    refusal = Refusal(CompassService.DIRECTOR, "present", REFUSAL, MONOTONIC - seconds, MONOTONIC - seconds)
    return replace(state, observations=replace(state.observations, refusals=(refusal,)))


def _expiring(state: State, *, left: float) -> State:
    credentials = certificate(age=90 * DAY - left)
    return replace(state, secret=replace(state.secret, credentials=credentials), pauses=pauses_of(connector=45.0))


def _without_credentials(state: State, *, final: bool) -> State:
    secret = ClientSecret(CredentialsError("the Secret does not exist"))
    failure = pairing_failure(NEWER.fingerprint, TokenFate.REFUSED, final=final, since=5.0)
    lost = replace(state, secret=secret, configuration=NEWER, pauses=pauses_of(pairing=30.0))
    return _remembering(lost, pairing_failure=failure)


WAITS: dict[str, tuple[Callable[[State], State], float]] = {
    "nothing is due": (lambda state: state, 60.0),
    "the next call": (lambda state: _called(state, next_in=12.0), 12.0),
    "the next call is less than rounding away": (lambda state: _called(state, next_in=1e-6), 0.001),
    "the pause after a failed call": (lambda state: replace(state, pauses=pauses_of(connector=9.0)), 9.0),
    "the gateway's Secret": (
        lambda state: replace(state, gateway=GatewaySecret.DIFFERENT, pauses=pauses_of(gateway=7.0)),
        7.0,
    ),
    "the gateway's Secret is right": (lambda state: replace(state, pauses=pauses_of(gateway=7.0)), 60.0),
    "any renewal": (lambda state: _remembering(state, renewed_at=MONOTONIC - 0.25), 0.75),
    "a requested renewal": (lambda state: _remembering(state, renewed_at=MONOTONIC - 10), 5.0),
    "a deferred renewal": (
        lambda state: _remembering(state, deferred_renewal=DeferredRenewal("present", NOW + 20, "deferred")),
        20.0,
    ),
    "a pending certificate": (lambda state: _with(state, "young", replace(PENDING, valid_from=int(NOW) + 25)), 25.0),
    "the expiry": (lambda state: _expiring(state, left=30.0), 30.0),
    "the renewal waits for the pause": (lambda state: _expiring(state, left=DAY), 45.0),
    "refusals are tolerated": (lambda state: _refused(state, seconds=TOLERANCE - 8), 8.0),
    "refusals are tolerated for two minutes": (
        lambda state: replace(_refused(state, seconds=112.0), settings=replace(SETTINGS, sync_period=30.0)),
        8.0,
    ),
    "the next attempt to pair": (lambda state: _without_credentials(state, final=False), 30.0),
    "a pairing that is given up": (lambda state: _without_credentials(state, final=True), 60.0),
}


@pytest.mark.parametrize(("change", "seconds"), WAITS.values(), ids=WAITS)
def test_rest_ends_at_the_first_time_that_matters(change: Callable[[State], State], seconds: float) -> None:
    decision = decide(change(kept()))
    assert isinstance(decision, Rest)
    assert decision.requeue_after == pytest.approx(seconds, abs=1e-6)


EARLIER: dict[str, tuple[Callable[[State], State], Decision]] = {
    "its last call": (
        lambda state: _remembering(state, last_call=LastConnectorCall("earlier", MONOTONIC - 1, MONOTONIC + 9)),
        Act.CHECK_CONNECTOR,
    ),
    "its owner": (
        lambda state: replace(state, observations=Observations(owner=replace(ANOTHER, certificate="earlier"))),
        Rest(None, 60.0),
    ),
    "its renewed certificate": (
        lambda state: _with(state, "young", replace(PENDING, replaces="earlier", valid_from=int(NOW) + 25)),
        Rest(None, 60.0),
    ),
    "its deferred renewal": (
        lambda state: _remembering(state, deferred_renewal=DeferredRenewal("earlier", NOW + 20, "deferred")),
        Rest(None, 60.0),
    ),
    "its refusal": (
        lambda state: replace(state, observations=Observations(REFUSALS["an earlier certificate was refused"])),
        Rest(None, 60.0),
    ),
}


@pytest.mark.parametrize(("change", "decision"), EARLIER.values(), ids=EARLIER)
def test_observations_of_an_earlier_certificate_do_not_count(
    change: Callable[[State], State], decision: Decision
) -> None:
    """The credentials may be replaced at any moment, also by another client."""
    state = change(kept())
    assert decide(state) == decision
    assert rules.warnings(state) == ()


@pytest.mark.parametrize(("name", "pause"), [("old", 1.0), ("young", 15.0)], ids=["too old", "requested"])
def test_renewals_have_a_pause_by_their_reason(name: str, pause: float) -> None:
    """One for the age comes after a second, one that is requested after the minimal time."""
    requested = connection(told=True, configuration=USED, revoked=False)
    requested["spec"]["refreshCredentialsNow"] = True
    credentials = CREDENTIALS[name]
    assert credentials is not None
    state = kept()
    state = replace(state, connection=requested, secret=replace(state.secret, credentials=credentials))
    assert isinstance(decide(_remembering(state, renewed_at=MONOTONIC - pause + 0.1)), Rest)
    assert isinstance(decide(_remembering(state, renewed_at=MONOTONIC - pause)), Renew)
    assert isinstance(decide(state), Renew)


def test_nobody_who_was_revoked_pairs_or_renews(decided: Decided) -> None:
    """As long as nothing else is configured."""
    for state, decision in decided:
        if state.revoked:
            assert not isinstance(decision, Pair | Renew)


def test_every_problem_that_needs_a_person_says_what_to_do(decided: Decided) -> None:
    """The text names what somebody has to change, or how to get a new token."""
    for state, decision in decided:
        if not isinstance(decision, Rest) or decision.problem is None:
            continue
        obstacle = isinstance(rules.pairing_step(state), Problem) if state.relevant_configuration is not None else False
        retried = obstacle and state.pairing_failure is not None and not state.pairing_failure.final
        pairing = (problem.Kind.PAIRING_FAILED, problem.Kind.CONNECTION_SUSPECTED)
        lost = decision.problem.kind in pairing and obstacle and (state.revoked or not retried)
        if not lost and decision.problem.kind not in (problem.Kind.WRONG_RUNTIME, problem.Kind.UNKNOWN_TENANT):
            continue
        text = decision.problem.text()
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


def test_every_problem_has_a_state_and_without_credentials_it_is_failed(decided: Decided) -> None:
    """And a problem that is told while the credentials work is never that there is no pairing."""
    for state, decision in decided:
        if isinstance(decision, Rest) and decision.problem is not None:
            assert decision.problem.state in (
                ConnectionState.CONNECTION_FAILED,
                ConnectionState.CONNECTION_MAINTENANCE_FAILED,
            )
            if not state.is_usable:
                assert decision.problem.state is ConnectionState.CONNECTION_FAILED
            elif decision.problem.kind is not problem.Kind.WRONG_RUNTIME:
                assert decision.problem.state is ConnectionState.CONNECTION_MAINTENANCE_FAILED


def _with(state: State, name: str, pending: PendingCertificate) -> State:
    credentials = CREDENTIALS[name]
    assert credentials is not None
    return replace(state, secret=replace(state.secret, credentials=credentials, pending=pending))


def test_a_pending_certificate_is_used_at_its_time_and_no_other_is_requested() -> None:
    """Also when the one in use is past its threshold, or a renewal is requested."""
    state = _with(kept(), "old", PENDING)
    decision = decide(state)
    assert isinstance(decision, Rest)
    assert decision.requeue_after <= 60
    assert decide(replace(state, now=NOW + 60)) is Renew.TOO_OLD
    requested = connection(told=True, configuration=USED, revoked=False)
    requested["spec"]["refreshCredentialsNow"] = True
    asked_for = replace(_with(kept(), "young", PENDING), now=NOW + 60, connection=requested)
    assert decide(asked_for) is Renew.REQUESTED, "the Event has the reason"


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@given(
    place=st.floats(0, 1, exclude_max=True),
    now=st.floats(NOW - 200 * DAY, NOW + 200 * DAY),
    monotonic=st.floats(0, MONOTONIC * 3),
    pauses=st.tuples(*[st.floats(0, 400)] * 3),
    acquired=st.integers(0, int(NOW + 200 * DAY)),
)
def test_clocks_and_delays_of_any_kind(
    decided: Decided,
    place: float,
    now: float,
    monotonic: float,
    pauses: tuple[float, float, float],
    acquired: int,
) -> None:
    """No clock makes it fail, loop, pair beside credentials that nobody refuses, or try a used token."""
    state = replace(decided[int(place * len(decided))][0], now=now, monotonic=monotonic, pauses=pauses_of(*pauses))
    credentials = state.stored
    if credentials is not None and credentials.registration is not None:
        stored = replace(credentials, registration=replace(credentials.registration, acquired=acquired))
        state = replace(state, secret=replace(state.secret, credentials=stored))
    decision = decide(state)
    if isinstance(decision, Rest):
        assert 0 < decision.requeue_after <= 60
        assert decision.problem is None or decision.problem.text()
    if isinstance(decision, Pair) and state.is_usable:
        assert state.reconnect_wanted or state.refusals or state.wrong_owner
    if isinstance(decision, Pair) and decision.pairing != state.active_pairing:
        assert decision.pairing.token != USED.token
    assert all(isinstance(warning, Problem) for warning in rules.warnings(state))
