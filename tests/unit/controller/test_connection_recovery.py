"""What ends by itself, and what needs a person and says so: on virtual time."""

import base64
import logging
import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from controller.compass.errors import Refused, Unavailable
from controller.compass.http import HttpAnswer
from controller.connection.observations import CompassService
from controller.connection.status import ConnectionState, timestamp
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME, SECRET
from tests.support.compass_border import CONNECTOR_URL, RUNTIME, TENANT
from tests.support.connection_bench import CLUSTER, CONFIGURATION, SYNC_PERIOD, Bench
from tests.support.whole_bench import WholeBench

HOUR, DAY = 3600.0, 86400.0


def established(bench: Bench) -> str:
    return str(bench.connection["status"]["connectionStatus"]["established"])


# --- a token that is kept for later ---


@pytest.mark.parametrize("seconds", [1.0, 8.0, 15.0, 30.0, 120.0])
@pytest.mark.parametrize("newer", ["after the pairing", "during the outage"])
def test_a_token_that_is_kept_for_later_outlives_an_outage_of_the_database(seconds: float, newer: str) -> None:
    """The Director refuses, and is not asked again for a while. The Connector accepts the certificate by then, so the
    refusal is over, or not confirmed.
    """
    bench = WholeBench()
    bench.configure()
    bench.run(SYNC_PERIOD + 5)
    before = bench.fingerprint()
    token = bench.connector.state.issue_token(RUNTIME, lifetime=1e9)
    if newer == "after the pairing":
        bench.configure(TOKEN=token)
    bench.run(SYNC_PERIOD - 20)
    bench.connector.outages.begin("database")
    bench.health.refused(CompassService.DIRECTOR, before, Refused("insufficient scopes", status=200, code=23))
    bench.run(seconds / 2)
    if newer != "after the pairing":
        bench.configure(TOKEN=token)
    bench.run(seconds / 2)
    bench.connector.outages.clear()
    bench.run(2 * SYNC_PERIOD + 10)
    assert (bench.state, bench.error) == ("Synchronized", "")
    assert bench.fingerprint() == before
    assert bench.is_unused(token)


def test_a_refusal_that_the_director_confirms_after_the_connector_has_accepted_is_one() -> None:
    """A Runtime that the Director does not know any more: its new token is exchanged without a person."""
    bench = WholeBench()
    bench.configure()
    bench.run(5)
    before = bench.fingerprint()
    body = orjson.dumps(
        {
            "errors": [{"message": "insufficient scopes provided", "extensions": {"error_code": 23}}],
            "data": None,
        }
    )
    fetch = ("viewer", "runtime", "applicationsForRuntime")
    bench.connector.intervene = lambda operation: (
        HttpAnswer(200, body, "", "application/json") if operation in fetch and bench.fingerprint() == before else None
    )
    bench.configure()
    bench.run(3 * SYNC_PERIOD)
    assert bench.fingerprint() != before
    assert bench.state == "Synchronized"


def test_a_token_whose_answer_was_lost_may_be_used() -> None:
    """The connection breaks after the request was sent. The later refusal alone would hide the cause."""
    bench = Bench()
    answer = bench.connector.answer

    def lose(body: bytes, headers: Mapping[str, str], credentials: Any) -> HttpAnswer:
        bench.connector.answer = answer  # type: ignore[method-assign]
        answer(body, headers, credentials)
        raise Unavailable("the connection was reset", is_sent=True)

    bench.connector.answer = lose  # type: ignore[method-assign]
    bench.configure()
    bench.settle()
    assert "this attempt may have used the one-time token" in bench.error
    bench.run(60)
    assert "an earlier attempt may have used the one-time token: the connection was reset" in bench.error


# --- clocks ---


