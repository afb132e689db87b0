"""The command revoke: each stored certificate is revoked once, also the renewed one that is not used yet."""

import io

import pytest

import controller.commands.revoke
from controller.commands.revoke import DONE, FAILED, revoke
from controller.compass.http import HttpAnswer
from controller.resources import CONNECTION_NAME, SECRET
from controller.settings import Settings
from informers import NotFound
from tests.support.connection_bench import CA, CLUSTER, CONFIGURATION, SYNC_PERIOD, Bench

SETTINGS = Settings(cluster_certificates_secret=CLUSTER, ca_certificates_secret=CA, configuration=CONFIGURATION)
REVOKE = "revokeCertificate"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Paired, with a Compass that the command reaches too."""
    bench = Bench().paired()
    monkeypatch.setattr(controller.commands.revoke, "Sessions", lambda **_: bench.connector)
    return bench


def run(bench: Bench) -> tuple[int, str]:
    out = io.StringIO()
    code = revoke(bench.server, SETTINGS, confirm=lambda _: True, out=out, now=bench.clock.time)  # type: ignore[arg-type]
    return code, out.getvalue()


def renew_by_a_clock_ahead(bench: Bench) -> None:
    """The clock of Compass is ahead of the cluster's, so the renewed certificate waits."""
    bench.connector.state.clock = lambda: bench.clock.time() + 7200
    bench.clock.advance(SYNC_PERIOD)
    bench.connections.apply(CONNECTION_NAME, lambda obj: obj["spec"].update(refreshCredentialsNow=True))
    bench.run(60)
    pending = bench.credentials.read().pending
    assert pending is not None
    assert pending.valid_from > bench.clock.time()


def is_stored(bench: Bench) -> bool:
    try:
        bench.server.get(SECRET, CLUSTER.name, namespace=CLUSTER.namespace)
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


def test_a_renewed_certificate_that_is_not_used_yet_is_revoked_too(bench: Bench) -> None:
    renew_by_a_clock_ahead(bench)
    code, text = run(bench)
    assert code == DONE, text
    assert revoked(bench) == [True, True]
    assert not is_stored(bench)


def test_a_renewed_certificate_that_compass_refuses_is_named(bench: Bench) -> None:
    """It may be valid for neither clock yet. Its key is deleted with the Secret."""
    renew_by_a_clock_ahead(bench)
    answers = [HttpAnswer(400, b"", "", "application/json")]
    bench.connector.intervene = lambda operation: answers.pop() if operation == REVOKE and answers else None
    code, text = run(bench)
    assert code == DONE, text
    assert "The renewed certificate, which is not used yet, could not be revoked" in text
    assert "It is valid until " in text
    assert sorted(revoked(bench)) == [False, True]
    assert not is_stored(bench)


def test_nothing_is_changed_if_the_connector_fails_for_the_renewed_certificate(bench: Bench) -> None:
    """So that the next run can revoke both."""
    renew_by_a_clock_ahead(bench)
    bench.connector.intervene = lambda operation: HttpAnswer(503, b"", "") if operation == REVOKE else None
    code, text = run(bench)
    assert code == FAILED
    assert "nothing was changed" in text
    assert is_stored(bench)
    assert not bench.connection["metadata"].get("annotations")
