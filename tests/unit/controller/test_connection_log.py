"""The log names the calls to Compass behind what happens to the connection, by the ids that Compass logs as well."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from controller.compass.http import HttpAnswer
from tests.support.connection_bench import SYNC_PERIOD, Bench


@pytest.fixture
def ids() -> dict[str, list[str]]:
    """The x-request-ids that came, by operation."""
    return {}


@pytest.fixture
def bench(ids: dict[str, list[str]]) -> Bench:
    bench = Bench()
    answer = bench.connector.answer

    def noted(body: bytes, headers: Mapping[str, str], credentials: Any) -> HttpAnswer:
        try:
            return answer(body, headers, credentials)
        finally:
            ids.setdefault(bench.connector.calls[-1], []).append(headers["x-request-id"])

    bench.connector.answer = noted  # type: ignore[method-assign]
    return bench


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[str]:
    """The ids in the lines with that message."""
    return [getattr(record, "requestID", "") for record in caplog.records if record.getMessage() == message]


def test_a_pairing_names_the_calls_that_made_it(
    bench: Bench, ids: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.paired()
    assert logged(caplog, "Pairing with Compass") == ids["configuration"][:1]
    assert logged(caplog, "Paired with Compass") == ids["signCertificateSigningRequest"]


@pytest.mark.parametrize("waits", [False, True], ids=["used at once", "not valid yet"])
def test_a_renewal_names_the_call_that_signed_the_certificate(
    bench: Bench, ids: dict[str, list[str]], caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    caplog.set_level(logging.INFO)
    bench.paired()
    if waits:
        bench.connector.state.clock = lambda: bench.clock.time() + 600
    bench.refresh()
    bench.settle()
    bench.connector.state.clock = bench.clock.time
    bench.run(700)
    signed = ids["signCertificateSigningRequest"][1:]
    assert len(signed) == 1
    assert logged(caplog, "Renewing the certificate") == logged(caplog, "Certificate renewed") == signed
    assert ids["configuration"].count(signed[0]) == 2, "before the signing, and to try the new certificate"


def test_a_renewed_certificate_that_is_refused_names_its_calls(
    bench: Bench, ids: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    bench.paired()
    bench.connector.intervene = lambda _: HttpAnswer(400, b"", "") if bench.signed == 2 else None
    bench.refresh()
    bench.settle()
    assert logged(caplog, "Connection to Compass failed") == ids["signCertificateSigningRequest"][1:]


def test_a_renewal_that_fails_names_the_call_that_failed(
    bench: Bench, ids: dict[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """So does a Connector that cannot be asked."""
    bench.paired()
    bench.connector.intervene = lambda called: HttpAnswer(503, b"", "") if called.startswith("sign") else None
    bench.refresh()
    bench.settle()
    assert logged(caplog, "Connection to Compass failed") == ids["signCertificateSigningRequest"][1:]
    caplog.clear()
    bench.connector.intervene = lambda _: None
    bench.run(SYNC_PERIOD)
    bench.connector.outages.begin("database")
    before = len(ids["configuration"])
    bench.run(1.3 * SYNC_PERIOD)
    assert logged(caplog, "Connection to Compass failed") == ids["configuration"][before : before + 1]
