"""The command revoke: each stored certificate is revoked once, and only the Connector's confirmation counts."""

import io
from collections.abc import Mapping
from typing import Any

import pytest

import controller.commands.revoke
from controller.commands.revoke import DONE, FAILED, revoke
from controller.compass.errors import Unavailable
from controller.compass.http import HttpAnswer
from controller.connection.configuration import REVOKED, mark_revoked
from controller.resources import COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.settings import ObjectName, Settings
from informers import Forbidden, NotFound
from tests.support.compass_border import RUNTIME
from tests.support.connection_bench import CA, CLUSTER, CONFIGURATION, SYNC_PERIOD, Bench

SETTINGS = Settings(cluster_certificates_secret=CLUSTER, ca_certificates_secret=CA, configuration=CONFIGURATION)
REVOKE = "revokeCertificate"
JSON = "application/json"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Paired, with a Compass that the command reaches too."""
    bench = Bench().paired()
    monkeypatch.setattr(controller.commands.revoke, "CompassClients", lambda **_: bench.connector)
    return bench


def run(bench: Bench) -> tuple[int, str]:
    out = io.StringIO()
    code = revoke(bench.server, SETTINGS, confirm=lambda _: True, out=out, now=bench.clock.time)  # type: ignore[arg-type]
    return code, out.getvalue()


def assert_nothing_changed(bench: Bench) -> None:
    """Also not the mark, so a running agent goes on."""
    assert is_stored(bench)
    assert not bench.connection["metadata"].get("annotations")


def renew_by_a_clock_ahead(bench: Bench) -> None:
    """The clock of Compass is ahead of the cluster's, so the renewed certificate waits."""
    bench.connector.state.clock = lambda: bench.clock.time() + 7200
    bench.clock.advance(SYNC_PERIOD)
    bench.refresh()
    bench.run(60)
    pending = bench.credentials.read().pending
    assert pending is not None
    assert pending.valid_from > bench.clock.time()


def mark(bench: Bench) -> None:
    """As `revoke` does at its start."""
    configuration = bench.configurations.resolve(bench.connection)
    bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, lambda obj: mark_revoked(obj, configuration))


def is_stored(bench: Bench) -> bool:
    try:
        bench.secret()
    except NotFound:
        return False
    return True


def revoked(bench: Bench) -> list[bool]:
    return [bench.connector.state.is_revoked(one.fingerprint) for one in bench.connector.state.certificates()]


def test_a_secret_that_changes_meanwhile_is_deleted_without_another_call(bench: Bench) -> None:
    """The same certificate would be refused the second time, which looks as if another one had failed."""
    edits = [{"an": "edit"}]

    def edit(verb: str, kind: str) -> None:
        if (verb, kind) == ("delete", "Secret") and edits:
            change = {"labels": edits.pop()}
            bench.server.edit(SECRET, CLUSTER.name, lambda obj: obj["metadata"].update(change), CLUSTER.namespace)

    bench.server.before = edit
    code, text = run(bench)
    assert code == DONE, text
    assert bench.connector.calls.count(REVOKE) == 1
    assert not is_stored(bench)


@pytest.mark.parametrize("status", [200, 400, 429])
def test_a_certificate_that_was_renewed_meanwhile_is_revoked_as_well(bench: Bench, status: int) -> None:
    """A renewal in progress stores its certificate right after the mark is written. If that fails, the mark stays."""
    before = bench.secret()["data"]
    bench.refresh()
    bench.settle()
    renewed = [bench.secret()["data"]]
    bench.put_secret(before)

    def renew(operation: str) -> HttpAnswer | None:
        if operation == REVOKE and renewed:
            bench.server.edit(SECRET, CLUSTER.name, lambda obj: obj.update(data=renewed.pop()), CLUSTER.namespace)
            return None
        return HttpAnswer(status, b"", "", JSON) if operation == REVOKE and status != 200 else None

    bench.connector.intervene = renew
    code, text = run(bench)
    if status != 200:
        assert code == FAILED
        assert "The certificate that was renewed meanwhile could not be revoked" in text
        assert "Nothing was changed" not in text
        assert REVOKED in bench.connection["metadata"]["annotations"]
        bench.connector.intervene = lambda _: None
        code, text = run(bench)
    assert code == DONE, text
    assert revoked(bench) == [True, True]
    assert not is_stored(bench)


