"""What went wrong between the parts of the connection, each as the rule that must hold, on virtual time."""

import base64
import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from controller.compass.certificates import key_to_pem
from controller.compass.errors import CompassError, Refused, Unavailable
from controller.compass.http import HttpAnswer
from controller.connection.clients import CompassClients
from controller.connection.configuration import LAST_APPLIED
from controller.connection.observations import CompassService, Owner
from controller.connection.status import ConnectionState, timestamp
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME, SECRET
from e2e.cluster import encoded
from informers import Stopped
from informers.errors import NotFound, ServerError
from tests.support.agent_thread import small_key
from tests.support.compass_border import CONNECTOR_URL, RUNTIME, TENANT, common_name
from tests.support.connection_bench import CA, CLUSTER, CONFIGURATION, PAIRING, SYNC_PERIOD, Bench

HOUR, DAY = 3600.0, 86400.0
JSON = "application/json"
OTHER = "https://other.example/connector"
WRONG = "https://wrong.example/connector"


def create_connection(bench: Bench, **spec: Any) -> None:
    """As `kubectl replace --force` does: deleted and created anew at once, with the addresses of the one before."""
    before = bench.connection["spec"].get("managementInfo", {"connectorUrl": "", "directorUrl": ""})
    bench.delete_connection()
    bench.server.create(
        COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {"managementInfo": before, **spec}}
    )


# --- renewal ---


@pytest.mark.parametrize(
    ("validity", "behind"), [(60, 0), (20, 0), (90 * DAY, 80 * DAY)], ids=["a minute", "20 s", "clocks 80 days apart"]
)
def test_certificates_that_are_due_when_they_come_are_renewed_with_pauses(validity: float, behind: float) -> None:
    """Each is used for a half of what it has left; status and one Event say why."""
    bench = Bench(validity=validity)
    bench.connector.state.clock = lambda: bench.clock.time() - behind
    bench.configure()
    bench.run(20)
    assert bench.signed <= (1 if behind else 3)
    certificate = bench.credentials.load()
    left = certificate.not_after - bench.clock.time()
    before = bench.signed
    bench.run(min(left, 2 * HOUR))  # more hours of a virtual clock take real minutes
    assert bench.state == "Connected"
    if not behind:
        assert 0 < bench.signed - before <= 4
    else:
        assert bench.signed == before, "five of the ten days that are left"
        assert "the certificate was already due for renewal when it was received" in bench.warning
        assert "Check the clocks of Compass and of this cluster" in bench.warning
        assert "CertificateShortLived" in bench.recorder.reasons


@pytest.mark.parametrize(
    ("behind", "told"),
    [
        (
            3 * DAY,
            "had already expired when it was received: the clocks of Compass and this cluster differ by 2 d or more",
        ),
        (600, "ends before the one in use, at "),
    ],
)
def test_a_renewed_certificate_of_a_clock_that_went_back_is_not_used(bench: Bench, behind: float, told: str) -> None:
    """The old one stays in use, and the difference is told."""
    bench.paired()
    before = bench.fingerprint()
    bench.connector.state.clock = lambda: bench.clock.time() - behind
    bench.connector.intervene = _accept_any_clock(bench)
    bench.refresh()
    bench.run(300)
    assert bench.fingerprint() == before
    assert bench.state == "ConnectionMaintenanceFailed"
    assert f"the renewed certificate {told}" in bench.error
    assert bench.signed <= 10


def test_a_renewed_certificate_that_expires_while_the_agent_is_down_is_told_so(bench: Bench) -> None:
    """The clocks agree by then, and the difference to now is that of the outage."""
    bench.paired()
    bench.connector.settings.certificate_validity = 11 * HOUR
    bench.connector.state.clock = lambda: bench.clock.time() + 2 * HOUR
    bench.refresh()
    bench.run(60)
    pending = bench.credentials.read().pending
    assert pending is not None
    bench.edit_secret("renewed", valid_until=pending.received + 60)
    bench.connector.state.clock = bench.clock.time
    bench.clock.advance(3 * HOUR)
    bench.restart()
    bench.settle()
    assert "the renewed certificate expired at" in bench.error
    assert "before it was used" in bench.error
    assert "clocks" not in bench.error


def test_a_wrong_address_of_the_connector_is_not_followed(bench: Bench) -> None:
    """Otherwise the correction, which only the Connector announces, would never be seen. Renewals go on."""
    bench.paired()
    before, urls = bench.fingerprint(), bench.registration.connector_url
    answer = bench.connector.answer

    def only_at_the_right_one(body: bytes, headers: Mapping[str, str], credentials: Any) -> HttpAnswer:
        if bench.connector.url == WRONG:
            raise Unavailable("the connection was refused")
        return answer(body, headers, credentials)

    bench.connector.answer = only_at_the_right_one  # type: ignore[method-assign]
    bench.connector.settings.secured_connector_url = WRONG
    bench.run(SYNC_PERIOD)
    assert bench.registration.connector_url == urls
    assert f"the new address {WRONG} cannot be used: the connection was refused" in bench.error
    bench.refresh()
    bench.run(2 * SYNC_PERIOD)
    assert bench.fingerprint() != before
    assert bench.registration.connector_url == urls
    bench.connector.settings.secured_connector_url = urls
    bench.run(2 * SYNC_PERIOD)
    bench.assert_connected()


def test_addresses_that_move_are_followed(bench: Bench) -> None:
    """Written down in Secret and CompassConnection, without another certificate."""
    bench.paired()
    bench.connector.settings.secured_connector_url = OTHER
    bench.connector.settings.director_url = WRONG
    bench.run(SYNC_PERIOD + 1)
    bench.assert_connected()
    assert (bench.registration.connector_url, bench.registration.director_url) == (OTHER, WRONG)
    assert bench.connection["spec"]["managementInfo"] == {"connectorUrl": OTHER, "directorUrl": WRONG}
    assert bench.connector.url == OTHER
    assert bench.signed == 1