@pytest.mark.parametrize("days", [30, -30])
@pytest.mark.parametrize("seconds", [3.0, 90.0, 2 * SYNC_PERIOD])
def test_a_clock_that_is_wrong_for_a_while_stops_nothing_for_good(seconds: float, days: int) -> None:
    """No event comes when it is right again: each rest has a latest next look, in the connection and in the sync."""
    bench = WholeBench()
    compass = bench.clock.time()
    bench.connector.state.clock = lambda: compass + bench.clock.monotonic()
    bench.configure()
    bench.run(5)
    before = bench.fingerprint()
    bench.clock.set_time(compass + bench.clock.monotonic() + days * DAY)
    bench.run(seconds)
    bench.clock.set_time(compass + bench.clock.monotonic())
    calls = len(bench.connector.calls)
    while bench.due <= bench.clock.monotonic() + 2 * SYNC_PERIOD:  # without the wake-up of `run`
        bench.clock.advance(max(0.0, bench.next_due - bench.clock.monotonic()))
        bench.work()
        if bench.clock.monotonic() > seconds + 5 + 3 * SYNC_PERIOD:
            break
    assert (bench.state, bench.error, bench.sync_error) == ("Synchronized", "", "")
    assert bench.fingerprint() == before
    assert "applicationsForRuntime" in bench.connector.calls[calls:] or "runtime" in bench.connector.calls[calls:]


def test_the_sync_looks_again_though_only_it_saw_the_wrong_clock() -> None:
    """The connection did not change its state, so no write wakes the sync."""
    bench = WholeBench()
    bench.configure()
    bench.run(5)
    right = bench.clock.time()
    bench.clock.set_time(right + 30 * DAY)
    bench._synchronise()
    bench.clock.set_time(right)
    assert bench.sync_due <= bench.clock.monotonic() + SYNC_PERIOD


def test_a_first_certificate_that_is_not_valid_yet_names_the_clocks(bench: Bench) -> None:
    """No token is asked for, and none is spent. At its time it is used, without a person."""
    ahead = 2 * HOUR
    bench.connector.state.clock = lambda: bench.clock.time() + ahead
    bench.configure()
    bench.connector.intervene = _refuses_until_it_is_valid(bench)
    bench.run(60)
    spare = bench.connector.state.issue_token(RUNTIME, lifetime=1e9)
    bench.configure(TOKEN=spare)
    valid_from = bench.credentials.load().not_before
    bench.health.refused(
        CompassService.DIRECTOR, bench.fingerprint(), Refused("insufficient scopes", status=200, code=23)
    )
    bench.run(HOUR)
    assert bench.state == "ConnectionMaintenanceFailed"
    assert f"is not valid before {timestamp(valid_from)}" in bench.error
    assert "correct the clocks of Compass and this cluster, or wait" in bench.error
    assert "token" not in bench.error
    assert bench.signed == 1
    bench.run(HOUR + SYNC_PERIOD * 1.3)
    bench.health.accepted(CompassService.DIRECTOR)
    bench.settle()
    bench.assert_connected()
    assert bench.is_unused(spare)


def _refuses_until_it_is_valid(bench: Bench) -> Any:
    """The gateway has the clock of the cluster; Compass, which signs, does not."""

    def intervene(_operation: str) -> HttpAnswer | None:
        try:
            valid_from = bench.credentials.load().not_before
        except Exception:  # noqa: BLE001 - there are none yet
            return None
        return HttpAnswer(400, b"", "", "application/json") if bench.clock.time() < valid_from else None

    return intervene


def test_a_renewed_certificate_that_ends_before_the_one_in_use_does_not_replace_it(bench: Bench) -> None:
    """Compass issues shorter ones by now. The one in use stays, and the next one is requested when it ends later."""
    bench.paired()
    before, expiry = bench.fingerprint(), bench.credentials.load().not_after
    bench.connector.settings.certificate_validity = HOUR
    bench.refresh()
    bench.run(2 * HOUR)
    assert bench.fingerprint() == before
    bench.assert_connected()
    if bench.server.subresource:
        assert "ends before the one in use" in bench.warning
        assert f"the next one is requested at {timestamp(expiry - HOUR)}" in bench.warning
    assert bench.signed == 2
    assert bench.recorder.reasons.count("RenewalWaits") == 1
    bench.run(expiry - HOUR + 60 - bench.clock.time())
    assert bench.fingerprint() != before
    assert bench.warning == ""


# --- what nobody has foreseen ---


