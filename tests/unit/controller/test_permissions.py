"""Missing permissions: which answers show one, how long it lasts, and where it is reported."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from controller.commands.permission_review import Permission, describe, needed
from controller.connection import status
from controller.connection.store import ConnectionStore
from controller.permissions import Permissions, PermissionsMissing, Report
from controller.resources import APPLY_RELEASE
from controller.settings import Settings
from informers import ApiError, ConnectionFailed, Forbidden, NotFound
from tests.clock import VirtualClock

APPLICATIONS = "https://api/apis/applicationconnector.kyma-project.io/v1alpha1/applications"
SECRETS = "https://api/api/v1/namespaces/kyma-system/secrets"
WATCH = 'cannot watch resource "applications" in API group "applicationconnector.kyma-project.io" at the cluster scope'
LIST = 'cannot list resource "secrets" in API group "" in the namespace "kyma-system"'


def refusal(words: str, *, name: str = "") -> Forbidden:
    """As a real API server words it."""
    text = f'applications is forbidden: User "system:serviceaccount:kyma-system:compass-runtime-agent" {words}'
    return Forbidden(text, status=403, reason="Forbidden", details={"name": name} if name else {})


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def permissions(clock: VirtualClock) -> Permissions:
    return Permissions(clock)


def refuse(permissions: Permissions, clock: VirtualClock, method: str, url: str, error: ApiError) -> None:
    """Twice, as often as it takes to count."""
    permissions.answered(method, url, error)
    clock.advance(5)
    permissions.answered(method, url, error)


def texts(permissions: Permissions) -> list[str]:
    return [str(one) for one in permissions.missing()]


def test_a_refusal_lasts_until_the_same_request_succeeds(permissions: Permissions, clock: VirtualClock) -> None:
    """Another page or version is the same request; a list and a watch are not."""
    permissions.check()
    permissions.answered("GET", f"{APPLICATIONS}?watch=true&resourceVersion=1", refusal(WATCH))
    first = status.timestamp(clock.time())
    clock.advance(60)
    permissions.answered("GET", f"{APPLICATIONS}?watch=true&resourceVersion=1", refusal(WATCH))
    permissions.answered("GET", f"{APPLICATIONS}?limit=500", None)
    with pytest.raises(PermissionsMissing) as raised:
        permissions.check()
    assert f"{WATCH} (first at {first}, latest at {status.timestamp(clock.time())})" in str(raised.value)
    permissions.answered("GET", f"{APPLICATIONS}?watch=true&resourceVersion=9", None)
    permissions.check()


def test_an_api_server_that_starts_refuses_without_the_roles(permissions: Permissions, clock: VirtualClock) -> None:
    """Once, or for a moment. The request may not be repeated, because another one does its work."""
    permissions.answered("GET", f"{SECRETS}/a", refusal(LIST))
    clock.advance(4.9)
    permissions.answered("GET", f"{SECRETS}/a", refusal(LIST))
    clock.advance(100)
    assert texts(permissions) == []


def test_a_watch_that_succeeds_ends_the_refusal_of_the_list(permissions: Permissions, clock: VirtualClock) -> None:
    """It streams the objects, so no list follows. A list replaces no watch."""
    refuse(permissions, clock, "GET", f"{APPLICATIONS}?limit=500", refusal(WATCH.replace("watch", "list")))
    permissions.answered("GET", f"{APPLICATIONS}?watch=true", None)
    assert texts(permissions) == []


def test_a_request_that_is_not_repeated_is_forgotten(permissions: Permissions, clock: VirtualClock) -> None:
    """What was to be written may be gone."""
    refuse(permissions, clock, "PUT", f"{APPLICATIONS}/a", refusal(WATCH))
    clock.advance(599)
    assert texts(permissions)
    clock.advance(1)
    assert texts(permissions) == []


def test_an_answer_after_the_check_of_permissions_ends_it_too(permissions: Permissions, clock: VirtualClock) -> None:
    refuse(permissions, clock, "GET", f"{SECRETS}/a", refusal(LIST))
    permissions.answered("GET", f"{SECRETS}/a", ApiError("overloaded", status=429))
    assert texts(permissions)
    permissions.answered("GET", f"{SECRETS}/a", NotFound("secrets a not found", status=404))
    assert texts(permissions) == []


@pytest.mark.parametrize(
    "words",
    [
        'cannot create resource "events" in API group "events.k8s.io" in the namespace "default"',
        'cannot list resource "nodes" in API group "" at the cluster scope',
        "exceeded quota: objects, requested: count/secrets=1",
        "admission webhook denied the request",
    ],
)
def test_what_is_not_a_missing_permission(permissions: Permissions, clock: VirtualClock, words: str) -> None:
    """Quotas and admission refuse single objects; Events and the line with metrics are no part of the work."""
    refuse(permissions, clock, "POST", SECRETS, refusal(words))
    assert texts(permissions) == []


def test_one_text_for_all_objects_of_a_kind(permissions: Permissions, clock: VirtualClock) -> None:
    """With the first names, also of objects that are listed by name."""
    for name in ("d", "c", "b"):
        refuse(permissions, clock, "GET", f"{SECRETS}?fieldSelector=metadata.name%3D{name}", refusal(LIST))
    refuse(permissions, clock, "PUT", f"{SECRETS}/a", refusal(LIST, name="a"))
    assert texts(permissions) == [f"{LIST} (a, b, c)"]


class FakeConnections:
    """The store of one CompassConnection. `error`: of its writes."""

    def __init__(self, permissions: Permissions, connection: dict[str, Any] | None) -> None:
        self.connection = connection
        self.error: ApiError | None = None
        self._permissions = permissions

    def get_live(self, _: str) -> dict[str, Any] | None:
        return self.connection

    get = get_live

    def apply_to(self, connection: dict[str, Any], change: Any) -> None:
        if self.error is not None:
            raise self.error
        change(connection)
        self._permissions.overlay(connection)


def synchronized() -> dict[str, Any]:
    return {"spec": {}, "status": {"connectionState": "Synchronized", "connectionStatus": {"certificateStatus": {}}}}


def report_of(
    permissions: Permissions,
    connections: FakeConnections,
    clock: VirtualClock,
    *,
    leads: Callable[[], bool] = lambda: True,
) -> Report:
    store: ConnectionStore = connections  # type: ignore[assignment]
    return Report(permissions, store, clock=clock, leads=leads)


def test_the_status_has_it_until_it_ends_and_then_a_sync_starts(permissions: Permissions, clock: VirtualClock) -> None:
    connections = FakeConnections(permissions, synchronized())
    report = report_of(permissions, connections, clock)
    report.once()
    assert connections.connection == synchronized()
    since = status.timestamp(clock.time())
    refuse(permissions, clock, "GET", f"{APPLICATIONS}?watch=true", refusal(WATCH))
    report.once()
    assert connections.connection is not None
    told = connections.connection["status"]
    assert told["connectionState"] == "SynchronizationFailed"
    expected = f"Missing permissions since {since}: {WATCH}; {APPLY_RELEASE}"
    assert told["synchronizationStatus"]["error"] == expected
    permissions.answered("GET", f"{APPLICATIONS}?watch=true", None)
    report.once()
    assert told["connectionState"] == "Connected"
    assert "error" not in told["synchronizationStatus"]
    assert connections.connection["spec"] == {"resyncNow": True}


def test_the_report_of_the_process_before_ends_too(permissions: Permissions, clock: VirtualClock) -> None:
    """The roles were applied while the agent was restarted. After a minute, nothing was refused again."""
    stale = synchronized()
    status.set_permissions_missing(stale, WATCH, since="2026-01-01T00:00:00Z")
    connections = FakeConnections(permissions, stale)
    report = report_of(permissions, connections, clock)
    report.once()
    assert connections.connection is not None
    assert WATCH in connections.connection["status"]["synchronizationStatus"]["error"], "too early to tell"
    clock.advance(60)
    report.once()
    assert "error" not in connections.connection["status"]["synchronizationStatus"]


def test_only_the_leader_ends_a_report(permissions: Permissions, clock: VirtualClock) -> None:
    """A replica that does not lead writes nothing, so nothing is refused. A new leader waits for its first refusals."""
    shown = synchronized()
    status.set_permissions_missing(shown, WATCH, since="2026-01-01T00:00:00Z")
    leads = False
    report = report_of(permissions, FakeConnections(permissions, shown), clock, leads=lambda: leads)
    for _ in range(20):
        report.once()
        clock.advance(5)
    assert status.reports_missing_permissions(shown)
    leads = True
    report.once()
    assert status.reports_missing_permissions(shown)
    clock.advance(60)
    report.once()
    assert not status.reports_missing_permissions(shown)
    status.set_permissions_missing(shown, WATCH, since="2026-01-01T00:00:00Z")  # by another leader
    report.once()
    assert not status.reports_missing_permissions(shown)


def test_a_former_leader_ends_no_report(permissions: Permissions, clock: VirtualClock) -> None:
    """Its own refusals are forgotten, because it repeats no request."""
    connections = FakeConnections(permissions, synchronized())
    leads = True
    report = report_of(permissions, connections, clock, leads=lambda: leads)
    refuse(permissions, clock, "GET", f"{APPLICATIONS}?watch=true", refusal(WATCH))
    report.once()
    leads = False
    clock.advance(3600)
    report.once()
    assert status.reports_missing_permissions(connections.connection or {})


def test_an_object_that_was_never_connected_has_no_state_by_it(permissions: Permissions, clock: VirtualClock) -> None:
    """A state of the sync would mean that the connection works."""
    connections = FakeConnections(permissions, {"metadata": {}, "spec": {}})
    report = report_of(permissions, connections, clock)
    refuse(permissions, clock, "GET", f"{APPLICATIONS}?watch=true", refusal(WATCH))
    report.once()
    assert connections.connection is not None
    part = connections.connection["status"]["connectionStatus"]
    assert part["certificateStatus"] == {}, "the CRD of the Go agent requires it"
    status.derive_conditions(connections.connection, now=clock.time())
    conditions = {c["type"]: c for c in connections.connection["status"]["conditions"]}
    assert conditions["Connected"]["status"] == "Unknown"
    assert WATCH in conditions["Ready"]["message"]
    permissions.answered("GET", f"{APPLICATIONS}?watch=true", None)
    report.once()
    assert status.state_of(connections.connection) is None


def test_a_write_that_fails_is_repeated(
    permissions: Permissions, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The API server may refuse this write as well, or not answer. The same error is logged once."""
    connections = FakeConnections(permissions, synchronized())
    connections.error = ConnectionFailed("away", reason=ConnectionFailed.REFUSED)
    report = report_of(permissions, connections, clock)
    refuse(permissions, clock, "GET", f"{APPLICATIONS}?watch=true", refusal(WATCH))
    report.once()
    report.once()
    assert connections.connection == synchronized()
    assert [record.message for record in caplog.records].count(
        "Cannot write the missing permissions to the status"
    ) == 1
    connections.error = None
    report.once()
    assert connections.connection != synchronized()