@pytest.mark.parametrize("ahead", [0, 2 * HOUR], ids=["valid", "not valid yet"])
@pytest.mark.parametrize("operation", ["configuration", "signCertificateSigningRequest"])
def test_a_secret_that_is_deleted_during_a_renewal_stays_away(bench: Bench, operation: str, ahead: float) -> None:
    """Somebody wants the credentials gone, so the renewed ones are not stored."""
    bench.paired()
    bench.connector.state.clock = lambda: bench.clock.time() + ahead

    def delete(called: str) -> None:
        if called == operation:
            bench.connector.intervene = lambda _: None
            bench.delete_secret()

    bench.connector.intervene = delete
    bench.refresh()
    bench.run(60)
    assert bench.state == "ConnectionFailed"
    assert f"the Secret {CLUSTER} does not exist" in bench.error
    with pytest.raises(NotFound):
        bench.secret()


@pytest.mark.parametrize("damage", [{"chain": "nonsense"}, {"key": "nonsense"}])
def test_a_renewed_certificate_that_is_damaged_is_dropped(bench: Bench, damage: dict[str, str]) -> None:
    """Another one is requested, and the connection is not lost at the end of the one in use."""
    bench.paired()
    before = bench.fingerprint()
    real = bench.connector.state.clock
    bench.connector.state.clock = lambda: bench.clock.time() + 600
    bench.refresh()
    bench.run(60)
    bench.connector.state.clock = real
    bench.edit_secret("renewed", **damage)
    bench.run(HOUR)
    assert bench.fingerprint() != before
    bench.assert_connected()
    assert any("there is a damaged renewed certificate" in text for *_, text in bench.recorder.events)


def test_a_renewed_certificate_that_is_not_valid_yet_waits(bench: Bench) -> None:
    """The Connector's clock is two hours ahead: the old one is used until then, and only one is signed."""
    bench.paired()
    before = bench.fingerprint()
    real = bench.connector.state.clock
    bench.connector.state.clock = lambda: bench.clock.time() + 2 * HOUR
    bench.refresh()
    bench.run(HOUR)
    assert bench.fingerprint() == before
    bench.assert_connected()
    assert bench.signed == 2
    if bench.server.subresource:
        assert "the clocks of Compass and this cluster differ by 2 h or more" in bench.warning
    assert bench.recorder.reasons.count("RenewalWaits") == 1
    bench.connector.state.clock = real
    bench.run(HOUR + 1)
    assert bench.fingerprint() != before
    assert bench.signed == 2
    assert bench.warning == ""
    assert "renewed" not in bench.secret()["data"], "its key is there once"


def _accept_any_clock(bench: Bench) -> Any:
    """A Connector that believes every certificate to be in force, as one whose clock is wrong may."""
    alive = bench.connector._client

    def client(headers: Any, credentials: Any) -> Any:
        return alive(headers, credentials) if credentials is None else common_name(credentials)

    bench.connector._client = client  # type: ignore[method-assign]
    return lambda _: None


def test_a_renewed_certificate_that_the_connector_does_not_accept_is_not_used(bench: Bench) -> None:
    """Tried before it replaces one that works."""
    bench.paired()
    before = bench.fingerprint()
    answered = itertools.count()

    def refuse_the_trial(operation: str) -> HttpAnswer | None:
        if operation == "configuration" and next(answered) % 2 == 1:
            return HttpAnswer(400, b"", "", JSON)
        return None

    bench.connector.intervene = refuse_the_trial
    bench.refresh()
    bench.settle()
    assert bench.fingerprint() == before
    assert "the Connector does not accept the renewed certificate: HTTP 400" in bench.error
    bench.connector.intervene = lambda _: None
    bench.run(SYNC_PERIOD)
    assert bench.fingerprint() != before
    assert bench.state == "Connected"


def delete_ca(bench: Bench) -> None:
    with contextlib.suppress(NotFound):
        bench.delete_secret(CA)


@pytest.mark.parametrize("repeat", [Bench.refresh, delete_ca], ids=["refreshCredentialsNow", "the CA is deleted"])
def test_a_reason_to_renew_that_a_tool_repeats_each_second_has_pauses(repeat: Callable[[Bench], None]) -> None:
    """A certificate in APP_MINIMAL_COMPASS_SYNC_TIME, and the last request is granted, too."""
    bench = Bench(minimal_sync_time=15).paired()
    for _ in range(120):
        repeat(bench)
        bench.run(1)
    assert 120 / 15 - 1 <= bench.signed - 1 <= 120 / 15 + 1
    bench.run(16)
    assert "refreshCredentialsNow" not in bench.connection["spec"]
    assert bench.secret(CA)
    bench.assert_connected()


def test_a_clock_that_was_ahead_while_pairing_does_not_stop_the_renewal() -> None:
    """Set right afterwards, it makes the certificate one that came after its end. No status is one of the future."""
    bench = Bench()
    compass = bench.clock.time()
    bench.connector.state.clock = lambda: compass + bench.clock.monotonic()
    bench.clock.set_time(compass + DAY)
    bench.configure()
    bench.run(1)
    bench.clock.set_time(compass + bench.clock.monotonic())
    bench.delete_connection()
    bench.settle()
    assert bench.connection["status"]["connectionStatus"]["established"] == timestamp(bench.clock.time())
    bench.run(8 * HOUR)
    assert bench.state == "Connected", bench.error
    assert bench.signed == 2


def test_certificates_of_a_second_are_no_loop() -> None:
    """They cannot be kept, since Compass counts in seconds. That is told, and costs a few calls."""
    bench = Bench(validity=1)
    bench.configure()
    bench.run(HOUR)
    assert bench.signed <= 10
    assert bench.state == "ConnectionFailed"
    assert "the client certificate expired" in bench.error


@pytest.mark.parametrize("acquired", [2**62, -(10**15), "yesterday", None])
def test_a_registration_with_a_nonsensical_time_is_used_without_it(acquired: object) -> None:
    """It is told and renewed as always; the reconciler does not fail, and the connection is not lost."""
    bench = Bench().paired()
    before = bench.fingerprint()
    bench.edit_secret("connection", acquired=acquired)
    bench.run(HOUR)
    bench.assert_connected()
    assert bench.fingerprint() == before
    bench.run(7 * HOUR)
    assert bench.fingerprint() != before