@pytest.mark.parametrize("where", ["exchange", "signing", "check", "renewal", "observation", "status"])
def test_an_unforeseen_error_is_told_and_has_a_back_off(
    bench: Bench, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect of the agent, wherever it is: state, one Event and the log name it. No token is sent again and again."""
    connected = where not in ("exchange", "signing")
    if connected:
        bench.paired()
        bench.run(SYNC_PERIOD - 1)
        bench.recorder.events.clear()
    else:
        bench.configure()
    calls = len(bench.connector.calls)

    def fail(*_: object, **__: object) -> Any:
        raise KeyError("a value that may be secret")

    def fail_in_a_call(operation: str) -> None:
        if where != "signing" or operation == "signCertificateSigningRequest":
            fail()

    match where:
        case "observation":
            monkeypatch.setattr(type(bench.credentials), "read", fail)
        case "status":
            monkeypatch.setattr("controller.connection.status.management_info", fail)
        case _:
            bench.connector.intervene = fail_in_a_call
    if where == "renewal":
        bench.refresh()
    bench.run(60)
    assert len(bench.connector.calls) - calls <= 10
    assert bench.reconciles < 60
    assert any(record.exc_info for record in caplog.records if record.levelno >= logging.ERROR), "with its traceback"
    assert "a value that may be secret" not in str(bench.connection["status"]) + str(bench.recorder.events)
    if where != "status":
        assert bench.state == ("ConnectionMaintenanceFailed" if connected else "ConnectionFailed")
        assert "an error that the agent does not expect (KeyError)" in bench.error
        assert len(bench.recorder.reasons) == 1
    monkeypatch.undo()
    bench.connector.intervene = lambda _: None
    if not connected:
        bench.configure()
    bench.run(SYNC_PERIOD * 1.3)
    bench.assert_connected()


@pytest.mark.parametrize("place", ["before the fetch", "in a call", "after the fetch"])
def test_an_unforeseen_error_in_the_sync_is_told_and_has_a_back_off(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The status has no id of a request: the operators of Compass would look for it."""
    bench = WholeBench()
    bench.configure()
    bench.run(5)
    errors = []

    def fail(*_: object, **__: object) -> None:
        errors.append(bench.clock.monotonic())
        raise ZeroDivisionError

    def fail_in_a_call(operation: str) -> None:
        if operation in ("viewer", "runtime", "applicationsForRuntime"):
            fail()

    with monkeypatch.context() as context:
        match place:
            case "before the fetch":
                context.setattr(bench.agent.sync, "_is_overdue", fail)
            case "in a call":
                context.setattr(bench.connector, "intervene", fail_in_a_call)
            case _:
                context.setattr("controller.applications.sync.desired_set", fail)
        bench.run(2 * SYNC_PERIOD)
        assert bench.state == "SynchronizationFailed"
        assert "an error that the agent does not expect (ZeroDivisionError)" in bench.sync_error
        assert 5 <= len(errors) <= 30, "a back-off of 1, 2, 4, ... s, up to its cap of 20 s"
    bench.run(25)
    assert (bench.state, bench.sync_error) == ("Synchronized", "")


# --- requests ---


def test_a_request_to_renew_is_granted_once_while_a_reconnect_is_wanted() -> None:
    """Its Connector is away, so the stored credentials are used, and they can be renewed: once for each request."""
    bench = Bench(minimal_sync_time=10).paired()
    bench.configure()
    answer = bench.connector.answer

    def answered(body: bytes, headers: Any, credentials: Any) -> HttpAnswer:
        return HttpAnswer(503, b"", "") if credentials is None else answer(body, headers, credentials)

    bench.connector.answer = answered  # type: ignore[method-assign]
    bench.delete_connection()
    bench.run(1)
    bench.refresh()
    bench.run(80)
    assert bench.signed == 2
    assert "refreshCredentialsNow" not in bench.connection["spec"]
    assert bench.state == "ConnectionMaintenanceFailed"


def test_a_pairing_fulfils_a_request_to_renew(bench: Bench) -> None:
    """Also one that was made while nothing could be renewed: no needless second certificate."""
    bench.settle()
    bench.refresh()
    bench.configure()
    bench.settle()
    assert bench.state == "Connected"
    assert bench.signed == 1
    assert "refreshCredentialsNow" not in bench.connection["spec"]


# --- what is wrong, and what mends it ---


@pytest.mark.parametrize("code", [24, 25])
def test_a_tenant_that_the_director_does_not_know_is_to_be_corrected(bench: Bench, code: int) -> None:
    """The Connector accepts the certificate: no token is needed, and none is asked for."""
    data = bench.configure(TENANT="mistyped")
    bench.settle()
    bench.health.refused(
        CompassService.DIRECTOR, bench.fingerprint(), Refused("graphql: Tenant not found", status=400, code=code)
    )
    spare = bench.connector.token()
    bench.configure(**data | {"TOKEN": spare})
    bench.run(3 * SYNC_PERIOD)
    assert bench.state == "ConnectionMaintenanceFailed"
    assert f"correct TENANT in ConfigMap {CONFIGURATION}" in bench.error
    assert "no new token is needed" in bench.error
    assert "to reconnect" not in bench.error
    assert bench.is_unused(spare)
    before = bench.fingerprint()
    bench.configure(**data | {"TENANT": TENANT})
    bench.settle()
    bench.health.accepted(CompassService.DIRECTOR)
    bench.run(1)
    assert (bench.state, bench.error, bench.fingerprint()) == ("Connected", "", before)


def test_the_token_of_an_application_is_told_as_one() -> None:
    """`viewer` gives its type. Only a token of the Runtime helps."""
    bench = WholeBench()
    bench.configure()
    body = orjson.dumps({"data": {"viewer": {"id": "an-application", "type": "APPLICATION"}}})
    bench.connector.intervene = lambda op: HttpAnswer(200, body, "", "application/json") if op == "viewer" else None
    bench.run(SYNC_PERIOD)
    assert bench.state == "ConnectionFailed"
    assert "belongs to the application an-application" in bench.error
    assert f"put a one-time token for Runtime {RUNTIME} into ConfigMap {CONFIGURATION}" in bench.error
    assert "correct RUNTIME_ID" not in bench.error
    bench.connector.intervene = lambda _: None
    bench.configure()
    bench.run(SYNC_PERIOD)
    assert bench.state == "Synchronized"


@pytest.mark.parametrize("with_url", [False, True], ids=["the URL is configured", "the URL comes with the token"])
@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_a_raw_encoded_token_is_taken_as_it_is(kind: str, with_url: bool) -> None:
    """What cockpits of Compass show: base64 of a JSON with the token and the URL of the Connector."""
    bench = Bench()
    token = bench.connector.token()
    raw = {"token": token, "connectorURL": CONNECTOR_URL, "used": False, "expiresAt": None}
    data = bench.configure(kind=kind, TOKEN=base64.b64encode(orjson.dumps(raw)).decode())
    if with_url:
        del data["CONNECTOR_URL"]
        bench.put_configuration(kind, data)
    bench.settle()
    bench.assert_connected()
    assert token not in str(bench.connection)


# --- what the status says of a pairing ---


@pytest.mark.parametrize("configured", ["used", "nothing"])
def test_established_changes_by_a_pairing_only(bench: Bench, configured: str) -> None:
    """The CompassConnection is deleted, and the token is used: nothing is paired, so nothing says so."""
    bench.paired()
    paired_at = established(bench)
    bench.run(HOUR)
    bench.refresh()
    bench.run(60)
    if configured == "nothing":
        bench.unconfigure()
    assert established(bench) == paired_at
    bench.delete_connection()
    bench.run(60)
    assert bench.state == "Connected"
    assert established(bench) == paired_at
    bench.configure()
    bench.delete_connection()
    bench.run(60)
    assert bench.state == "Connected"
    assert established(bench) > paired_at


def test_a_valid_certificate_is_never_said_to_be_paired_never(bench: Bench) -> None:
    """Nor that of the Go agent, whose Secret has no time: then it is the begin of its validity."""
    bench.paired()
    bench.server.edit(SECRET, CLUSTER.name, lambda obj: obj["data"].pop("connection"), namespace=CLUSTER.namespace)
    urls = bench.connection["spec"]["managementInfo"]
    bench.delete_connection()
    bench.server.put(
        COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {"managementInfo": dict(urls)}}
    )
    bench.restart()
    bench.run(HOUR)
    assert bench.state == "Connected"
    assert re.fullmatch(r"\d{4}-.*Z", established(bench))


