"""Credentials that are replaced while a call to Compass is under way: what the call tells is about neither."""

import copy

import pytest

from controller.compass.http import HttpAnswer
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME, SECRET
from tests.support.connection_bench import CLUSTER, Bench

REFUSED = HttpAnswer(400, b"", "")


def _stored(bench: Bench) -> dict[str, object]:
    return copy.deepcopy(bench.server.get(SECRET, CLUSTER.name, namespace=CLUSTER.namespace))


def _store(bench: Bench, secret: dict[str, object]) -> None:
    bench.server.put(
        SECRET, {"metadata": {"name": CLUSTER.name, "namespace": CLUSTER.namespace}, "data": secret["data"]}
    )


@pytest.mark.parametrize("answer", [None, REFUSED], ids=["accepted", "refused"])
@pytest.mark.parametrize("operation", ["configuration", "signCertificateSigningRequest"])
def test_what_the_connector_says_of_the_credentials_before_is_void(operation: str, answer: HttpAnswer | None) -> None:
    """A renewal under way when a pairing switches over neither undoes the switch nor casts suspicion on it."""
    bench = Bench().paired()
    before = _stored(bench)
    bench.configure()
    bench.delete_connection()
    bench.settle()
    after = _stored(bench)
    _store(bench, before)
    bench.restart()
    bench.settle()
    fresh = bench.connection
    fresh["spec"]["refreshCredentialsNow"] = True
    bench.server.put(COMPASS_CONNECTION, fresh)

    def switch(called: str) -> HttpAnswer | None:
        if called != operation:
            return None
        bench.connector.intervene = lambda _: None
        _store(bench, after)
        bench.server.edit(COMPASS_CONNECTION, CONNECTION_NAME, lambda obj: obj["spec"].pop("refreshCredentialsNow"))
        return answer

    bench.connector.intervene = switch
    bench.reconciler.reconcile(CONNECTION_NAME)

    assert _stored(bench)["data"] == after["data"]
    assert bench.health.observations().refusals == ()
    bench.assert_connected()
    assert bench.recorder.reasons == []