# --- Secrets that cannot be written ---


def test_a_ca_secret_that_cannot_be_written_is_in_nobodys_way(bench: Bench) -> None:
    """Pairing and renewal go on; it is told once, tried again, and written when that is possible."""

    bench.server.forbidden.add(f"{CA.namespace}/{CA.name}")
    bench.paired()
    first = bench.fingerprint()
    bench.refresh()
    bench.run(HOUR)
    assert bench.fingerprint() != first
    bench.assert_connected()
    assert bench.signed == 2
    if bench.server.subresource:
        assert f"could not be written to the Secret {CA}: secrets is forbidden" in bench.warning
        connected = bench.condition("Connected")
        assert connected is not None
        assert (connected["status"], connected["message"]) == ("True", bench.warning)
    assert bench.recorder.reasons.count("GatewaySecretFailed") == 1
    bench.server.forbidden.clear()
    bench.run(SYNC_PERIOD * 1.3)
    assert bench.secret(CA)["data"]["cacert"]
    assert bench.warning == ""
    bench.delete_secret(CA)
    bench.server.forbidden.add(f"{CA.namespace}/{CA.name}")
    bench.run(HOUR)
    bench.assert_connected()
    assert bench.signed == 2, "a certificate whose CA could not be stored is not requested"


@pytest.mark.parametrize("immutable", [True, False])
def test_an_immutable_client_secret_is_told_before_anything_is_spent(immutable: bool) -> None:
    """Neither a token nor a certificate."""
    bench = Bench()
    metadata = {"name": CLUSTER.name, "namespace": CLUSTER.namespace}
    bench.server.put(SECRET, {"metadata": metadata, "immutable": immutable, "data": {"mine": "eA=="}})
    bench.configure()
    bench.run(60)
    if not immutable:
        assert bench.state == "Connected"
        return
    assert bench.connector.calls == []
    assert "Failed to preserve certificate: " in bench.error
    assert "immutable" in bench.error
    bench.put_secret({})
    bench.run(SYNC_PERIOD)
    assert bench.state == "Connected"
    bench.server.edit(SECRET, CLUSTER.name, lambda o: o.update(immutable=True), CLUSTER.namespace)
    calls = len(bench.connector.calls)
    bench.refresh()
    bench.run(60)
    assert bench.signed == 1
    assert "signCertificateSigningRequest" not in bench.connector.calls[calls:]
    assert "could not be renewed" in bench.error
    assert "immutable" in bench.error


# --- credentials that work win ---


def test_credentials_that_come_back_are_used_whatever_token_is_configured(bench: Bench) -> None:
    """The Secret deleted and restored while the ConfigMap holds a dead token."""
    bench.paired()
    kept = bench.secret()
    bench.configure(TOKEN="dead")
    bench.delete_secret()
    bench.run(60)
    assert bench.state == "ConnectionFailed"
    bench.put_secret(kept["data"])
    bench.settle()
    bench.assert_connected()
    calls = len(bench.connector.calls)
    bench.run(HOUR)
    assert bench.state == "Connected"
    assert len(bench.connector.calls) - calls <= HOUR / SYNC_PERIOD + 1, "the dead token is left alone"
    assert "ConnectionRestored" in bench.recorder.reasons


@pytest.mark.parametrize("told", ["HTTP 400", "TENANT is empty"])
def test_a_reconnect_that_fails_leaves_the_credentials_in_use_in_the_end(bench: Bench, told: str) -> None:
    """Reported while pairing may still succeed; then the working credentials are used, and the Event remains."""
    bench.paired()
    before = bench.fingerprint()
    bench.configure(TOKEN="dead") if told == "HTTP 400" else bench.configure(TENANT="")
    bench.delete_connection()
    bench.run(60)
    assert bench.state == "ConnectionMaintenanceFailed"
    assert told in bench.error
    assert "the stored credentials are used until it succeeds" in bench.error
    bench.run(3 * SYNC_PERIOD)
    bench.assert_connected()
    assert bench.fingerprint() == before
    assert bench.recorder.reasons.count("PairingFailed") == 1
    bench.configure()
    bench.run(HOUR)
    assert bench.fingerprint() == before, "from now on, the configuration is ignored as ever"


# --- spec.pairing ---


@pytest.mark.parametrize("token", ["dead", "used", "works later"])
def test_a_literal_token_is_taken_out_whatever_becomes_of_it(token: str) -> None:
    """At once, before it is known whether it works; one that Compass cannot take now is not lost."""
    bench = Bench()
    used = bench.connector.token()
    bench.apply_pairing(token=used)
    bench.settle()
    before, calls = bench.fingerprint(), len(bench.connector.calls)
    value = {"dead": "dead", "used": used}.get(token) or bench.connector.token()
    if token == "works later":
        bench.connector.outages.begin("database", delay=0.0)
    create_connection(bench, pairing={**PAIRING, "token": value})
    bench.settle()
    assert "token" not in bench.connection["spec"]["pairing"]
    assert value not in str(bench.connection)
    if token == "used":
        assert len(bench.connector.calls) == calls, "it is known to be used"
    if token == "works later":
        bench.restart()
        bench.run(30)
        bench.connector.outages.clear()
        bench.run(SYNC_PERIOD)
        assert bench.fingerprint() != before
    else:
        bench.run(3 * SYNC_PERIOD)
        assert bench.fingerprint() == before
    assert bench.state == "Connected"


def test_a_literal_token_that_was_given_up_is_taken_out_when_it_comes_again() -> None:
    """A GitOps tool applies it for ever. It neither stays readable nor hides the Secret with a good one."""
    bench = Bench()
    bench.settle()

    bench.apply_pairing(token="dead" * 10)
    bench.run(1.2 * HOUR)
    calls = len(bench.connector.calls)
    bench.run(HOUR)
    for _ in range(10):
        bench.apply_pairing(token="dead" * 10)
        bench.run(1)
        assert "token" not in bench.connection["spec"]["pairing"]
    assert len(bench.connector.calls) == calls
    assert "put a new one-time token into CompassConnection spec.pairing" in bench.error
    bench.configure(kind="Secret")
    bench.run(SYNC_PERIOD)
    assert bench.state == "Connected"