@pytest.mark.parametrize(
    ("answers", "told", "once"),
    [
        ([], "The certificate is revoked", [True, True]),
        # Valid for neither clock yet, say: its key is deleted with the Secret.
        ([400], "The renewed certificate, which is not used yet, could not be revoked", [False, True]),
        ([429], "Nothing was changed.", [False, False]),
        ([200, 400], "could not be revoked", [False, True]),
        ([200, 429], "could not be revoked", [False, True]),
    ],
    ids=str,
)
def test_a_renewed_certificate_that_is_not_used_yet_is_revoked_first(
    bench: Bench, answers: list[int], told: str, once: list[bool]
) -> None:
    """The mark stays if something was changed, and the next run goes on with what is left."""
    renew_by_a_clock_ahead(bench)
    left = list(answers)

    def intervene(operation: str) -> HttpAnswer | None:
        status = left.pop(0) if operation == REVOKE and left else 200
        return None if status == 200 else HttpAnswer(status, b"", "", JSON)

    bench.connector.intervene = intervene
    code, text = run(bench)
    assert told in text
    assert sorted(revoked(bench)) == once
    assert ("it is valid until " in text) == (answers == [400])
    if answers == [429]:
        assert_nothing_changed(bench)
    else:
        assert "Nothing was changed" not in text
        assert REVOKED in bench.connection["metadata"]["annotations"]
    if answers in ([], [400]):
        assert code == DONE, text
    else:
        assert code == FAILED
        code, text = run(bench)
        assert code == DONE, text
        assert revoked(bench) == [True, True]
    assert not is_stored(bench)


@pytest.mark.parametrize("configuration", ["deleted", "invalid"])
def test_a_revocation_lasts_without_a_usable_configuration(bench: Bench, configuration: str) -> None:
    """Its answer was lost, and the used token goes: no other certificate is requested."""
    mark(bench)
    if configuration == "deleted":
        bench.unconfigure()
    else:
        bench.configure(TENANT="")
    bench.run(9 * 3600)
    assert bench.signed == 1
    assert "an operator has started to revoke the certificate" in bench.warning


def test_the_mark_of_an_earlier_connection_goes_before_the_next_is_stored(bench: Bench) -> None:
    """Killed between the credentials and the status. Otherwise the old manifest would revoke the new connection."""
    old = dict(bench.server.get(CONFIG_MAP, CONFIGURATION.name, namespace=CONFIGURATION.namespace)["data"])
    assert run(bench)[0] == DONE
    bench.configure()

    def killed(verb: str, kind: str) -> None:
        if kind == "CompassConnection" and bench.signed == 2:
            raise KeyboardInterrupt

    bench.server.before = killed
    with pytest.raises(KeyboardInterrupt):
        bench.settle()
    bench.server.before = lambda verb, kind: None
    bench.restart()
    bench.put_configuration("ConfigMap", old)
    bench.run(10 * 3600)
    assert (bench.state, bench.warning) == ("Connected", "")
    assert bench.signed > 2, "it is renewed"


@pytest.mark.parametrize("edit", [{"RUNTIME_ID": "another"}, {"CONNECTOR_URL": "https://another.example"}], ids=str)
def test_another_token_after_a_revocation_pairs_again(bench: Bench, edit: dict[str, str]) -> None:
    """The mark is for the token, whatever is configured beside it, and goes with the new connection."""
    kept_for_later = bench.configure()
    assert run(bench)[0] == DONE
    bench.configure(**kept_for_later | edit)
    calls = len(bench.connector.calls)
    bench.run(60)
    assert "the certificate was revoked by an operator" in bench.error
    assert bench.connection["status"]["connectionStatus"]["certificateStatus"] == {}
    assert len(bench.connector.calls) == calls
    bench.configure()
    bench.settle()
    bench.assert_connected()
    assert REVOKED not in bench.connection["metadata"].get("annotations", {})


def test_a_run_that_could_not_write_the_status_is_finished_by_the_next(bench: Bench) -> None:
    def forbid(verb: str, kind: str) -> None:
        if kind == "CompassConnection" and verb in ("update", "patch") and not is_stored(bench):
            raise Forbidden("compassconnections is forbidden", status=403, reason="Forbidden")

    bench.server.before = forbid
    assert run(bench)[0] == FAILED
    bench.server.before = lambda _verb, _kind: None
    code, text = run(bench)
    assert code == DONE, text
    assert "revoked by an operator" in bench.error


