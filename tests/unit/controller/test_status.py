"""What an operator sees of a problem in the list of `kubectl get`."""

import time
from typing import Any

import pytest

from controller.connection import problem, status
from controller.connection.status import ConnectionState

ID = "5b8bb3b2-6d3c-4c29-9a1b-0c8f9c6c6d01"

CONNECTED = ("True", "Connected", "old")
LOST = (ConnectionState.CONNECTION_FAILED, ConnectionState.CONNECTION_MAINTENANCE_FAILED)
UNSYNCHRONIZED = (
    ConnectionState.SYNCHRONIZATION_FAILED,
    ConnectionState.RESOURCE_APPLICATION_FAILED,
    ConnectionState.METADATA_UPDATE_FAILED,
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (f"Failed to retrieve certificate: x-request-id: {ID} failed: HTTP 503", "HTTP 503"),
        ("Failed to preserve certificate: etcd is full", "etcd is full"),
        ("Error while trying to maintain connection: Connector: HTTP 400", "Connector: HTTP 400"),
        ("TOKEN in Secret a/b is empty", "TOKEN in Secret a/b is empty"),
        ("Failed to retrieve certificate: " + "x" * 100, "x" * 79 + "\u2026"),
    ],
)
def test_the_list_begins_with_the_cause(error: str, message: str) -> None:
    connection: dict[str, Any] = {"metadata": {}}
    status.set_failed(connection, ConnectionState.CONNECTION_FAILED, error, now=0.0)
    status.derive_conditions(connection, now=0.0)
    assert connection["status"]["summary"]["message"] == message
    assert connection["status"]["connectionStatus"]["error"] == error


def test_no_text_is_longer_than_a_kibibyte() -> None:
    connection: dict[str, Any] = {"metadata": {}}
    status.set_failed(connection, ConnectionState.CONNECTION_FAILED, "x" * 5000, now=0.0)
    status.derive_conditions(connection, now=0.0)
    told = connection["status"]
    texts = [told["connectionStatus"]["error"], *(condition["message"] for condition in told["conditions"])]
    assert {len(text) for text in texts} == {1024}


def test_what_the_crd_of_the_go_agent_prunes_is_not_written() -> None:
    """It would be a difference in each reconcile."""
    additions = dict.fromkeys(("conditions", "observedGeneration", "runtime", "applications", "summary"), 1)
    connection: dict[str, Any] = {"status": {"connectionStatus": {"warning": "one", "error": "two"}, **additions}}
    status.drop_additions(connection)
    assert connection == {"status": {"connectionStatus": {"error": "two"}}}


def test_a_failed_fetch_begins_with_the_cause_too() -> None:
    connection: dict[str, Any] = {"metadata": {}, "status": {"connectionState": "Connected"}}
    status.set_sync_failed(connection, f"Failed to fetch configuration: x-request-id: {ID} failed: HTTP 503", now=0.0)
    status.derive_conditions(connection, now=0.0)
    assert connection["status"]["summary"]["message"] == "HTTP 503"


