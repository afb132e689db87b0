"""The manager's rules: order of start and stop, waiting for caches, failures, the lease, checks."""

import http.client
import socket
import threading
from typing import Any

import pytest

from controller.runtime import (
    Controller,
    GracePeriodExceeded,
    LeaderElectionConfig,
    LeaderElectionLost,
    Manager,
    Result,
    RunnableFailed,
    ServerBindError,
)
from informers import EventHandlers, Forbidden
from workqueue.testing import VirtualClock

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lock"
ELECTION = LeaderElectionConfig(name="lock", namespace="ns", identity="a")
WAIT = 20.0


class Story:
    """What happened, in order. ``wait_for`` lets a test go on when something has."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.told: list[str] = []

    def tell(self, what: str) -> None:
        with self._changed:
            self.told.append(what)
            self._changed.notify_all()

    def wait_for(self, what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: what in self.told, WAIT), f"{what!r} not in {self.told}"

    def runnable(self, name: str, *, release: threading.Event | None = None) -> Any:
        """A function that runs until its stop event is set, and then until it is released."""

        def run(stop: threading.Event) -> None:
            self.tell(f"{name} starts")
            stop.wait(WAIT)
            self.tell(f"{name} is told to stop")
            if release is not None:
                release.wait(WAIT)
            self.tell(f"{name} ends")

        return run


class FakeInformer:
    """An informer that is synced when the test says so, and ends like ``end`` says."""

    def __init__(self, story: Story, name: str = "informer", *, has_synced: bool = True) -> None:
        self.name = name
        self.has_synced = has_synced
        self.last_error: Any = None
        self.failure: Exception | None = None
        self._run = story.runnable(name)

    def run(self, stop: threading.Event) -> None:
        if self.failure is not None:
            raise self.failure
        self._run(stop)

    def add_event_handler(self, _handlers: EventHandlers) -> Any:
        return self

    def remove_event_handler(self, _registration: object) -> None:
        """Nothing to remove."""


@pytest.fixture
def story() -> Story:
    return Story()


def make_manager(api: Any, clock: VirtualClock, **options: Any) -> Manager:
    return Manager(api, clock=clock, **options)


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


class TestOrder:
    def test_start_and_stop(self, api, clock, threads, story):
        """Informers, runnables, the lease, leader-only parts; then backwards, and the lease is released at the end."""
        manager = make_manager(api, clock, leader_election=ELECTION)
        manager.add_runnable("leader part", story.runnable("leader part"), leader_only=True)
        manager.add_runnable("part", story.runnable("part"), leader_only=False)
        manager.add_informer(FakeInformer(story))
        released_at: list[int] = []

        def watch(method: str, _path: str) -> None:
            holder = api.objects.get(PATH, {}).get("spec", {}).get("holderIdentity")
            if method == "POST":
                story.tell("lease acquired")
            elif method == "PUT" and holder == "a":
                released_at.append(len(story.told))
                story.tell("lease released")

        api.before = watch
        threads.start(manager.run)
        story.wait_for("leader part starts")
        # Runnables start in threads: where one begins to run is not ordered with the next group, but with the stop.
        story.wait_for("part starts")
        assert manager.elected.is_set()
        threads.end()
        told = story.told
        assert told.index("informer starts") < told.index("lease acquired") < told.index("leader part starts")
        assert told[-7:] == [
            "leader part is told to stop",
            "leader part ends",
            "part is told to stop",
            "part ends",
            "informer is told to stop",
            "informer ends",
            "lease released",
        ]
        assert api.objects[PATH]["spec"]["holderIdentity"] == ""

    def test_a_standby_runs_everything_but_the_leader_parts(self, api, clock, threads, story):
        """Caches are warm, metrics and health are served, nothing reconciles; a stop leaves the other's lease alone."""
        api.objects[PATH] = {
            "metadata": {"name": "lock", "resourceVersion": "0"},
            "spec": {"holderIdentity": "b", "leaseDurationSeconds": 15},
        }
        manager = make_manager(
            api, clock, leader_election=ELECTION, health_address="127.0.0.1:0", metrics_address="127.0.0.1:0"
        )
        manager.add_informer(FakeInformer(story))
        manager.add_runnable("part", story.runnable("part"), leader_only=False)
        manager.add_runnable("leader part", story.runnable("leader part"), leader_only=True)
        threads.start(manager.run)
        story.wait_for("part starts")
        clock.wait_for_waiters(1)
        assert get(manager.health_server.port, "/readyz") == (200, "ok")
        assert 'leader_election_master_status{name="lock"} 0.0' in get(manager.metrics_server.port, "/metrics")[1]
        threads.end()
        assert "leader part starts" not in story.told
        assert not manager.elected.is_set()
        assert api.objects[PATH]["spec"]["holderIdentity"] == "b"

    def test_without_election_the_leader_parts_start_at_once(self, api, clock, threads, story):
        """A single replica needs no lease."""
        manager = make_manager(api, clock)
        manager.add_runnable("leader part", story.runnable("leader part"), leader_only=True)
        threads.start(manager.run)
        story.wait_for("leader part starts")
        assert manager.elected.is_set()
        assert api.requests == []

    def test_controllers_reconcile_while_leading(self, api, clock, threads, story):
        """What was enqueued before is reconciled once the caches are filled."""
        reconciled = threading.Event()

        def reconcile(_key: str) -> Result:
            reconciled.set()
            return Result()

        informer = FakeInformer(story)
        controller = Controller("apps", reconcile, clock=clock)
        controller.watches(informer, lambda _obj: ())
        controller.enqueue("a")
        manager = make_manager(api, clock, leader_election=ELECTION)
        manager.add_informer(informer)
        manager.add_controller(controller)
        threads.start(manager.run)
        assert reconciled.wait(WAIT)