def test_without_a_compass_connection_there_is_one_afterwards(bench: Bench) -> None:
    """No agent runs, and the object was deleted."""
    bench.delete_connection()
    code, text = run(bench)
    assert code == DONE, text
    assert bench.state == "ConnectionFailed"
    assert "revoked by an operator" in bench.error
    assert not is_stored(bench)


@pytest.mark.parametrize("down", ["database", "director", "a proxy", "the network"])
def test_no_outage_is_taken_for_a_revocation(bench: Bench, down: str) -> None:
    """Compass refuses as if the certificate were revoked, or is not reached. Later, the command revokes it."""

    def unreachable(_operation: str) -> HttpAnswer:
        raise Unavailable("the connection to localhost:443 was refused")

    if down == "a proxy":
        bench.connector.intervene = lambda _: HttpAnswer(403, b"<html>blocked</html>", "", "text/html")
    elif down == "the network":
        bench.connector.intervene = unreachable
    else:
        bench.connector.outages.begin(down, delay=0.0)
    code, text = run(bench)
    assert code == FAILED
    assert "could not be revoked" in text
    assert "Nothing was changed." in text
    assert ("Run the command again when Compass is available" in text) == (down in ("database", "director"))
    assert_nothing_changed(bench)
    bench.connector.outages.clear()
    bench.connector.intervene = lambda _: None
    code, text = run(bench)
    assert code == DONE, text
    assert "The certificate is revoked (x-request-id: " in text
    assert revoked(bench) == [True]


def test_a_certificate_that_compass_has_revoked_before_is_left_alone(bench: Bench) -> None:
    """It looks like an outage, however long that lasts. Once it has expired, the text says that the Secret can go."""
    bench.connector.state.revoke_all(RUNTIME)
    for _ in range(2):
        code, text = run(bench)
        assert code == FAILED
        assert f"delete the Secret {CLUSTER}, or reconnect with a new one-time token" in text
        assert_nothing_changed(bench)
    bench.clock.set_time(bench.credentials.load().not_after + 1)
    code, text = run(bench)
    assert code == FAILED
    assert "The certificate expired at" in text
    assert f"Delete the Secret {CLUSTER}" in text


@pytest.mark.parametrize("lost", ["the connection", "HTTP 500", "HTTP 502", "HTTP 503", "HTTP 504", "not JSON"])
@pytest.mark.parametrize("done", [False, True], ids=["before the Connector", "after it"])
def test_an_answer_that_is_lost_leaves_it_open(bench: Bench, done: bool, lost: str) -> None:
    """It is not known whether the certificate is revoked: the mark stays, so it is not renewed, and the text says what
    to do. The next run revokes it, or Compass refuses it, which is a failure, because it may be an outage.
    """
    answer = bench.connector.answer

    def lose(body: bytes, headers: Mapping[str, str], credentials: Any) -> HttpAnswer:
        bench.connector.answer = answer  # type: ignore[method-assign]
        if done:
            answer(body, headers, credentials)
        if lost == "the connection":
            raise Unavailable("the connection was reset", is_sent=True)
        return HttpAnswer(int(lost[5:]), b"", "") if lost.startswith("HTTP ") else HttpAnswer(200, b"{", "", JSON)

    bench.connector.answer = lose  # type: ignore[method-assign]
    code, text = run(bench)
    assert code == FAILED
    assert "The certificate may or may not be revoked" in text
    assert "Run the command again when Compass is available" in text
    code, text = run(bench)
    assert code == (FAILED if done else DONE), text
    assert revoked(bench) == [True]
    assert is_stored(bench) is done
    assert REVOKED in bench.connection["metadata"]["annotations"]


@pytest.mark.parametrize("which", [CLUSTER, CA], ids=["the client's", "the gateway's"])
def test_a_secret_that_cannot_be_deleted_after_the_revocation_is_named(bench: Bench, which: ObjectName) -> None:
    """That of the client must be deleted by the operator. That of the gateway does not make the command fail."""
    deletions = [CLUSTER, CA]

    def forbid(verb: str, kind: str) -> None:
        if (verb, kind) == ("delete", "Secret") and deletions.pop(0) == which:
            raise Forbidden("secrets is forbidden", status=403, reason="Forbidden")

    bench.server.before = forbid
    code, text = run(bench)
    assert code == (FAILED if which == CLUSTER else DONE)
    assert "The certificate is revoked" in text
    assert f"The Secret {which} could not be deleted: secrets is forbidden" in text
    assert ("Delete it." in text) == (which == CLUSTER)
    assert revoked(bench) == [True]