def test_a_dead_literal_token_that_is_applied_again_and_again_changes_no_state() -> None:
    """The credentials work throughout. The warning and one Event name the token that fails, and what to do."""
    bench = Bench().paired()
    before, calls = bench.fingerprint(), len(bench.connector.calls)
    bench.recorder.events.clear()
    for _ in range(int(HOUR) // 120):
        bench.apply_pairing(token="dead" * 10)
        for seconds in (1, 19):
            bench.run(seconds)
            bench.assert_connected()
            assert "token" not in bench.connection["spec"]["pairing"]
        assert "the pairing with the token from CompassConnection spec.pairing failed" in bench.warning
        assert "put a new one-time token into CompassConnection spec.pairing" in bench.warning
    assert bench.recorder.reasons == ["PairingFailed"]
    assert len(bench.connector.calls) - calls <= HOUR / SYNC_PERIOD + 12, "it is given up after some tries"
    assert bench.fingerprint() == before
    bench.run(HOUR + 60)
    assert bench.warning == "", "nobody applies it any more"
    bench.apply_pairing(token=bench.connector.token())
    bench.settle()
    assert bench.fingerprint() != before
    assert (bench.state, bench.error, bench.warning) == ("Connected", "", "")


@pytest.mark.parametrize("created", [False, True], ids=["applied", "created again"])
def test_a_literal_token_beside_incomplete_data_is_told_and_changes_no_state(created: bool) -> None:
    """The warning names what is missing as long as the token stands there. Completed, it is used."""
    bench = Bench().paired()
    before, token = bench.fingerprint(), bench.connector.token()
    incomplete = {key: value for key, value in PAIRING.items() if key != "tenant"} | {"token": token}
    if created:
        bench.delete_connection()
    bench.apply(pairing=incomplete)
    for seconds in (60.0, 2 * SYNC_PERIOD, HOUR):
        bench.run(seconds)
        told = bench.error if created and seconds == 60 else bench.warning
        assert "CompassConnection spec.pairing: tenant is missing" in told
        assert (bench.state == "Connected") is (told != bench.error)
    assert (bench.error, bench.fingerprint()) == ("", before)
    assert bench.recorder.reasons[-1] == "PairingFailed"
    bench.restart()
    bench.settle()
    assert "CompassConnection spec.pairing: tenant is missing" in bench.warning
    assert bench.connection["spec"]["pairing"]["token"] == token, "it may still be needed"
    bench.apply_pairing(token=bench.connector.token())
    bench.settle()
    assert bench.fingerprint() != before
    assert bench.warning == ""
    assert bench.connection["spec"]["pairing"] == PAIRING


def test_a_token_that_was_given_up_at_once_is_taken_out_of_a_new_object() -> None:
    """It hides the other places, and is readable, while the reconnect is still wanted."""
    bench = Bench().paired()
    token = bench.connector.token()
    errors = HttpAnswer(200, b'{"errors": [{"message": "internal error"}]}', "", JSON)
    bench.connector.intervene = lambda called: errors if called.startswith("sign") else None
    bench.delete_connection()
    for _ in range(3):
        bench.apply_pairing(token=token)
        bench.settle()
        assert bench.connection["spec"]["pairing"] == PAIRING
    assert "the one-time token has been used" in bench.warning


@pytest.mark.parametrize("minutes", [2, 20])
@pytest.mark.parametrize("how", ["spec.pairing", "deletion"])
def test_a_token_is_not_given_up_for_an_outage_however_long(how: str, minutes: int) -> None:
    """It is refused as the certificate is, so that says nothing of the token. It is tried again when that is over."""
    bench = Bench().paired()
    bench.health.synchronised(ConnectionState.SYNCHRONIZED)
    before = bench.fingerprint()
    bench.connector.outages.begin("database", delay=0.0)
    bench.suspect()
    if how == "spec.pairing":
        bench.apply_pairing(token=bench.connector.token())
    else:
        bench.configure()
        bench.delete_connection()
    bench.run(minutes * 60)
    assert bench.fingerprint() == before
    bench.connector.outages.clear()
    bench.health.accepted(CompassService.DIRECTOR)
    bench.run(1.5 * SYNC_PERIOD)
    assert bench.fingerprint() != before
    bench.assert_connected()


# --- a configured token beside refused credentials ---


@pytest.mark.parametrize("step", [0, -DAY, DAY], ids=["", "clock set back", "clock set forward"])
def test_a_token_that_is_not_newer_outlives_short_refusals(step: float) -> None:
    """It is tried after the tolerance only, by any clock."""
    bench = Bench(validity=90 * DAY)
    compass = bench.clock.time()
    bench.connector.state.clock = lambda: compass + bench.clock.monotonic()
    bench.apply_pairing(token=bench.connector.token())
    bench.configure()
    bench.settle()
    before = bench.fingerprint()
    bench.suspect()
    bench.clock.set_time(bench.clock.time() + step)
    bench.run(2 * SYNC_PERIOD - 1)
    assert bench.signed == 1
    assert bench.state == "ConnectionMaintenanceFailed"
    assert "the configured one-time token is tried if the refusals continue" in bench.error
    bench.run(2)
    assert bench.fingerprint() == before, "the Connector accepts the certificate"
    bench.suspect()
    bench.settle()
    assert bench.fingerprint() != before, "the Director has refused it again after that"
    assert bench.state == "Connected"


def test_a_refusal_of_the_certificate_before_is_no_failure(bench: Bench) -> None:
    """It was sent before the new pairing, and arrives after it."""
    bench.paired()
    old = bench.fingerprint()
    bench.configure()
    bench.delete_connection()
    bench.settle()
    assert bench.fingerprint() != old
    bench.recorder.events.clear()
    bench.health.refused(CompassService.DIRECTOR, old, Refused("insufficient scopes", status=200, code=23))
    bench.run(10)
    bench.assert_connected()
    assert bench.recorder.events == []


# --- a token is called spent only when it is ---

NOT_USED: dict[str, tuple[HttpAnswer | CompassError, tuple[str, ...]]] = {
    "of another server": (
        HttpAnswer(200, b"<html>sign in</html>", "", "text/html"),
        ("check the URL", CONNECTOR_URL, "the one-time token was not used and is tried again"),
    ),
    "nothing": (HttpAnswer(502, b"", ""), ()),
    "too many": (HttpAnswer(429, b"local_rate_limited", "", "text/plain"), ()),
    "not reached": (Unavailable("the connection was refused"), ("the connection was refused",)),
    "the address for calls with a certificate": (
        Refused("the server does not accept the client certificate (TLS alert: certificate required)"),
        (
            "demands a client certificate, so it is not the one for a one-time token: correct CONNECTOR_URL",
            f"in ConfigMap {CONFIGURATION}",
            "the one-time token was not used",
        ),
    ),
}


@pytest.mark.parametrize("operation", ["configuration", "signCertificateSigningRequest"])
@pytest.mark.parametrize(("answer", "told"), NOT_USED.values(), ids=NOT_USED)
def test_an_answer_that_is_not_the_connectors_costs_nothing(
    operation: str, answer: HttpAnswer | CompassError, told: tuple[str, ...]
) -> None:
    """The same pairing goes on when the Connector answers; what was answered is told, and what to check."""

    def intervene(called: str) -> HttpAnswer | None:
        if called == operation and isinstance(answer, CompassError):
            raise answer
        return answer if called == operation and isinstance(answer, HttpAnswer) else None

    bench = Bench()
    bench.configure()
    bench.connector.intervene = intervene
    bench.run(100)
    assert bench.state == "ConnectionFailed"
    assert isinstance(answer, CompassError) or f"HTTP {answer.status}" in bench.error
    assert all(text in bench.error for text in told), bench.error
    assert "put a new one-time token" not in bench.error or not told
    bench.connector.intervene = lambda _: None
    bench.run(SYNC_PERIOD)
    assert bench.state == "Connected"
    assert bench.connector.calls[-1] == "signCertificateSigningRequest"
    assert bench.signed == 1


@pytest.mark.parametrize("url", ["", "http://director.example"])
def test_a_token_whose_answer_has_no_usable_urls_is_used_up(url: str) -> None:
    """The Connector has accepted it. So it is not sent again, and the error says which URL and what to do."""
    bench = Bench()
    bench.connector.settings.director_url = url
    bench.configure()
    bench.run(600)
    assert bench.connector.calls == ["configuration"]
    assert "directorURL" in bench.error
    assert "the one-time token has been used; put a new one-time token into" in bench.error


@pytest.mark.parametrize("restarted", [False, True])
def test_a_pairing_whose_second_token_has_expired_is_not_tried_for_ever(restarted: bool) -> None:
    """Until then a refusal may be an outage. After that, only another configuration helps, and begins at once."""
    bench = Bench()
    bench.configure()
    bench.connector.intervene = lambda called: HttpAnswer(400, b"", "", JSON) if called.startswith("sign") else None
    bench.run(100)
    assert bench.credentials.read().pairing is not None
    if restarted:
        bench.restart()
    bench.run(400)
    assert bench.state == "ConnectionFailed"
    assert "the answer of the Connector was lost and the one-time token is used" in bench.error
    assert "put a new one-time token into ConfigMap" in bench.error
    calls, writes = len(bench.connector.calls), bench.server.writes.total()
    bench.run(HOUR)
    assert len(bench.connector.calls) == calls
    assert bench.server.writes.total() == writes
    bench.connector.intervene = lambda _: None
    bench.configure()
    bench.settle()
    assert bench.state == "Connected"


def _not_signing(called: str) -> HttpAnswer | None:
    return HttpAnswer(503, b"", "") if called.startswith("sign") else None


@pytest.mark.parametrize("edit", [{"RUNTIME_ID": "another"}, {"TENANT": "another"}, {"CONNECTOR_URL": OTHER}], ids=str)
@pytest.mark.parametrize("stopped", ["before signing", "restarted", "notes not stored", "certificate not stored"])
def test_an_edit_while_a_pairing_is_under_way_costs_no_token(bench: Bench, stopped: str, edit: dict[str, str]) -> None:
    """The token is spent by then. The pairing goes on with what it has, for what is configured by now."""
    data = bench.configure()

    def refuse(verb: str, kind: str) -> None:
        step = "configuration" if stopped == "notes not stored" else "signCertificateSigningRequest"
        if kind == "Secret" and step in bench.connector.calls:
            raise ServerError("etcd is away", status=500)

    if stopped in ("before signing", "restarted"):
        bench.connector.intervene = _not_signing
    else:
        bench.server.before = refuse
    bench.settle()
    assert bench.state == "ConnectionFailed"
    if stopped.endswith("not stored"):
        assert bench.error == "Failed to preserve certificate: etcd is away (500)"
    bench.configure(**data | edit)
    if stopped == "restarted":
        bench.restart()
    bench.settle()
    bench.connector.intervene = lambda _: None
    bench.server.before = lambda *_: None
    bench.run(SYNC_PERIOD)
    bench.assert_connected()
    wanted = data | edit
    assert (bench.registration.runtime_id, bench.registration.tenant) == (wanted["RUNTIME_ID"], wanted["TENANT"])
    if stopped != "certificate not stored":
        assert bench.connector.url == wanted["CONNECTOR_URL"]
    assert bench.signed == 1
    token_calls = bench.connector.calls[: bench.connector.calls.index("signCertificateSigningRequest")]
    assert token_calls == ["configuration"]


def test_ids_that_are_edited_with_a_literal_token_that_waits_are_used() -> None:
    """Taken out of the CompassConnection, not taken by Compass yet, and put there again with another Runtime."""
    bench = Bench()
    bench.connector.outages.begin("oathkeeper")
    token = bench.connector.token()
    for runtime in (RUNTIME, "another"):
        bench.apply_pairing(runtimeId=runtime, token=token)
        bench.run(5)
        assert "token" not in bench.connection["spec"]["pairing"]
    bench.connector.outages.clear()
    bench.run(SYNC_PERIOD)
    bench.assert_connected()
    assert bench.registration.runtime_id == "another"
    assert bench.signed == 1


@pytest.mark.parametrize("cause", ["refused by the Director alone", "another's certificate"])
@pytest.mark.parametrize(
    ("place", "corrected"),
    [
        ("ConfigMap", {"RUNTIME_ID": "another"}),
        ("ConfigMap", {"RUNTIME_ID": "another", "TENANT": "another"}),
        ("CompassConnection", {"runtimeId": "another"}),
    ],
)
def test_ids_that_are_corrected_after_the_pairing_need_no_other_token(
    cause: str, place: str, corrected: dict[str, str]
) -> None:
    """The certificate is used with the new ones, if the Connector accepts it. The used token may be gone by then, and
    another place may have another one.
    """
    bench = Bench()
    data = bench.configure()
    if place == "CompassConnection":
        bench.apply_pairing(token=bench.connector.token())
    bench.settle()
    before, calls = bench.fingerprint(), len(bench.connector.calls)
    if cause == "another's certificate":
        bench.health.identified(Owner(before, RUNTIME, "another", settled=False))
        bench.settle()
        assert (bench.state, bench.recorder.reasons[-1]) == ("ConnectionFailed", "WrongRuntime")
        key = f"RUNTIME_ID in ConfigMap {CONFIGURATION}"
        if place == "CompassConnection":
            key = "runtimeId in CompassConnection spec.pairing"
        for text in ("belongs to Runtime another", f"{key} is {RUNTIME}", f"correct {key}"):
            assert text in bench.error
    bench.configure(**data | corrected) if place == "ConfigMap" else bench.apply_pairing(**corrected)
    bench.run(60)
    if cause != "another's certificate":
        bench.suspect()
        bench.settle()
        assert bench.connector.calls[calls:] == ["configuration"], "asked whether it accepts the certificate"
    assert bench.registration.runtime_id == "another"
    assert bench.registration.tenant == corrected.get("TENANT", TENANT)
    bench.health.accepted(CompassService.DIRECTOR)
    bench.settle()
    assert (bench.state, bench.error, bench.fingerprint(), bench.signed) == ("Connected", "", before, 1)
    assert bench.connector.calls[calls:] in ([], ["configuration"]), "no token is tried"


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
@pytest.mark.parametrize(
    "edit",
    [{}, {"RUNTIME_ID": "another"}, {"CONNECTOR_URL": OTHER}, {"CONNECTOR_URL": OTHER, "TENANT": "another"}],
    ids=str,
)
def test_a_used_token_is_known_whatever_is_configured_beside_it(edit: dict[str, str], kind: str) -> None:
    """It is not tried again: not for a new object, not for refused and not for expired credentials."""
    bench = Bench()
    data = bench.configure()
    bench.settle()
    before = bench.fingerprint()
    bench.configure(kind=kind, **data | edit)
    bench.delete_connection()
    bench.run(60)
    assert (bench.state, bench.error, bench.recorder.reasons.count("PairingFailed")) == ("Connected", "", 0)
    bench.connector.state.revoke_all(RUNTIME)
    bench.suspect()
    bench.run(3 * SYNC_PERIOD)
    assert f"to reconnect, configure a new one-time token in {kind} {CONFIGURATION}" in bench.error
    bench.clock.set_time(bench.credentials.load().not_after)
    bench.run(60)
    assert "the configured one-time token has already been used" in bench.error
    bench.configure(kind=kind, **edit)
    bench.run(60)
    assert bench.fingerprint() != before
    assert bench.signed == 2


# --- what people write into our own Secret ---


def test_damaged_credentials_are_told_and_a_new_token_mends_them() -> None:
    """Emptied, with another key, garbage: ConnectionFailed with the key of the Secret."""
    bench = Bench().paired()
    first = bench.secret()["data"]["crt"]
    another = encoded(key_to_pem(small_key()).decode())
    for text, values in (
        (f"the Secret {CLUSTER} holds no credentials", {"key": None, "crt": None, "crtChain": None}),
        ("does not belong to the certificate", {"key": another}),
        (f"Secret {CLUSTER}: key key is missing or empty", {"key": ""}),
        ("key crtChain is not base64 of UTF-8 text", {"crtChain": base64.b64encode(b"\xff").decode()}),
        ("crtChain does not begin with the certificate in crt", {"crt": first}),
    ):
        data = {key: value for key, value in {**bench.secret()["data"], **values}.items() if value is not None}
        bench.server.put(SECRET, {**bench.secret(), "data": data})
        bench.settle()
        assert bench.state == "ConnectionFailed"
        assert text in bench.error
        assert "put a new one-time token into ConfigMap" in bench.error
        bench.configure()
        bench.settle()
        bench.assert_connected()


BAD_VALUES = ("line\nbreak", "nul\x00", "\x1b[31m", "ü", " ", "", "x" * 5000, None)
BAD_URLS = ("nonsense", "http://plain.example", "https://user@host.example", "https://host.example\n/", "", 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in ("runtime_id", "tenant") for value in BAD_VALUES]
    + [(field, value) for field in ("connector_url", "director_url") for value in BAD_URLS],
)
def test_a_damaged_registration_is_read_anew_where_else_it_is(field: str, value: object) -> None:
    """From the CompassConnection and the configuration. No token is spent, and nothing is lost."""
    bench = Bench().paired()
    before, calls = bench.credentials.load().registration, len(bench.connector.calls)
    bench.edit_secret("connection", **{field: value})
    bench.run(10)
    bench.assert_connected()
    assert bench.credentials.load().registration == before
    assert bench.connector.calls[calls:] in ([], ["configuration"])


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("connector_url", "nonsense", "must be a URL that starts with https://"),
        ("director_url", "", "is empty"),
        ("runtime_id", "line\nbreak", "is not one line of printable ASCII"),
        ("tenant", "\x1b[31m", "is not one line of printable ASCII"),
    ],
)
def test_a_damaged_registration_that_is_nowhere_else_is_told_and_a_new_token_mends_it(
    bench: Bench, field: str, value: str, fault: str
) -> None:
    """The error names the Secret, its key, the field, and the cure. The token that is used is not tried."""
    data = bench.configure()
    bench.settle()
    calls = len(bench.connector.calls)
    empty = {"connectorUrl": "", "directorUrl": ""}
    bench.apply(managementInfo=empty)
    bench.edit_secret("connection", **{field: value})
    if field in ("runtime_id", "tenant"):
        bench.configure(**data | {"RUNTIME_ID": "line\nbreak", "TENANT": "line\nbreak"})
    bench.run(60)
    assert bench.state == "ConnectionFailed"
    assert f"Secret {CLUSTER}: in the key connection, {field} {fault}" in bench.error
    assert len(bench.connector.calls) == calls
    if field.endswith("_url"):
        assert "put a new one-time token into ConfigMap" in bench.error
    else:
        assert "RUNTIME_ID is not one line of printable ASCII" in bench.error
    bench.configure()
    bench.settle()
    bench.assert_connected()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("subject", "nonsense", "subject: a part of the distinguished name has no '='"),
        ("subject", "", "subject: a part of the distinguished name has no '='"),
        ("subject", "CN=" + "x" * 200, "subject: cannot be put into a signing request"),
        ("token", "line\nbreak", "token is not one line of printable ASCII"),
        ("token", "", "token is empty"),
        ("key", "garbage", "key: the private key is not a readable"),
        ("key", key_to_pem(ec.generate_private_key(ec.SECP256R1())).decode(), "key is not an RSA key"),  # type: ignore[arg-type]
        ("connector_url", "nonsense", "connector_url must be a URL that starts with https://"),
        ("director_url", "", "director_url is empty"),
    ],
)
def test_damaged_notes_of_a_pairing_are_told_and_end_it(field: str, value: str, told: str, restarted: bool) -> None:
    """Told is what is wrong with them and where they are. Nothing is sent, so nothing is said to be used up by that."""
    bench = Bench()
    bench.configure()
    bench.connector.intervene = _not_signing
    bench.settle()
    calls = len(bench.connector.calls)
    bench.connector.intervene = lambda _: None
    bench.edit_secret("pairing", **{field: value})
    if restarted:
        bench.restart()
    bench.run(10)
    assert bench.state == "ConnectionFailed"
    assert f"the stored state of the pairing was changed (Secret {CLUSTER}, key pairing): {told}" in bench.error
    assert "the pairing cannot continue; put a new one-time token into ConfigMap" in bench.error
    assert len(bench.connector.calls) == calls
    assert bench.credentials.read().pairing is None
    bench.run(HOUR)
    assert len(bench.connector.calls) == calls
    bench.configure()
    bench.settle()
    bench.assert_connected()