class TestCaches:
    def test_what_is_missing_is_told_each_ten_seconds_and_waited_for_without_end(
        self, api, clock, threads, story, caplog
    ):
        """A missing CRD or right can be mended while the process waits: no restart is needed, and the log says why."""
        missing = FakeInformer(story, "applications", has_synced=False)
        missing.last_error = Forbidden("applications is forbidden", status=403, reason="Forbidden")
        manager = make_manager(api, clock)
        manager.add_informer(missing)
        manager.add_informer(FakeInformer(story, "secrets"))
        manager.add_runnable("leader part", story.runnable("leader part"), leader_only=True)
        threads.start(manager.run)

        def told() -> list[Any]:
            return [r for r in caplog.records if r.getMessage() == "Still waiting for a cache"]

        for tenths in range(1, 601):
            clock.wait_for_waiters(1)
            clock.advance(0.1)
            if tenths == 95:
                assert told() == []
        clock.wait_for_waiters(1)
        assert len(told()) in (5, 6)  # the sixth is due within a tenth of a second of the end
        assert {r.informer for r in told()} == {"applications"}
        assert "applications is forbidden" in told()[0].reason
        assert "leader part starts" not in story.told
        missing.has_synced = True
        clock.advance(0.1)
        story.wait_for("leader part starts")

    def test_a_stop_ends_the_wait(self, api, clock, threads, story):
        """A process that never got to work stops like any other, and never touches the lease."""
        manager = make_manager(api, clock, leader_election=ELECTION)
        manager.add_informer(FakeInformer(story, has_synced=False))
        threads.start(manager.run)
        clock.wait_for_waiters(1)
        threads.end()
        assert story.told[-1] == "informer ends"
        assert api.requests == []

    def test_readyz_follows_the_caches(self, api, clock, threads, story):
        """Not ready before the caches are filled, but alive."""
        informer = FakeInformer(story, has_synced=False)
        manager = make_manager(api, clock, health_address="127.0.0.1:0")
        manager.add_informer(informer)
        threads.start(manager.run)
        clock.wait_for_waiters(1)
        port = manager.health_server.port
        assert get(port, "/readyz")[0] == 500
        assert get(port, "/healthz") == (200, "ok")
        informer.has_synced = True
        assert get(port, "/readyz") == (200, "ok")


