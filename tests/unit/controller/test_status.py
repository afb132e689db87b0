"""What an operator sees of a problem in the list of `kubectl get`."""

from typing import Any

import pytest

from controller.connection import problem, status

ID = "5b8bb3b2-6d3c-4c29-9a1b-0c8f9c6c6d01"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (f"Failed to retrieve certificate: x-request-id: {ID} failed: HTTP 503", "HTTP 503"),
        ("Failed to preserve certificate: etcd is full", "etcd is full"),
        ("Error while trying to maintain connection: Connector: HTTP 400", "Connector: HTTP 400"),
        ("TOKEN in Secret a/b is empty", "TOKEN in Secret a/b is empty"),
    ],
)
def test_the_list_begins_with_the_cause(error: str, message: str) -> None:
    connection: dict[str, Any] = {"metadata": {}}
    status.failed(connection, status.ConnectionState.CONNECTION_FAILED, error, now=0.0)
    status.derive_conditions(connection, now=0.0)
    assert connection["status"]["summary"]["message"] == message
    assert connection["status"]["connectionStatus"]["error"] == error


def test_a_failed_fetch_begins_with_the_cause_too() -> None:
    connection: dict[str, Any] = {"metadata": {}, "status": {"connectionState": "Connected"}}
    status.sync_failed(connection, f"Failed to fetch configuration: x-request-id: {ID} failed: HTTP 503", now=0.0)
    status.derive_conditions(connection, now=0.0)
    assert connection["status"]["summary"]["message"] == "HTTP 503"


def test_the_last_success_stays_while_applications_fail() -> None:
    connection: dict[str, Any] = {"metadata": {}, "status": {"connectionState": "Connected"}}

    def conclude(now: float, apply_error: str | None) -> str:
        counts = status.ApplicationCounts(1, 1, {})
        status.synchronized(
            connection, fetched_at=now, now=now, counts=counts, apply_error=apply_error, labels_error=None
        )
        return str(connection["status"]["synchronizationStatus"]["lastSuccessfulApplication"])

    assert conclude(60.0, None) == conclude(120.0, "it failed") == "1970-01-01T00:01:00Z"


def test_a_new_pairing_drops_the_error_of_the_last_synchronisation() -> None:
    connection: dict[str, Any] = {"metadata": {}}
    status.sync_failed(connection, "Failed to fetch configuration: HTTP 503", now=0.0)
    status.established(connection, at=60.0, last_success=None)
    assert connection["status"]["connectionState"] == "Connected"
    assert "error" not in connection["status"]["synchronizationStatus"]


def test_the_list_begins_with_what_happened_to_the_credentials() -> None:
    lost = problem.without_credentials(problem.token_used("Secret a/b"), loss="the Secret c/d does not exist")
    assert lost.text().startswith("the Secret c/d does not exist, so a new pairing is needed: the configured one-time")