@pytest.mark.parametrize(
    ("apply_error", "labels_error", "state", "error"),
    [
        (None, None, "Synchronized", ""),
        ("one", None, "ResourceApplicationFailed", "Failed to apply configuration: one"),
        (None, "two", "MetadataUpdateFailed", "Failed to reconcile Runtime labels with proper URLs: two"),
        ("one", "two", "ResourceApplicationFailed", "Failed to apply configuration: one"),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_a_fetch_has_the_state_of_what_fails(
    lost: bool, apply_error: str | None, labels_error: str | None, state: str, error: str
) -> None:
    """In place of that of the fetch before. That of a connection that is lost stays."""
    connection: dict[str, Any] = {"metadata": {"generation": 7}, "status": {"connectionState": "Connected"}}
    status.set_sync_failed(connection, "before", now=0.0)
    if lost:
        status.set_failed(connection, ConnectionState.CONNECTION_FAILED, "lost", now=0.0)
    counts = status.ApplicationCounts(3, 1, dict.fromkeys("ab", "no"))
    found = status.set_synchronized(
        connection, fetched_at=60.0, now=120.0, counts=counts, apply_error=apply_error, labels_error=labels_error
    )
    status.derive_conditions(connection, now=180.0)
    told = connection["status"]
    assert (found, told["connectionState"]) == (state, "ConnectionFailed" if lost else state)
    part = told["synchronizationStatus"]
    assert part["lastAttempt"] == part["lastSuccessfulFetch"] == "1970-01-01T00:01:00Z"
    assert part["lastSuccessfulApplication"] == (None if error else "1970-01-01T00:02:00Z")
    assert part.get("error", "") == error
    assert told["applications"] == {"desired": 3, "synced": 1, "failed": 2, "failing": ["a", "b"]}
    assert told["summary"]["applications"] == "1/3"
    assert {one["lastTransitionTime"] for one in told["conditions"]} == {"1970-01-01T00:03:00Z"}
    status.derive_conditions(connection, now=240.0)
    assert {one["lastTransitionTime"] for one in told["conditions"]} == {"1970-01-01T00:03:00Z"}, "nothing has changed"


@pytest.mark.parametrize(
    ("state", "ready", "connected", "synchronized"),
    [
        (None, ("False", "Pending", "late"), ("Unknown", "Pending", "old"), ("Unknown", "Pending", "late")),
        (ConnectionState.CONNECTED, ("False", "Connected", "late"), CONNECTED, ("Unknown", "Pending", "late")),
        (ConnectionState.SYNCHRONIZED, ("True", "Ready", ""), CONNECTED, ("True", "Synchronized", "")),
    ]
    + [(state, ("False", state, "lost"), ("False", state, "lost"), ("Unknown", state, "lost")) for state in LOST]
    + [(state, ("False", state, "late"), CONNECTED, ("False", state, "late")) for state in UNSYNCHRONIZED],
    ids=str,
)
def test_the_conditions_follow_from_the_state(
    state: ConnectionState | None,
    ready: tuple[str, str, str],
    connected: tuple[str, str, str],
    synchronized: tuple[str, str, str],
) -> None:
    """Each with status, reason and the message about it: the error of the connection or of the sync, or the warning."""
    connection: dict[str, Any] = {
        "metadata": {"generation": 7} if state else {},
        "status": {
            "connectionState": str(state),
            "connectionStatus": {"error": "lost", "warning": "old"},
            "synchronizationStatus": {"error": "late"},
            "applications": {},
        },
    }
    status.derive_conditions(connection, now=60.0)
    told = connection["status"]
    wanted = {"Ready": ready, "Connected": connected, "Synchronized": synchronized}
    found = {one["type"]: (one["status"], one["reason"], one["message"]) for one in told["conditions"]}
    assert found == wanted
    generations = {told["observedGeneration"], *(one["observedGeneration"] for one in told["conditions"])}
    assert generations == {7 if state else 0}
    assert told["summary"] == {"message": ready[2], "applications": "0/0"}


def test_each_change_has_its_times() -> None:
    """Of the last attempt, and of the last success."""
    connection: dict[str, Any] = {}

    def told(part: str = "connectionStatus") -> list[str | None]:
        times: dict[str, str | None] = connection["status"][part]
        return [times[name] for name in ("lastSync", "lastSuccess", "lastAttempt") if name in times]

    status.set_established(connection, at=0.0, last_success=None)
    assert told() == [None, None]
    status.set_contacted(connection, at=60.0)
    assert told() == ["1970-01-01T00:01:00Z", "1970-01-01T00:01:00Z"]
    status.set_failed(connection, ConnectionState.CONNECTION_FAILED, "lost", now=120.0)
    assert told() == ["1970-01-01T00:02:00Z", "1970-01-01T00:01:00Z"]
    assert status.connection_error(connection) == "lost"
    for _ in range(2):
        status.set_works(connection, state=ConnectionState.CONNECTED, now=180.0)
    assert told() == ["1970-01-01T00:03:00Z", "1970-01-01T00:03:00Z"]
    assert status.connection_error(connection) == ""
    status.set_sync_failed(connection, "no", now=240.0)
    assert told("synchronizationStatus") == ["1970-01-01T00:04:00Z"]


def test_a_part_of_the_status_begins_complete() -> None:
    """The CRD of the Go agent requires each of these fields."""
    connection: dict[str, Any] = {}
    status.set_established(connection, at=60.0, last_success=120.0)
    status.set_permissions_missing(connection, "no", since="today")
    assert connection["status"] == {
        "connectionState": "SynchronizationFailed",
        "connectionStatus": {
            "certificateStatus": {},
            "established": "1970-01-01T00:01:00Z",
            "lastSuccess": "1970-01-01T00:02:00Z",
            "lastSync": "1970-01-01T00:02:00Z",
            "renewed": None,
        },
        "synchronizationStatus": {
            "error": "Missing permissions since today: no",
            "lastAttempt": None,
            "lastSuccessfulFetch": None,
            "lastSuccessfulApplication": None,
        },
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1970-01-01T00:01:00Z", 60.0), ("1970-01-01T01:00:00+01:00", 0.0)]
    + [(text, None) for text in ("1970-01-01T00:01:00", "yesterday", "", None, 5)],
)
def test_a_time_that_cannot_be_read_is_none(text: object, seconds: float | None) -> None:
    assert status.parse_timestamp(text) == seconds


def test_a_time_is_written_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the process runs."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert status.timestamp(60.9) == "1970-01-01T00:01:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (-120, "2 min"), (7199, "119 min"), (7200, "2 h"), (2e5, "2 d")]
)
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text


