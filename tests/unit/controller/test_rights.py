"""Which rights are missing: when the API server is asked, and how it is told."""

import copy
import threading
from typing import Any

import pytest

from controller.connection import status as cc
from controller.rights import Refusals, Right, RightsCheck, RightsMissing, describe, needed
from controller.settings import Settings
from informers import ApiError, ConnectionFailed
from informers.metrics import NoRequestMetrics
from workqueue.testing import VirtualClock

WATCH = Right("applicationconnector.kyma-project.io", "applications", "", "", "watch")
UPDATE_LEASE = Right("coordination.k8s.io", "leases", "kyma-system", "compass-runtime-agent", "update")
STATUS = Right("compass.kyma-project.io", "compassconnections/status", "", "", "update")


class Reviewer:
    """An API server that answers reviews and nothing else."""

    def __init__(self) -> None:
        self.denied: set[tuple[str, str]] = set()
        self.error: ApiError | None = None
        self.asked: list[dict[str, Any]] = []

    def request(self, method: str, path: str, *, body: dict[str, Any]) -> dict[str, Any]:
        assert (method, path) == ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        attributes = body["spec"]["resourceAttributes"]
        self.asked.append(attributes)
        if self.error:
            raise self.error
        return {"status": {"allowed": (attributes["verb"], attributes["resource"]) not in self.denied}}


class Bench:
    """A check that runs on a clock that the test moves."""

    def __init__(self, *rights: Right) -> None:
        self.server = Reviewer()
        self.refused = threading.Event()
        self.told: list[tuple[Right, ...]] = []
        self.clock = VirtualClock()
        self.check = RightsCheck(
            self.server,  # type: ignore[arg-type]
            rights,
            refused=self.refused,
            clock=self.clock,
        )
        self.check.tell(self.told.append)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.check.run, args=(self._stop,))

    def __enter__(self) -> "Bench":
        self._thread.start()
        self.settle()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.clock.advance(60)
        self._thread.join()

    def settle(self) -> None:
        self.clock.wait_for_waiters(1)

    def later(self) -> None:
        """When it looks the next time."""
        self.clock.advance(10)
        self.settle()


def test_asked_at_the_start_and_not_again_while_nothing_is_refused() -> None:
    with Bench(WATCH) as bench:
        assert len(bench.server.asked) == 1
        bench.later()
        assert len(bench.server.asked) == 1
        assert bench.told == []
        bench.check.check()


def test_asked_again_after_a_refusal() -> None:
    """A right that is taken away is noticed, and makes the Pod not ready, by name."""
    with Bench(WATCH, UPDATE_LEASE) as bench:
        bench.server.denied = {("watch", "applications")}
        bench.refused.set()
        bench.later()
        assert bench.check.missing == (WATCH,)
        assert bench.told == [(WATCH,)]
        with pytest.raises(RightsMissing, match=r"watch applications\.applicationconnector\.kyma-project\.io"):
            bench.check.check()


def test_asked_again_while_something_is_missing() -> None:
    """Nothing tells that a right is given, so it is looked for; and once it is there the Pod is ready again."""
    bench = Bench(WATCH)
    bench.server.denied = {("watch", "applications")}
    with bench:
        bench.later()
        bench.later()
        assert bench.told == [(WATCH,)]
        bench.server.denied = set()
        bench.later()
        assert bench.told == [(WATCH,), ()]
        bench.check.check()
        asked = len(bench.server.asked)
        bench.later()
        assert len(bench.server.asked) == asked


def test_an_api_server_that_does_not_answer_says_nothing_about_rights() -> None:
    """What was found before stays, and it is asked again."""
    bench = Bench(WATCH)
    bench.server.error = ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)
    with bench:
        assert bench.told == []
        bench.server.error = None
        bench.server.denied = {("watch", "applications")}
        bench.later()
        assert bench.told == [(WATCH,)]
        bench.server.error = ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)
        bench.later()
        assert bench.check.missing == (WATCH,)