@pytest.mark.parametrize("field", ["runtime_id", "tenant", "token_url"])
def test_damaged_notes_that_are_configured_too_are_put_right(bench: Bench, field: str) -> None:
    """The pairing goes on with what is configured."""
    data = bench.configure()
    bench.connector.intervene = _not_signing
    bench.settle()
    bench.edit_secret("pairing", **{field: "line\nbreak"})
    bench.restart()
    bench.connector.intervene = lambda _: None
    bench.settle()
    bench.assert_connected()
    assert (bench.registration.runtime_id, bench.registration.tenant) == (data["RUNTIME_ID"], data["TENANT"])


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
@pytest.mark.parametrize("key", ["RUNTIME_ID", "TENANT", "TOKEN", "CONNECTOR_URL"])
@pytest.mark.parametrize("inside", ["\n", "\x1b", "\u2028"])
def test_a_line_break_inside_a_configured_value_is_told_with_key_and_place(kind: str, key: str, inside: str) -> None:
    """Not one character of it is sent or shown. At an end of the value it is left out, as `echo` writes one."""
    bench = Bench()
    bench.configure(kind=kind, **{key: f"https://some{inside}thing"})
    bench.run(60)
    assert bench.state == "ConnectionFailed"
    assert f"{kind} {CONFIGURATION}: {key} is not one line of printable ASCII" in bench.error
    assert bench.connector.calls == []
    data = bench.configure(kind=kind)
    bench.configure(kind=kind, **{key: value + "\n" for key, value in data.items()})
    bench.settle()
    assert bench.state == "Connected"