def test_the_error_of_the_connection_and_of_the_director_stay(permissions: Permissions, clock: VirtualClock) -> None:
    """A lost connection has to be mended first. An error of the Director does not end with missing permissions."""
    lost = synchronized()
    lost["status"]["connectionState"] = "ConnectionFailed"
    refuse(permissions, clock, "GET", f"{APPLICATIONS}?watch=true", refusal(WATCH))
    permissions.overlay(lost)
    assert lost["status"]["connectionState"] == "ConnectionFailed"
    assert WATCH in lost["status"]["synchronizationStatus"]["error"]

    failed = synchronized()
    status.set_sync_failed(failed, "Failed to fetch configuration: 503", now=0)
    expected = copy.deepcopy(failed)
    status.clear_permissions_missing(failed)
    assert failed == expected


def test_the_full_list_is_described_by_kind_of_object() -> None:
    """For the command doctor: verbs of one kind of object together."""
    settings = Settings.from_environment({"APP_LEADER_ELECTION": "false"})
    assert "leases" not in {permission.resource for permission in needed(settings)}
    assert "leases" in {permission.resource for permission in needed(Settings())}
    group = "applicationconnector.kyma-project.io"
    permissions = [
        Permission("coordination.k8s.io", "leases", "kyma-system", "compass-runtime-agent", "update"),
        Permission(group, "applications", "", "", "watch"),
        Permission(group, "applications", "", "", "list"),
        Permission("", "secrets", "kyma-system", "", "create"),
    ]
    assert describe(permissions) == (
        "create secrets in kyma-system; "
        "list, watch applications.applicationconnector.kyma-project.io; "
        "update leases.coordination.k8s.io compass-runtime-agent in kyma-system"
    )