def test_what_is_asked() -> None:
    """A subresource is a field of its own, and what is empty is left out: it would mean all."""
    with Bench(STATUS, UPDATE_LEASE) as bench:
        assert bench.server.asked == [
            {
                "verb": "update",
                "group": "compass.kyma-project.io",
                "resource": "compassconnections",
                "subresource": "status",
            },
            {
                "verb": "update",
                "group": "coordination.k8s.io",
                "resource": "leases",
                "namespace": "kyma-system",
                "name": "compass-runtime-agent",
            },
        ]


def test_a_refused_request_is_noticed() -> None:
    refusals = Refusals(NoRequestMetrics())
    for code in ("200", "401", "404", "409", "500", "<error>"):
        refusals.request(verb="GET", code=code, host="api", seconds=0.1)
    assert not refusals.seen.is_set()
    refusals.request(verb="GET", code="403", host="api", seconds=0.1)
    assert refusals.seen.is_set()


def test_told_by_kind_of_object() -> None:
    """Verbs of one kind of object stand together; names and namespaces are told where they are meant."""
    listed = Right(WATCH.group, WATCH.resource, "", "", "list")
    secrets = Right("", "secrets", "kyma-system", "", "create")
    assert describe([UPDATE_LEASE, WATCH, secrets, listed, STATUS]) == (
        "create secrets in kyma-system; "
        "list, watch applications.applicationconnector.kyma-project.io; "
        "update compassconnections/status.compass.kyma-project.io; "
        "update leases.coordination.k8s.io compass-runtime-agent in kyma-system"
    )


def test_without_leader_election_no_lease_is_needed() -> None:
    settings = Settings.from_environment({"APP_LEADER_ELECTION": "false"})
    assert "leases" not in {right.resource for right in needed(settings)}
    assert "leases" in {right.resource for right in needed(Settings.from_environment({}))}


def _synchronized() -> dict[str, Any]:
    return {
        "spec": {},
        "status": {"connectionState": "Synchronized", "connectionStatus": {"certificateStatus": {}}},
    }


def test_missing_rights_stay_told_whatever_else_is() -> None:
    """A leader that can still write its status does not hide that it works with old caches."""
    with Bench(WATCH) as bench:
        bench.server.denied = {("watch", "applications")}
        bench.refused.set()
        bench.later()
        connection = _synchronized()
        bench.check.overlay(connection)
        assert connection["status"]["connectionState"] == "SynchronizationFailed"
        assert "Missing permissions: watch applications" in connection["status"]["synchronizationStatus"]["error"]
        bench.server.denied = set()
        bench.later()
        connection = _synchronized()
        bench.check.overlay(connection)
        assert connection == _synchronized()


def test_a_lost_connection_is_not_hidden_by_missing_rights() -> None:
    """Its own error has to be mended first; the missing rights are told beside it."""
    connection = _synchronized()
    connection["status"]["connectionState"] = "ConnectionFailed"
    cc.rights_missing(connection, "watch")
    assert connection["status"]["connectionState"] == "ConnectionFailed"
    assert connection["status"]["synchronizationStatus"]["error"] == "Missing permissions: watch"


def test_rights_that_are_back_have_what_was_missed_synchronised() -> None:
    """Only what was told is taken back: the error of a Director stays, and asks for nothing."""
    connection = _synchronized()
    cc.rights_missing(connection, "watch")
    cc.rights_restored(connection)
    assert connection["status"]["connectionState"] == "Connected"
    assert "error" not in connection["status"]["synchronizationStatus"]
    assert connection["spec"] == {"resyncNow": True}

    failed = _synchronized()
    cc.sync_failed(failed, "Failed to fetch configuration: 503", now=0)
    expected = copy.deepcopy(failed)
    cc.rights_restored(failed)
    assert failed == expected


def test_what_could_not_be_told_is_told_again() -> None:
    """The API server may refuse that write as well, or be away."""
    bench = Bench(WATCH)
    bench.server.denied = {("watch", "applications")}
    answers: list[ApiError | None] = [ConnectionFailed("away", reason=ConnectionFailed.REFUSED), None]
    told: list[tuple[Right, ...]] = []

    def tell(missing: tuple[Right, ...]) -> None:
        told.append(missing)
        if error := answers.pop(0):
            raise error

    bench.check.tell(tell)
    with bench:
        bench.later()
        bench.later()
        assert told == [(WATCH,), (WATCH,)]