@pytest.mark.parametrize("value", ["/w==", "no base64"], ids=["not UTF-8", "not base64"])
def test_a_configured_value_that_is_no_text_is_told_with_its_key(value: str) -> None:
    bench = Bench()
    bench.configure(kind="Secret")
    bench.put_secret({**bench.secret(CONFIGURATION)["data"], "TENANT": value}, CONFIGURATION)
    bench.settle()
    assert f"Secret {CONFIGURATION}: TENANT is not base64 of UTF-8 text" in bench.error
    assert bench.connector.calls == []


# --- what is told ---


def test_ids_that_change_are_no_news(bench: Bench) -> None:
    """Fifty failures with a new errorID each: one Event, and the status is written once."""
    bench.paired()
    ids = itertools.count()

    def fail(_operation: str) -> HttpAnswer:
        text = f"Internal Server Error [errorID=6f0c1a4e-0000-4000-8000-{next(ids):012d}, reason: input: no]"
        body = f'{{"errors": [{{"message": "{text}", "extensions": {{"error_code": 10}}}}], "data": null}}'
        return HttpAnswer(200, body.encode(), "", JSON)

    bench.run(SYNC_PERIOD - 1)
    bench.recorder.events.clear()
    bench.connector.intervene = fail
    bench.run(10)
    writes = bench.server.writes.total()
    bench.run(50 * SYNC_PERIOD)
    assert next(ids) > 40
    assert bench.server.writes.total() == writes
    assert bench.recorder.reasons == ["ConnectionMaintenanceFailed"]