class TestFailures:
    @pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3)], ids=repr)
    def test_a_runnable_that_raises_ends_the_process(self, error, api, clock, threads, story):
        """Everything else is stopped in order, the lease is released, and run raises what happened."""

        def fail(_stop: threading.Event) -> None:
            story.wait_for("part starts")
            raise error

        manager = make_manager(api, clock, leader_election=ELECTION)
        manager.add_runnable("part", story.runnable("part"), leader_only=False)
        manager.add_runnable("failing part", fail, leader_only=True)
        threads.start(manager.run)
        raised = threads.error()
        assert isinstance(raised, RunnableFailed)
        assert "failing part" in str(raised)
        assert raised.__cause__ is error
        assert threads.stop.is_set()
        assert story.told[-1] == "part ends"
        assert api.objects[PATH]["spec"]["holderIdentity"] == ""

    def test_an_informer_that_ends_is_a_failure(self, api, clock, threads, story):
        """A cache that nobody keeps must not be worked with."""
        informer = FakeInformer(story)
        informer.failure = RuntimeError("index function failed")
        manager = make_manager(api, clock)
        manager.add_informer(informer)
        threads.start(manager.run)
        raised = threads.error()
        assert isinstance(raised, RunnableFailed)
        assert raised.__cause__ is informer.failure

    def test_a_controller_that_ends_early_is_a_failure(self, api, clock, threads):
        """Nobody would reconcile its keys."""
        controller = Controller("apps", lambda _key: Result(), clock=clock)
        controller.run = lambda _stop: None  # type: ignore[method-assign]
        manager = make_manager(api, clock)
        manager.add_controller(controller)
        threads.start(manager.run)
        assert "although nobody stopped it" in str(threads.error())

    def test_a_runnable_may_end(self, api, clock, threads, story):
        """A task that has done its work is no failure."""
        manager = make_manager(api, clock)
        manager.add_runnable("task", lambda _stop: story.tell("done"), leader_only=True)
        threads.start(manager.run)
        story.wait_for("done")
        threads.end()

    def test_a_server_that_cannot_listen_is_a_failure_at_once(self, api, clock, threads, story):
        """Nothing else is started; servers that had started are given up."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            manager = make_manager(api, clock, metrics_address=f"127.0.0.1:{taken.getsockname()[1]}")
            manager.add_informer(FakeInformer(story))
            threads.start(manager.run)
            assert isinstance(threads.error(), ServerBindError)
        assert story.told == []

    def test_the_grace_period_bounds_the_stop(self, api, clock, threads, story):
        """Parts that do not end are named, and the lease is left to expire: they may still write."""
        release = threading.Event()
        manager = make_manager(api, clock, leader_election=ELECTION, grace_period=30)
        manager.add_runnable("stuck part", story.runnable("stuck part", release=release), leader_only=True)
        manager.add_runnable("part", story.runnable("part"), leader_only=False)
        threads.start(manager.run)
        story.wait_for("stuck part starts")
        story.wait_for("part starts")
        threads.stop.set()
        story.wait_for("stuck part is told to stop")
        clock.wait_for_waiters(3)  # the manager, the elector and its watchdog
        for _ in range(29):
            clock.advance(1)
            clock.wait_for_waiters(3)
        assert "part is told to stop" not in story.told
        clock.advance(1)
        raised = threads.error()
        assert isinstance(raised, GracePeriodExceeded)
        assert "stuck part" in str(raised)
        story.wait_for("part is told to stop")
        assert api.objects[PATH]["spec"]["holderIdentity"] == "a"
        release.set()

    def test_the_lease_is_renewed_during_the_grace_period(self, api, clock, threads, story):
        """Nobody else may start while the last reconciles end."""
        release = threading.Event()
        manager = make_manager(api, clock, leader_election=ELECTION)
        manager.add_runnable("slow part", story.runnable("slow part", release=release), leader_only=True)
        threads.start(manager.run)
        story.wait_for("slow part starts")
        threads.stop.set()
        story.wait_for("slow part is told to stop")
        for _ in range(20):
            clock.wait_for_waiters(3)
            clock.advance(1)
        clock.wait_for_waiters(3)
        assert api.objects[PATH]["spec"]["renewTime"] == "2026-01-01T00:00:20.000000Z"
        release.set()
        threads.join()
        assert api.objects[PATH]["spec"]["holderIdentity"] == ""


class TestLostLease:
    def test_it_ends_the_process_without_grace(self, api, clock, threads, story):
        """Somebody else may lead already: run raises at once, though a part is still running."""
        release = threading.Event()
        manager = make_manager(api, clock, leader_election=ELECTION)
        manager.add_runnable("slow part", story.runnable("slow part", release=release), leader_only=True)
        threads.start(manager.run)
        story.wait_for("slow part starts")
        clock.wait_for_waiters(2)
        api.change(PATH, lambda o: o["spec"].update(holderIdentity="b"))
        clock.advance(2)
        assert isinstance(threads.error(), LeaderElectionLost)
        story.wait_for("slow part is told to stop")
        assert "slow part ends" not in story.told
        assert api.objects[PATH]["spec"]["holderIdentity"] == "b"
        release.set()

    def test_it_outranks_another_failure(self, api, clock, threads, story):
        """While the process ends for another reason the lease may be lost: then there is no grace either."""
        release = threading.Event()
        manager = make_manager(api, clock, leader_election=ELECTION)
        manager.add_runnable("slow part", story.runnable("slow part", release=release), leader_only=True)
        threads.start(manager.run)
        story.wait_for("slow part starts")
        threads.stop.set()
        story.wait_for("slow part is told to stop")
        clock.wait_for_waiters(3)
        api.change(PATH, lambda o: o["spec"].update(holderIdentity="b"))
        clock.advance(2)
        assert isinstance(threads.error(), LeaderElectionLost)
        assert clock.monotonic() == 2
        release.set()


class TestChecks:
    def test_a_stuck_reconcile_fails_healthz(self, api, clock, threads):
        """Kubernetes restarts the pod when a worker hangs for longer than the bound."""
        entered = threading.Event()
        release = threading.Event()

        def reconcile(_key: str) -> Result:
            entered.set()
            release.wait(WAIT)
            return Result()

        controller = Controller("apps", reconcile, clock=clock)
        controller.enqueue("a")
        manager = make_manager(api, clock, health_address="127.0.0.1:0", stuck_after=600)
        manager.add_controller(controller)
        threads.start(manager.run)
        assert entered.wait(WAIT)
        assert get(manager.health_server.port, "/healthz") == (200, "ok")
        clock.advance(601)
        status, body = get(manager.health_server.port, "/healthz")
        assert status == 500
        assert "[-]workers failed: reason withheld\n" in body
        release.set()

    def test_an_ended_informer_fails_healthz(self, api, clock, threads, story):
        """Even while the process, ending for it, waits for its other parts."""
        release = threading.Event()
        ended = threading.Event()
        informer = FakeInformer(story)
        informer.run = lambda _stop: ended.wait(WAIT)  # type: ignore[method-assign]
        manager = make_manager(api, clock, health_address="127.0.0.1:0")
        manager.add_informer(informer)
        manager.add_runnable("slow part", story.runnable("slow part", release=release), leader_only=True)
        threads.start(manager.run)
        story.wait_for("slow part starts")
        assert get(manager.health_server.port, "/healthz/informers") == (200, "ok")
        ended.set()
        story.wait_for("slow part is told to stop")
        assert get(manager.health_server.port, "/healthz/informers")[0] == 500
        release.set()
        assert isinstance(threads.error(), RunnableFailed)

    def test_own_checks_are_asked(self, api, clock, threads):
        """What a program adds counts like what is there."""

        def fail() -> None:
            raise RuntimeError("no")

        manager = make_manager(api, clock, health_address="127.0.0.1:0")
        manager.add_health_check("own", fail)
        manager.add_ready_check("own", fail)
        threads.start(manager.run)
        clock.wait_for_waiters(0)
        while not threads.stop.wait(0.001):
            try:
                port = manager.health_server.port
                break
            except RuntimeError:
                continue
        assert get(port, "/healthz")[0] == 500
        assert get(port, "/readyz")[0] == 500


class TestNames:
    def test_names_are_unique(self, api, clock, story):
        """Two controllers of one name would share a queue's metrics. An informer may be called like a controller."""
        manager = make_manager(api, clock)
        manager.add_controller(Controller("apps", lambda _key: Result(), clock=clock))
        with pytest.raises(ValueError, match="'apps' is taken"):
            manager.add_controller(Controller("apps", lambda _key: Result(), clock=clock))
        with pytest.raises(ValueError, match="'apps' is taken"):
            manager.add_runnable("apps", story.runnable("apps"), leader_only=True)
        manager.add_informer(FakeInformer(story, "apps"))
        with pytest.raises(ValueError, match="'apps' is taken"):
            manager.add_informer(FakeInformer(story, "apps"))

    def test_a_manager_runs_once(self, api, clock, threads, story):
        """And nothing is added while it runs."""
        manager = make_manager(api, clock)
        manager.add_runnable("part", story.runnable("part"), leader_only=True)
        threads.start(manager.run)
        story.wait_for("part starts")
        with pytest.raises(RuntimeError, match="only once"):
            manager.run(threads.stop)
        with pytest.raises(RuntimeError, match="after run"):
            manager.add_runnable("other", story.runnable("other"), leader_only=True)