# --- the store ---


def test_a_store_that_two_threads_share_never_strips_the_status() -> None:
    """One thread forgets the kind of CRD after a 404 while the other one uses it."""
    store = Bench().paired().connections

    class Forgetful(type(store)):  # type: ignore[misc]
        """The attribute is emptied right after each time it is read."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name == "_has_status_subresource" and value is not None:
                super().__setattr__(name, None)
            return value

    store.__class__ = Forgetful
    written = store.apply(CONNECTION_NAME, lambda obj: obj["metadata"].setdefault("annotations", {}).update(a="b"))
    assert "runtime" in written["status"]
    assert "conditions" in written["status"]


# --- what a restart finds ---


def _since(bench: Bench, kind: str) -> str:
    """Since when the condition is true; it has to be there."""
    condition = bench.condition(kind)
    assert condition is not None, kind
    return str(condition["lastTransitionTime"])


@pytest.mark.parametrize("jump", [0.0, HOUR], ids=["", "the clock is wrong for a moment after the restart"])
def test_a_restart_finds_since_when_the_certificate_is_refused(jump: float) -> None:
    """The token in another place is tried when the refusals have lasted long enough, in both processes together."""
    bench = Bench().paired()
    bench.unconfigure()
    bench.configure(kind="Secret")
    bench.restart()
    bench.run(1)
    before = bench.fingerprint()
    assert bench.condition("CertificateRefused") is None
    bench.connector.state.revoke_all(RUNTIME)
    refusal = Refused("insufficient scopes", status=200, code=23)
    bench.health.refused(CompassService.DIRECTOR, before, refusal)
    since = timestamp(bench.clock.time())
    bench.run(2 * SYNC_PERIOD - 100)
    condition = bench.condition("CertificateRefused")
    assert condition is not None
    assert condition["lastTransitionTime"] == since
    assert condition["reason"] == "RefusedByConnectorAndDirector"
    assert before[:12] in condition["message"]

    bench.restart()
    bench.run(1)
    right = bench.clock.time()
    bench.clock.set_time(right + jump)
    bench.health.refused(CompassService.DIRECTOR, before, refusal)
    bench.settle()
    bench.clock.set_time(right)
    bench.run(80)
    assert bench.fingerprint() == before
    assert bench.condition("CertificateRefused") == condition
    bench.run(SYNC_PERIOD)  # with the next call of the Connector, long before another tolerance has passed
    assert bench.fingerprint() != before
    assert bench.condition("CertificateRefused") is None


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("refusing", "reason"), [("Connector", None), ("Director", "RefusedByDirector"), ("both", "RefusedByDirector")]
)
def test_a_refusal_ends_when_the_service_that_refused_accepts(
    refusing: str, reason: str | None, restarted: bool
) -> None:
    """The Connector accepts the certificate again, and the Director does not answer. A later refusal is a new one."""
    bench = Bench().paired()
    refused_again = Refused("insufficient scopes", status=200, code=23)
    if refusing != "Director":
        bench.connector.outages.begin("database", delay=0.0)
    if refusing != "Connector":
        bench.suspect()
    bench.run(SYNC_PERIOD + 10)
    before = _since(bench, "CertificateRefused")
    if restarted:
        bench.restart()
        bench.settle()
        assert _since(bench, "CertificateRefused") == before, "nobody has accepted the certificate yet"
    bench.connector.outages.clear()
    bench.health.synchronised(ConnectionState.SYNCHRONIZATION_FAILED)
    bench.run(1.5 * SYNC_PERIOD)
    condition = bench.condition("CertificateRefused")
    assert (condition and condition["reason"]) == reason
    bench.health.refused(CompassService.DIRECTOR, bench.fingerprint(), refused_again)
    since = timestamp(bench.clock.time())
    bench.settle()
    assert _since(bench, "CertificateRefused") == (before if reason else since)
    bench.health.synchronised(ConnectionState.SYNCHRONIZED)
    bench.health.accepted(CompassService.DIRECTOR)
    bench.settle()
    assert bench.condition("CertificateRefused") is None


@pytest.mark.parametrize("token", ["the same", "another"])
def test_a_restart_finds_since_when_a_pairing_fails(token: str) -> None:
    """A reconnect whose token is refused is given up as without a restart. Failures of another token do not count."""
    bench = Bench().paired()
    bench.configure(TOKEN="the same")
    bench.delete_connection()
    since = timestamp(bench.clock.time())
    bench.run(2 * SYNC_PERIOD - 100)
    assert _since(bench, "PairingFailing") == since
    assert bench.state == "ConnectionMaintenanceFailed"
    bench.configure(TOKEN=token)
    bench.restart()
    bench.run(2 * SYNC_PERIOD - 100)
    if token == "the same":
        assert bench.state == "Connected"
    else:
        assert bench.state == "ConnectionMaintenanceFailed"
        assert _since(bench, "PairingFailing") == timestamp(bench.clock.time() - 2 * SYNC_PERIOD + 100)
    bench.configure()
    bench.delete_connection()
    bench.run(1)
    assert (bench.state, bench.condition("PairingFailing")) == ("Connected", None)
