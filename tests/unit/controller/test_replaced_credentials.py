"""Credentials that are replaced while a call to Compass is under way: what the call tells is about neither."""

import pytest

from controller.compass.http import HttpAnswer
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME
from tests.support.connection_bench import Bench

REFUSED = HttpAnswer(400, b"", "")


@pytest.mark.parametrize("answer", [None, REFUSED], ids=["accepted", "refused"])
@pytest.mark.parametrize("operation", ["configuration", "signCertificateSigningRequest"])
def test_what_the_connector_says_of_the_credentials_before_is_void(operation: str, answer: HttpAnswer | None) -> None:
    """A renewal under way when a pairing switches over neither undoes the switch nor casts suspicion on it."""
    bench = Bench().paired()
    before = bench.secret()["data"]
    bench.configure()
    bench.delete_connection()
    bench.settle()
    after = bench.secret()["data"]
    bench.put_secret(before)
    bench.restart()
    bench.settle()
    bench.refresh()

    def switch(called: str) -> HttpAnswer | None:
        if called != operation:
            return None
        bench.connector.intervene = lambda _: None
        bench.put_secret(after)
        bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, lambda obj: obj["spec"].pop("refreshCredentialsNow"))
        return answer

    bench.connector.intervene = switch
    bench.reconciler.reconcile(CONNECTION_NAME)

    assert bench.secret()["data"] == after
    assert bench.health.observations().refusals == ()
    bench.assert_connected()
    assert bench.recorder.reasons == []