@pytest.mark.parametrize(
    ("subject", "since", "stored"),
    [("a token", 60.9, 59.0), ("a token", 70.0, 70.0), ("another", 60.9, 60.0)],
    ids=["the same moment, rounded", "another moment", "another subject"],
)
def test_rounding_does_not_change_since_when_a_condition_is_true(subject: str, since: float, stored: float) -> None:
    """Or each restart would write the status."""
    connection: dict[str, Any] = {}
    kind = status.Lasting.PAIRING_FAILING
    status.write_lasting(connection, kind, status.LastingCondition("a token", "Refused", "no", since=59.4))
    status.write_lasting(connection, kind, status.LastingCondition(subject, "Refused", "no", since=since))
    assert status.read_lasting(connection, kind) == status.LastingCondition(subject, "Refused", "no", since=stored)
    assert [(one["type"], one["status"]) for one in connection["status"]["conditions"]] == [("PairingFailing", "True")]
    assert status.read_lasting(connection, status.Lasting.CERTIFICATE_REFUSED) is None


def test_ten_failing_applications_are_named() -> None:
    failed = {f"app-{number:02}": "no" for number in range(12)}
    assert status.failures_text(failed).endswith("app-09: no; and 2 more")


def test_the_last_success_stays_while_applications_fail() -> None:
    connection: dict[str, Any] = {"metadata": {}, "status": {"connectionState": "Connected"}}

    def conclude(now: float, apply_error: str | None) -> str:
        counts = status.ApplicationCounts(1, 1, {})
        status.set_synchronized(
            connection, fetched_at=now, now=now, counts=counts, apply_error=apply_error, labels_error=None
        )
        return str(connection["status"]["synchronizationStatus"]["lastSuccessfulApplication"])

    assert conclude(60.0, None) == conclude(120.0, "it failed") == "1970-01-01T00:01:00Z"


def test_a_new_pairing_drops_the_error_of_the_last_synchronisation() -> None:
    connection: dict[str, Any] = {"metadata": {}}
    status.set_sync_failed(connection, "Failed to fetch configuration: HTTP 503", now=0.0)
    status.set_established(connection, at=60.0, last_success=None)
    assert connection["status"]["connectionState"] == "Connected"
    assert "error" not in connection["status"]["synchronizationStatus"]


def test_the_list_begins_with_what_happened_to_the_credentials() -> None:
    lost = problem.without_credentials(problem.token_used("Secret a/b"), loss="the Secret c/d does not exist")
    assert lost.text().startswith("the Secret c/d does not exist, so a new pairing is needed: the configured one-time")
