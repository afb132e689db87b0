"""The life of the connection on virtual time: what is done when, how often, and what it costs."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from controller.compass.http import HttpAnswer
from controller.connection import status
from controller.connection.configuration import mark_revoked
from controller.connection.state import renewal_due_at
from controller.connection.status import timestamp
from controller.resources import COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from informers.errors import ApiError, ServerError
from informers.resource import Resource
from tests.support.agent_thread import small_key
from tests.support.compass_border import DIRECTOR_URL, RUNTIME, SECURED_URL, TENANT
from tests.support.connection_bench import CA, CLUSTER, CONFIGURATION, SYNC_PERIOD, Bench

HOUR, DAY = 3600.0, 86400.0


class Killed(BaseException):
    """The process ends here."""


# --- crashes ---


def _kill_at(bench: Bench, point: int) -> bool:
    """Ends the process at the n-th border crossed: before a write, after a write, before and after a call."""
    crossed = 0

    def cross(*_: object) -> None:
        nonlocal crossed
        crossed += 1
        if crossed == point:
            raise Killed

    store = bench.server._store
    answer = bench.connector.answer

    def store_then_cross(*args: object, **kwargs: object) -> object:
        stored = store(*args, **kwargs)  # type: ignore[arg-type]
        cross()
        return stored

    def answer_then_cross(*args: object, **kwargs: object) -> object:
        cross()
        answered = answer(*args, **kwargs)  # type: ignore[arg-type]
        cross()
        return answered

    bench.server.before = cross
    bench.server._store = store_then_cross  # type: ignore[method-assign,assignment]
    bench.connector.answer = answer_then_cross  # type: ignore[method-assign,assignment]
    try:
        bench.settle()
        killed = False
    except Killed:
        killed = True
    bench.server.before = lambda *_: None
    bench.server._store = store  # type: ignore[method-assign]
    bench.connector.answer = answer  # type: ignore[method-assign]
    return killed


def _killed_anywhere(prepare: Callable[[], Bench]) -> Iterator[Bench]:
    """Restarted after a kill at each border in turn; the last one was not killed."""
    killed = True
    for point in itertools.count(1):
        bench = prepare()
        killed = _kill_at(bench, point)
        bench.restart()
        yield bench
        if not killed:
            return


def test_a_pairing_that_is_killed_anywhere_is_finished_after_the_restart() -> None:
    """Before and after each write and each call; only between an answer of the Connector and its write is a token lost,
    and then the CompassConnection says what to do.
    """

    def configured() -> Bench:
        bench = Bench()
        bench.configure()
        return bench

    states = []
    for bench in _killed_anywhere(configured):
        bench.run(1)
        states.append(bench.state)
        if bench.state != "Connected":
            assert "put a new one-time token into ConfigMap kyma-system/compass-agent-configuration" in bench.error
            bench.configure()
            bench.run(1)
            assert bench.state == "Connected"
    # The answer of either call is here and not stored: after the call, and right before the write that stores it.
    assert len(states) > 15
    assert [state for state in states if state != "Connected"] == ["ConnectionFailed"] * 4


def test_a_renewal_that_is_killed_anywhere_leaves_a_working_certificate() -> None:
    """Whatever is lost, the stored pair works, and the renewal is done again without a token."""
    before = []

    def requested() -> Bench:
        bench = Bench().paired()
        bench.refresh()
        before.append(bench.fingerprint())
        return bench

    for bench in _killed_anywhere(requested):
        bench.run(1)
        assert bench.state == "Connected"
        assert bench.fingerprint() != before[-1]
        assert "refreshCredentialsNow" not in bench.connection["spec"]
    assert len(before) > 8


def test_a_literal_token_goes_even_if_the_agent_was_killed_before_it_could_remove_it() -> None:
    """The resumed pairing removes the token first, also when it then fails."""

    def applied() -> Bench:
        bench = Bench()
        bench.apply_pairing(token=bench.connector.token())
        return bench

    caught = 0
    for bench in _killed_anywhere(applied):
        if bench.credentials.read().pairing is None or "token" not in bench.connection["spec"]["pairing"]:
            continue
        caught += 1
        bench.connector.state.expire_tokens()
        bench.settle()
        assert bench.state == "ConnectionFailed"
        assert "the one-time token is unknown, used or expired" in bench.error
        assert "token" not in bench.connection["spec"]["pairing"]
    assert caught == 2  # right after the token is stored elsewhere, and right before it is removed


def test_an_answer_that_is_not_stored_outlives_another_configuration() -> None:
    """The token is used by then. So the answer stays in memory until its pairing is requested again."""
    bench = Bench()
    used = bench.configure()
    bench.settle()
    new = bench.configure()

    def refuse(verb: str, kind: str) -> None:
        if kind == "Secret" and verb != "dry-run":
            raise ServerError("etcd is away", status=500)

    bench.server.before = refuse
    bench.delete_connection()
    bench.settle()
    assert bench.state == "ConnectionMaintenanceFailed"
    bench.configure(**used)
    bench.settle()
    bench.assert_connected()
    bench.server.before = lambda *_: None
    bench.configure(**new)
    bench.delete_connection()
    bench.settle()
    bench.assert_connected()
    assert bench.signed == 2


def test_an_answer_that_is_not_stored_is_not_used_for_another_pairing() -> None:
    """That one was stored half done, and is there again from a backup, with its configuration."""
    bench = Bench()
    restored = bench.configure()
    bench.connector.intervene = lambda op: HttpAnswer(503, b"", "") if op.startswith("sign") else None
    bench.settle()
    backup = bench.secret()["data"]
    bench.connector.intervene = lambda _: None

    def refuse(verb: str, kind: str) -> None:
        if kind == "Secret" and bench.signed == 1:
            raise ServerError("etcd is away", status=500)

    bench.server.before = refuse
    bench.configure()
    bench.settle()
    assert (bench.state, bench.signed) == ("ConnectionFailed", 1)
    bench.server.before = lambda *_: None
    bench.put_secret(backup)
    bench.configure(**restored)
    bench.run(SYNC_PERIOD)
    bench.assert_connected()
    assert bench.signed == 2


# --- no hammering, no loops ---


@pytest.mark.parametrize("connected", [False, True], ids=["pairing", "connected"])
@pytest.mark.parametrize(
    "answer", [HttpAnswer(503, b"", ""), HttpAnswer(400, b"", ""), HttpAnswer(200, b"null", "")], ids=str
)
def test_a_long_failure_costs_a_call_and_a_write_a_period(bench: Bench, answer: HttpAnswer, connected: bool) -> None:
    """The delay grows to the sync period; each attempt writes the status at most twice."""
    if connected:
        bench.paired()
    else:
        bench.configure()
    calls, writes, reconciles = len(bench.connector.calls), bench.server.writes.total(), bench.reconciles
    bench.connector.intervene = lambda _: answer
    bench.run(HOUR)
    assert bench.state == ("ConnectionMaintenanceFailed" if connected else "ConnectionFailed")
    calls = len(bench.connector.calls) - calls
    assert 0.8 * HOUR / SYNC_PERIOD < calls < HOUR / SYNC_PERIOD + 10
    assert bench.server.writes.total() - writes <= 2 * calls + 5
    assert bench.reconciles - reconciles < 8 * calls + 2 * HOUR / 60


def test_an_hour_of_health_writes_nothing(bench: Bench) -> None:
    """The Connector is called once a period. Not even a broken configuration matters."""
    bench.paired()
    bench.configure(TENANT="")
    bench.settle()
    calls, writes = len(bench.connector.calls), bench.server.writes.total()
    bench.run(HOUR)
    bench.assert_connected()
    assert bench.server.writes.total() == writes
    assert HOUR / SYNC_PERIOD - 2 <= len(bench.connector.calls) - calls <= HOUR / SYNC_PERIOD + 1


def test_retry_after_is_respected_up_to_the_period() -> None:
    """An overloaded Compass says when to come back."""
    bench = Bench()
    bench.configure()
    bench.connector.intervene = lambda _: HttpAnswer(429, b"", "100")
    bench.run(99)
    assert len(bench.connector.calls) == 1
    bench.run(22)  # with the jitter that every delay has
    assert len(bench.connector.calls) == 2


# --- renewal ---


@pytest.mark.parametrize(
    ("validity", "minimal", "acquired", "left"),
    [
        (90 * DAY, 15, 0, 27 * DAY),  # three tenths
        (60, 15, 0, 30),  # two minimal sync times are more than three tenths
        (20, 15, 0, 10),  # shorter than any margin: halfway, or renewals would follow each other without a pause
        (90 * DAY, 15, 62 * DAY, 27 * DAY),
        (90 * DAY, 15, 63 * DAY, 13.5 * DAY),  # one that comes later than that is used for a half of what it has left
        (90 * DAY, 15, 88 * DAY, DAY),
    ],
)
def test_renewal_is_due_at_the_exact_moment(validity: float, minimal: float, acquired: float, left: float) -> None:
    """The later of threshold and twice the minimal sync time before the end."""
    bench = Bench(minimal_sync_time=minimal)
    due = renewal_due_at(bench.settings, not_before=1000, not_after=1000 + validity, acquired=1000 + acquired)
    assert due == 1000 + validity - left


def test_the_certificate_is_renewed_at_the_threshold_and_not_a_second_before() -> None:
    """A timer, not a poll."""
    bench = Bench().paired()
    first = bench.credentials.load()
    due = first.not_after - (first.not_after - first.not_before) * 0.3
    bench.run(due - bench.clock.time() - 1)
    assert bench.fingerprint() == first.fingerprint
    bench.run(1)
    assert bench.fingerprint() != first.fingerprint
    part = bench.connection["status"]["connectionStatus"]
    assert part["renewed"] == part["certificateStatus"]["acquired"]
    assert part["renewed"] > part["established"]
    assert "CertificateRenewed" in bench.recorder.reasons


@pytest.mark.parametrize("skew", [-300, 300])
def test_clocks_that_differ_by_five_minutes_do_no_harm(skew: float) -> None:
    """A certificate from the near future or past is used and renewed in time by either clock."""
    bench = Bench(validity=HOUR)
    bench.connector.state.clock = lambda: bench.clock.time() - skew
    bench.paired()
    for _ in range(5):
        before = bench.fingerprint()
        bench.run(HOUR)
        assert bench.state == "Connected"
        assert bench.fingerprint() != before
    assert bench.connector.calls.count("signCertificateSigningRequest") >= 6


def test_a_renewal_that_fails_tells_the_time_left_and_ends_in_loss_only_at_expiry() -> None:
    """Warning Event and status with what is left; then ConnectionFailed with the moment of expiry."""
    bench = Bench().paired()
    bench.connector.intervene = lambda op: HttpAnswer(503, b"", "") if op.startswith("sign") else None
    end = bench.credentials.load().not_after
    bench.run(end - bench.clock.time() - 2 * HOUR - 60)
    assert bench.state == "ConnectionMaintenanceFailed"
    assert f"the certificate could not be renewed and is valid until {timestamp(end)}: HTTP 503" in bench.error
    assert "RenewalFailed" in bench.recorder.reasons
    bench.run(2 * HOUR + 300)
    assert bench.state == "ConnectionFailed"
    assert "the client certificate expired at" in bench.error


def test_a_wall_clock_that_jumps_past_the_expiry_is_noticed() -> None:
    """Within a minute, though no timer of the monotonic clock ends then."""
    bench = Bench().paired()
    bench.clock.set_time(bench.credentials.load().not_after + 1)
    assert bench.due <= bench.clock.monotonic() + 60
    bench.clock.advance(60)
    bench.work()
    assert bench.state == "ConnectionFailed"


def _change_ca(bench: Bench) -> None:
    bench.server.edit(SECRET, CA.name, lambda obj: obj["data"].update(cacert="eA==", other="eQ=="), CA.namespace)


def _lose_ca_in_an_outage(bench: Bench) -> None:
    bench.connector.outages.begin("connector")
    bench.delete_secret(CA)


def _lose_ca_while_a_renewed_certificate_waits(bench: Bench) -> None:
    bench.connector.state.clock = lambda: bench.clock.time() + 7200
    bench.clock.advance(SYNC_PERIOD)
    bench.delete_secret(CA)


@pytest.mark.parametrize(
    ("harm", "signed"),
    [
        (_change_ca, 1),
        (lambda bench: bench.delete_secret(CA), 2),
        (_lose_ca_in_an_outage, 1),
        (_lose_ca_while_a_renewed_certificate_waits, 2),
    ],
    ids=["changed", "lost", "lost in an outage", "lost while a renewed certificate waits"],
)
def test_the_ca_secret_is_mended(bench: Bench, harm: Callable[[Bench], None], signed: int) -> None:
    """Lost, it is a reason to renew. It is written from the chain in the cluster, and other keys survive."""
    bench.paired()
    wanted = bench.secret(CA)["data"]["cacert"]
    harm(bench)
    bench.run(60)
    assert bench.secret(CA)["data"] == {"cacert": wanted} | ({"other": "eQ=="} if harm is _change_ca else {})
    assert bench.signed == signed


@pytest.mark.parametrize(("announced", "bits"), [("rsa2048", 2048), ("rsa3072", 3072), ("ecdsa", 4096)])
def test_the_key_has_the_size_that_the_connector_announces(bench: Bench, announced: str, bits: int) -> None:
    """4096 bits for what is not understood."""
    sizes = []

    def noted(size: int) -> rsa.RSAPrivateKey:
        sizes.append(size)
        return small_key(size)

    answer = bench.connector.answer

    def announce(body: bytes, headers: Mapping[str, str], credentials: Any) -> HttpAnswer:
        true = answer(body, headers, credentials)
        return replace(true, body=true.body.replace(b"rsa2048", announced.encode()))

    bench.connector.answer = announce  # type: ignore[method-assign]
    bench.reconciler._pairing._new_key = noted
    bench.paired()
    assert sizes[-1] == bits


def test_a_secret_that_is_deleted_while_the_connector_signs_is_written_anew(bench: Bench) -> None:
    def delete(operation: str) -> None:
        if operation == "signCertificateSigningRequest":
            bench.delete_secret()

    bench.connector.intervene = delete
    bench.paired()
    assert bench.registration.runtime_id == RUNTIME


def test_no_certificate_is_requested_after_the_mark_of_a_revocation(bench: Bench) -> None:
    """It may be written while a renewal has begun."""
    bench.paired()
    configuration = bench.configurations.resolve(None)

    def revoke(_operation: str) -> None:
        edit = functools.partial(mark_revoked, configuration=configuration)
        bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, edit)

    bench.connector.intervene = revoke
    bench.refresh()
    bench.run(60)
    assert bench.signed == 1


def test_a_secret_that_a_revocation_deletes_while_the_connector_signs_stays_away(bench: Bench) -> None:
    """Its mark was written before."""
    bench.configure()
    configuration = bench.configurations.resolve(None)

    def revoke(operation: str) -> None:
        if operation == "signCertificateSigningRequest":
            edit = functools.partial(mark_revoked, configuration=configuration)
            bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, edit)
            bench.delete_secret()

    bench.apply(managementInfo={"connectorUrl": "", "directorUrl": ""})
    bench.connector.intervene = revoke
    bench.run(60)
    assert bench.state == "ConnectionFailed"
    assert "revoked by an operator" in bench.error
    assert str(bench.credentials.read().credentials).endswith("does not exist")
    failures = bench.registry.get_sample_value("compass_runtime_agent_pairing_attempts_total", {"result": "error"})
    assert failures == 0, "a revocation is no failure of the pairing"


def test_a_ca_secret_that_a_policy_changes_is_written_with_pauses(bench: Bench) -> None:
    """And the connection is reported, with a warning."""
    update, create = bench.server.update, bench.server.create

    def changed(written: dict[str, Any]) -> dict[str, Any]:
        if written["metadata"]["name"] == CA.name:
            bench.server.edit(SECRET, CA.name, lambda obj: obj["data"].update(cacert="eA=="), CA.namespace)
            return bench.secret(CA)
        return written

    bench.server.update = lambda *a, **k: changed(update(*a, **k))  # type: ignore[method-assign]
    bench.server.create = lambda *a, **k: changed(create(*a, **k))  # type: ignore[method-assign]
    bench.configure()
    bench.run(60)
    bench.assert_connected()
    assert bench.server.writes.total() < 30
    if bench.server.subresource:
        assert "the cluster changes its key cacert" in bench.warning


def test_a_ca_secret_that_is_deleted_as_it_is_written_is_a_reason_to_renew(bench: Bench) -> None:
    """The answer of the write comes after the event of the deletion. That is no policy."""
    bench.paired()
    _change_ca(bench)
    update = bench.server.update
    deletions = [CA]

    def deleted(resource: Resource, obj: dict[str, Any], **more: Any) -> dict[str, Any]:
        written = update(resource, obj, **more)
        if written["metadata"]["name"] == CA.name and deletions:
            bench.server.remove(resource, deletions.pop().name, CA.namespace)
        return written

    bench.server.update = deleted  # type: ignore[method-assign]
    bench.run(60)
    assert not deletions
    assert (bench.signed, bench.warning) == (2, "")
    assert bench.secret(CA)["data"]["cacert"]


def test_a_warning_of_the_ca_secret_ends_when_it_is_right(bench: Bench) -> None:
    """Also if another client has written it."""
    bench.paired()
    right = bench.secret(CA)["data"]
    bench.server.forbidden.add(f"{CA.namespace}/{CA.name}")
    bench.server.edit(SECRET, CA.name, lambda obj: obj["data"].update(cacert="eA=="), CA.namespace)
    bench.settle()
    if bench.server.subresource:
        assert "could not be written" in bench.warning
    bench.server.edit(SECRET, CA.name, lambda obj: obj.update(data=dict(right)), CA.namespace)
    bench.settle()
    assert bench.warning == ""


def test_the_last_contact_is_not_that_of_a_new_object(bench: Bench) -> None:
    """The CompassConnection is deleted while the Connector is down: nothing has accepted the certificate."""
    bench.paired()
    bench.restart()
    bench.connector.outages.begin("connector")
    bench.delete_connection()
    bench.settle()
    assert bench.connection["status"]["connectionStatus"]["lastSuccess"] is None


def test_the_metrics_of_the_certificate_end_with_it(bench: Bench) -> None:
    """An alert must not fire for a certificate that was deleted."""
    bench.paired()

    def not_after() -> float | None:
        return bench.registry.get_sample_value("compass_runtime_agent_certificate_not_after_timestamp_seconds")

    expiry = bench.credentials.load().not_after
    assert not_after() == expiry
    bench.clock.set_time(expiry + 1)
    bench.settle()
    assert not_after() == expiry
    bench.delete_secret()
    bench.settle()
    assert not_after() == 0


# --- what operators do ---


def test_the_secret_wins_over_the_config_map() -> None:
    """An incomplete one is reported, and not completed from the ConfigMap."""
    bench = Bench()
    data = bench.configure()
    bench.put_configuration("Secret", {"TOKEN": data["TOKEN"]})
    bench.settle()
    assert f"Secret {CONFIGURATION}: CONNECTOR_URL is missing, RUNTIME_ID is missing, TENANT is missing" in bench.error
    assert bench.connector.calls == []
    bench.put_configuration("Secret", data)
    bench.settle()
    bench.assert_connected()


def test_another_name_is_ignored_with_an_event(bench: Bench) -> None:
    """Only compass-connection is served."""
    spec = {"managementInfo": {"connectorUrl": "", "directorUrl": ""}}
    bench.server.put(COMPASS_CONNECTION, {"metadata": {"name": "other"}, "spec": spec})
    assert bench.reconciler.reconcile("other").requeue_after is None
    assert bench.recorder.reasons == ["Ignored"]
    assert "status" not in bench.server.get(COMPASS_CONNECTION, "other")


def _forget_registration(bench: Bench) -> None:
    """As the Secret of the Go agent, which has no Runtime id and no URLs."""
    bench.server.edit(SECRET, CLUSTER.name, lambda obj: obj["data"].pop("connection"), namespace=CLUSTER.namespace)
    bench.restart()


def test_takeover_of_what_the_go_agent_left(bench: Bench) -> None:
    """Ids and URLs are read where it keeps them, and no token is used."""
    bench.paired()
    before, calls = bench.registration, len(bench.connector.calls)
    _forget_registration(bench)
    bench.settle()
    bench.assert_connected()
    assert (bench.registration.runtime_id, bench.registration.tenant) == (before.runtime_id, before.tenant)
    assert (bench.registration.connector_url, bench.registration.director_url) == (SECURED_URL, DIRECTOR_URL)
    assert bench.connector.calls[calls:] == ["configuration"]


@pytest.mark.parametrize(
    ("runtime_id", "fault"), [("", "is empty"), ("line\nbreak", "is not one line of printable ASCII")]
)
def test_a_takeover_that_lacks_the_runtime_id_says_so(bench: Bench, runtime_id: str, fault: str) -> None:
    """The message names what to add where; adding it is enough."""
    data = bench.configure()
    bench.settle()
    _forget_registration(bench)
    bench.configure(RUNTIME_ID=runtime_id, TOKEN=data["TOKEN"])
    bench.settle()
    assert bench.state == "ConnectionFailed"
    assert f"RUNTIME_ID {fault}" in bench.error
    assert "are not known" in bench.error
    bench.configure(TOKEN=data["TOKEN"])
    bench.settle()
    bench.assert_connected()


def test_a_deletion_that_overtakes_the_new_token_is_a_reconnect_all_the_same(bench: Bench) -> None:
    """Two watches: the cache may still have the used token when the object is gone. Asked is the API server."""
    bench.paired()
    before = bench.fingerprint()
    bench.server.lagging = True
    fresh = bench.server.get(CONFIG_MAP, CONFIGURATION.name, namespace=CONFIGURATION.namespace)
    fresh["data"]["TOKEN"] = bench.connector.token()
    bench.server.update(CONFIG_MAP, fresh)
    bench.server.lagging = False
    bench.delete_connection()
    bench.settle()
    assert bench.fingerprint() != before
    assert bench.state == "Connected"


@pytest.mark.parametrize("instead", [None, {}], ids=["deleted", "replaced"])
@pytest.mark.parametrize("last", [False, True], ids=["the first write", "the last one"])
def test_a_deletion_under_a_write_is_a_reconnect_all_the_same(
    bench: Bench, last: bool, instead: dict[str, object] | None
) -> None:
    """What was to be written was about the object that is gone: it is not created again, nor another one told of it."""
    bench.paired()
    bench.configure()
    before = bench.fingerprint()
    touched = bench.connection
    touched["spec"]["refreshCredentialsNow"] = True
    touched["status"]["connectionStatus"]["certificateStatus"]["notAfter"] = None
    bench.server.put(COMPASS_CONNECTION, touched)

    write = 2 if last and bench.server.subresource else 1  # on the CRD of the Go agent, one write has all
    writes = 0

    def delete_first(verb: str, kind: str) -> None:
        nonlocal writes
        writes += (verb, kind) == ("update", COMPASS_CONNECTION.kind)
        if writes == write:
            bench.server.before = lambda *_: None
            bench.delete_connection()
            if instead is not None:
                bench.server.put(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": instead})

    bench.server.before = delete_first
    bench.reconciler.reconcile(CONNECTION_NAME)
    renewed = bench.fingerprint()
    bench.settle()
    assert bench.fingerprint() not in (before, renewed)
    assert bench.state == "Connected"


@pytest.mark.parametrize("literal", [False, True], ids=["ConfigMap", "spec.pairing"])
def test_the_cause_of_a_used_token_stays_visible(literal: bool) -> None:
    """The next refusal of the same token must not hide it, nor that a literal token was removed from the object."""
    bench = Bench()
    if literal:
        bench.apply_pairing(token=bench.connector.token())
    else:
        bench.configure()
    body = b'{"data": null, "errors": [{"message": "CSR: Invalid common name provided."}]}'
    bench.connector.intervene = lambda op: HttpAnswer(200, body, "") if op.startswith("sign") else None
    bench.run(10 * 60)
    assert "Invalid common name provided" in bench.error
    assert ("no pairing configuration found" in bench.error) is literal
    place = "CompassConnection spec.pairing" if literal else f"ConfigMap {CONFIGURATION}"
    assert f"put a new one-time token into {place}" in bench.error
    assert bench.connector.calls.count("signCertificateSigningRequest") == 1


def test_a_failed_pairing_that_cannot_be_removed_yet_is_told_all_the_same(bench: Bench) -> None:
    """Its Secret cannot be written for a while."""
    errors = HttpAnswer(200, b'{"errors": [{"message": "internal error"}]}', "", "application/json")

    def fail(called: str) -> HttpAnswer | None:
        if called == "signCertificateSigningRequest":
            bench.server.forbidden.add(f"{CLUSTER.namespace}/{CLUSTER.name}")
            return errors
        return None

    bench.connector.intervene = fail
    bench.configure()
    bench.settle()
    assert "the one-time token has been used" in bench.error
    bench.server.forbidden.clear()
    bench.run(600)
    assert "the one-time token has been used" in bench.error
    assert bench.connector.calls.count("signCertificateSigningRequest") == 1


def test_a_configuration_error_is_told_once(bench: Bench) -> None:
    """One write, one Event, also over a restart; nothing is asked."""
    bench.configure(TOKEN="")
    bench.run(HOUR)
    assert "TOKEN is empty" in bench.error
    assert bench.connector.calls == []
    assert bench.recorder.reasons == ["PairingFailed"]
    bench.restart()
    bench.settle()
    assert bench.recorder.reasons == []


def test_a_finished_revocation_is_not_reported_as_a_working_connection(bench: Bench) -> None:
    """The cache of Secrets may be older than that of CompassConnections: two watches."""
    bench.paired()
    configuration = bench.configurations.resolve(bench.connection)

    def finish(connection: dict[str, Any]) -> None:
        mark_revoked(connection, configuration)
        status.set_failed(
            connection, status.ConnectionState.CONNECTION_FAILED, "revoked by an operator", now=bench.clock.time()
        )

    bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, finish)
    bench.settle()
    assert (bench.state, bench.error) == ("ConnectionFailed", "revoked by an operator")
    assert bench.recorder.reasons == ["Connected"]


def test_suspicion_without_a_configuration_says_what_is_missing() -> None:
    """And the old credentials stay."""
    bench = Bench().paired()
    bench.unconfigure()
    bench.connector.state.revoke_all(RUNTIME)
    bench.run(HOUR)
    assert bench.state == "ConnectionMaintenanceFailed"
    assert f"(requested as Runtime {RUNTIME} of tenant {TENANT})" in bench.error
    assert "neither a ConfigMap" in bench.error
    assert bench.credentials.load()  # type: ignore[truthy-bool]


def test_errors_of_the_api_server_reach_the_queue(bench: Bench) -> None:
    """A status that cannot be written is for the rate limiter; the pairing itself is not repeated."""
    bench.configure()

    def refuse(verb: str, kind: str) -> None:
        if kind == "CompassConnection" and verb != "dry-run":
            raise ServerError("no", status=500)

    bench.server.before = refuse
    for _ in range(2):
        with pytest.raises(ApiError):
            bench.reconciler.reconcile(CONNECTION_NAME)
    bench.server.before = lambda *_: None
    bench.settle()
    assert bench.state == "Connected"
    assert bench.connector.calls.count("signCertificateSigningRequest") == 1