def test_the_error_of_a_failing_pairing_has_the_id_of_its_first_call(bench: Bench) -> None:
    """Those of later calls are no news: the status is written once."""
    bench.configure(TOKEN="refused")
    bench.settle()
    before, calls, writes = bench.error, len(bench.connector.calls), bench.server.writes.total()
    assert "x-request-id: " in before
    bench.run(10 * SYNC_PERIOD)
    assert len(bench.connector.calls) > calls + 5
    assert (bench.error, bench.server.writes.total()) == (before, writes)


@pytest.mark.parametrize(
    "state",
    [ConnectionState.SYNCHRONIZED, ConnectionState.RESOURCE_APPLICATION_FAILED, ConnectionState.METADATA_UPDATE_FAILED],
)
def test_after_an_outage_of_the_connector_alone_the_state_of_the_sync_is_back_at_once(
    bench: Bench, state: ConnectionState
) -> None:
    """The Director answered throughout, so nobody waits for its first answer."""
    bench.paired()
    bench.health.synchronised(state)
    bench.connector.outages.begin("connector")
    bench.run(SYNC_PERIOD + 5)
    assert bench.state == "ConnectionMaintenanceFailed"
    bench.connector.outages.clear()
    bench.run(SYNC_PERIOD * 1.3)
    assert bench.state == state


def test_a_used_literal_token_with_other_ids_is_taken_out_and_not_tried() -> None:
    """It stands in a repository, where somebody has edited the ids beside it. They are used when the old ones fail."""
    bench = Bench()
    token = bench.connector.token()
    bench.apply_pairing(token=token)
    bench.settle()
    before, calls = bench.fingerprint(), len(bench.connector.calls)
    for _ in range(10):
        bench.apply_pairing(token=token, tenant="another")
        bench.run(10)
        assert "token" not in bench.connection["spec"]["pairing"]
        assert (bench.state, bench.error, bench.fingerprint()) == ("Connected", "", before)
    assert len(bench.connector.calls) == calls
    bench.suspect()
    bench.settle()
    assert bench.registration.tenant == "another"


# --- what stays readable ---


def test_the_copy_of_kubectl_apply_stays_if_it_has_no_one_time_token(bench: Bench) -> None:
    """For example with a label of that name."""
    applied = orjson.dumps({"metadata": {"labels": {"token": "x"}}, "spec": {}}).decode()
    bench.paired()
    bench.server.edit(
        COMPASS_CONNECTION, CONNECTION_NAME, lambda obj: obj["metadata"].update(annotations={LAST_APPLIED: applied})
    )
    bench.run(SYNC_PERIOD)
    assert bench.connection["metadata"]["annotations"][LAST_APPLIED] == applied


DEEP = (400, 900, 1100, 100_000)


@pytest.mark.parametrize("form", ["as kubectl writes it", "broken", *(f"{levels} levels" for levels in DEEP)])
def test_a_literal_token_goes_from_the_copy_of_kubectl_apply_too(form: str) -> None:
    """Who may read the CompassConnection could use it there, and the pairing would be lost."""
    bench = Bench()
    token = bench.connector.token()
    pairing = {**PAIRING, "token": token}
    manifest = {"kind": "CompassConnection", "metadata": {"name": CONNECTION_NAME}, "spec": {"pairing": pairing}}
    applied = orjson.dumps(manifest).decode() + ("\n" if form != "broken" else "}")
    if form.endswith("levels"):
        levels = int(form.split(maxsplit=1)[0])
        applied = f'{{"x": {"[" * levels}{"]" * levels}, {applied[1:]}'
    metadata = {"name": CONNECTION_NAME, "annotations": {LAST_APPLIED: applied, "other": "stays"}}
    bench.server.put(COMPASS_CONNECTION, {"metadata": metadata, "spec": {"pairing": pairing}})
    bench.connector.outages.begin("oathkeeper", delay=0.0)
    bench.settle()
    assert token not in str(bench.connection), "at once, whatever becomes of the pairing"
    annotations = bench.connection["metadata"]["annotations"]
    assert annotations["other"] == "stays"
    if form == "as kubectl writes it":
        assert orjson.loads(annotations[LAST_APPLIED])["spec"]["pairing"] == PAIRING
    bench.connector.outages.clear()
    bench.run(SYNC_PERIOD)
    assert bench.state == "Connected"
    bench.server.edit(
        COMPASS_CONNECTION, CONNECTION_NAME, lambda obj: obj["metadata"]["annotations"].update({LAST_APPLIED: applied})
    )
    bench.settle()
    assert token not in str(bench.connection), "also where only the copy has it"


def test_writes_that_do_not_hold_are_not_repeated_without_a_pause(bench: Bench) -> None:
    """An admission policy removes the key from the Secret each time. The status says which object and why."""
    bench.paired()
    admitted = bench.server._admitted

    def without_the_key(resource: Any, obj: dict[str, Any]) -> dict[str, Any]:
        if resource is SECRET and obj["metadata"]["name"] == CLUSTER.name:
            obj["data"].pop("connection", None)
        return admitted(resource, obj)

    bench.server._admitted = without_the_key  # type: ignore[method-assign]
    bench.server.edit(SECRET, CLUSTER.name, lambda obj: obj["data"].pop("connection"), CLUSTER.namespace)
    bench.server.writes.clear()
    bench.run(60)
    assert bench.server.writes["Secret"] <= 60
    assert bench.state == "ConnectionMaintenanceFailed"
    assert f"undo the writes of the Secret {CLUSTER}" in bench.error


def test_a_renewed_certificate_is_kept_over_a_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stops before it has used the certificate leaves it to the next one, which requests no other."""

    def stopped(*_: object) -> NoReturn:
        raise Stopped

    bench.paired()
    before = bench.fingerprint()
    with monkeypatch.context() as patched:
        patched.setattr(CompassClients, "temporary_connector", stopped)
        bench.refresh()
        with pytest.raises(Stopped):
            bench.settle()
    bench.restart()
    bench.settle()
    assert bench.fingerprint() != before
    assert bench.signed == 2
