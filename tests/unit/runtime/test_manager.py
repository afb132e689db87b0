"""The manager's rules: order of start and stop, waiting for caches, failures, the lease, checks."""

import contextlib
import http.client
import logging
import socket
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from controller.runtime import (
    Controller,
    GracePeriodExceeded,
    LeaderElectionConfig,
    Manager,
    Metrics,
    Result,
    RunnableFailed,
    ServerBindError,
)
from controller.runtime.group import Group
from informers import Client, ConnectionFailed, EventHandlers, Forbidden, NotFound, Stopped
from tests.clock import VirtualClock
from tests.fake_api_server.waiting import eventually
from tests.unit.runtime.conftest import FakeApi, Threads

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lock"
ELECTION = LeaderElectionConfig(name="lock", namespace="ns", identity="a")
HELD = {
    "metadata": {"name": "lock", "resourceVersion": "0"},
    "spec": {"holderIdentity": "b", "leaseDurationSeconds": 15},
}
WAIT = 60.0
ALWAYS = threading.Event()
ALWAYS.set()


class Story:
    """What happened, in order. `wait_for` lets a test go on when something has."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.lines: list[str] = []

    def add(self, what: str) -> None:
        with self._changed:
            self.lines.append(what)
            self._changed.notify_all()

    def wait_for(self, what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: what in self.lines, WAIT), f"{what!r} not in {self.lines}"

    def wait_for_count(self, what: str, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.lines.count(what) >= count, WAIT), self.lines

    def runnable(self, name: str, released: threading.Event) -> Any:
        """A function that runs until its stop event is set, and then until it is released."""

        def run(stop: threading.Event) -> None:
            self.add(f"{name} starts")
            stop.wait(WAIT)
            self.add(f"{name} has to stop")
            released.wait(WAIT)
            self.add(f"{name} ends")

        return run


class FakeInformer:
    """An informer that is synced when the test says so."""

    def __init__(self, story: Story, name: str = "informer", *, has_synced: bool = True) -> None:
        self.name = name
        self.has_synced = has_synced
        self.last_error: Any = None
        self.relists: list[float | None] = []  # since when
        self.failure: Exception | None = None
        self._run = story.runnable(name, ALWAYS)

    def run(self, stop: threading.Event) -> None:
        if self.failure is not None:
            raise self.failure
        self._run(stop)

    @property
    def is_watching(self) -> bool:
        return self.last_error is None

    def relist(self, *, since: float | None) -> None:
        self.relists.append(since)

    def add_event_handler(self, _handlers: EventHandlers) -> Any:
        return self

    def remove_event_handler(self, _registration: object) -> None:
        """Nothing to remove."""


class Bench:
    """What a manager needs, and the story of its parts. Parts named "slow" or "stuck" end only after `release`."""

    def __init__(self, api: FakeApi, clock: VirtualClock, threads: Threads) -> None:
        self.api, self.clock, self.threads, self.story = api, clock, threads, Story()
        self.release = threading.Event()

    def manager(
        self, *informers: FakeInformer, parts: Iterable[str] = (), leader_parts: Iterable[str] = (), **options: Any
    ) -> Manager:
        manager = Manager(cast("Client", self.api), clock=self.clock, **options)
        for informer in informers:
            manager.add_informer(informer)
        for leader_only, names in ((False, parts), (True, leader_parts)):
            for name in names:
                released = self.release if name.startswith(("slow", "stuck")) else ALWAYS
                manager.add_runnable(name, self.story.runnable(name, released), leader_only=leader_only)
        return manager

    def whole_manager(self) -> Manager:
        """With one of each: an informer, a part, a leader part, the election and both servers."""
        return self.manager(
            FakeInformer(self.story),
            parts=["part"],
            leader_parts=["leader part"],
            leader_election=ELECTION,
            health_port=0,
            metrics_port=0,
        )

    def start(self, manager: Manager, *, until: str) -> None:
        self.threads.start(manager.run)
        self.story.wait_for(until)

    def take_lease(self, *, waiters: int = 2) -> None:
        """Another process becomes the holder, and the elector finds that out."""
        self.clock.wait_for_waiters(waiters)
        taken = {"holderIdentity": "b", "renewTime": "2026-01-02T00:00:00.000000Z"}
        self.api.change(PATH, lambda o: o["spec"].update(taken))
        self.clock.advance(2)

    def release_lease(self) -> None:
        """That process gives the Lease up."""
        self.clock.wait_for_waiters(1)
        self.api.change(PATH, lambda o: o["spec"].update(holderIdentity="", leaseDurationSeconds=1))


@pytest.fixture
def bench(api: FakeApi, clock: VirtualClock, threads: Threads) -> Iterator[Bench]:
    bench = Bench(api, clock, threads)
    yield bench
    bench.release.set()


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


class TestOrder:
    def test_start_and_stop(self, bench: Bench) -> None:
        """Informers, runnables, the lease, leader-only parts; then backwards, and the lease is released at the end."""
        manager = bench.manager(
            FakeInformer(bench.story), parts=["part"], leader_parts=["leader part"], leader_election=ELECTION
        )

        def watch(method: str, _path: str) -> None:
            holder = bench.api.objects.get(PATH, {}).get("spec", {}).get("holderIdentity")
            if method == "POST":
                bench.story.add("lease acquired")
            elif method == "PUT" and holder == "a":
                bench.story.add("lease released")

        bench.api.before = watch
        bench.start(manager, until="leader part starts")
        # Runnables start in threads: where one begins to run is not ordered with the next group, but with the stop.
        bench.story.wait_for("part starts")
        assert manager.elected.is_set()
        bench.threads.end()
        lines = bench.story.lines
        assert lines.index("informer starts") < lines.index("lease acquired") < lines.index("leader part starts")
        assert lines[-7:] == [
            "leader part has to stop",
            "leader part ends",
            "part has to stop",
            "part ends",
            "informer has to stop",
            "informer ends",
            "lease released",
        ]
        assert bench.api.objects[PATH]["spec"]["holderIdentity"] == ""

    def test_a_standby_runs_everything_but_the_leader_parts(self, bench: Bench) -> None:
        """Caches are warm, metrics and health are served, nothing reconciles; a stop leaves the other's lease alone."""
        bench.api.objects[PATH] = HELD
        manager = bench.whole_manager()
        bench.start(manager, until="part starts")
        bench.clock.wait_for_waiters(2)
        assert get(manager.servers["health"].port, "/readyz") == (200, "ok")
        assert 'leader_election_master_status{name="lock"} 0.0' in get(manager.servers["metrics"].port, "/metrics")[1]
        bench.threads.end()
        assert "leader part starts" not in bench.story.lines
        assert not manager.elected.is_set()
        assert bench.api.objects[PATH]["spec"]["holderIdentity"] == "b"

    def test_a_standby_that_stops_waits_no_longer_for_the_lease(self, bench: Bench) -> None:
        """It could acquire it while its parts end, and no replica would lead."""
        bench.api.objects[PATH] = HELD
        bench.start(bench.manager(parts=["slow part"], leader_election=ELECTION), until="slow part starts")
        eventually(lambda: "leader-election" in {thread.name for thread in threading.enumerate()})
        bench.threads.stop.set()
        eventually(lambda: "leader-election" not in {thread.name for thread in threading.enumerate()}, timeout=20)
        assert "slow part ends" not in bench.story.lines

    def test_no_thread_is_left_after_the_stop(self, bench: Bench) -> None:
        """Neither of the manager, nor of its servers, the election, informers and controllers."""
        before = {*threading.enumerate()}
        manager = bench.whole_manager()
        manager.add_controllers(
            lambda _client: [Controller("apps", lambda _key: Result(), workers=4, clock=bench.clock)]
        )
        bench.start(manager, until="leader part starts")
        bench.threads.end()
        eventually(lambda: {*threading.enumerate()} <= before)

    def test_without_election_the_leader_parts_start_at_once(self, bench: Bench) -> None:
        manager = bench.manager(leader_parts=["leader part"])
        bench.start(manager, until="leader part starts")
        assert manager.elected.is_set()
        assert bench.api.requests == []


class TestCaches:
    def test_a_missing_cache_is_logged_and_waited_for(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        """A missing CRD or permission needs no restart. The log says what is missing. Runnables run meanwhile."""
        missing = FakeInformer(bench.story, "applications", has_synced=False)
        missing.last_error = Forbidden("applications is forbidden", status=403, reason="Forbidden")
        manager = bench.manager(
            missing, FakeInformer(bench.story, "secrets"), parts=["part"], leader_parts=["leader part"]
        )
        bench.start(manager, until="part starts")

        def records() -> list[Any]:
            return [r for r in caplog.records if r.getMessage() == "Still waiting for a cache"]

        for tenths in range(1, 601):
            bench.clock.wait_for_waiters(2)
            bench.clock.advance(0.1)
            if tenths == 95:
                assert records() == []
        bench.clock.wait_for_waiters(2)
        assert len(records()) in (5, 6)  # the sixth is due within a tenth of a second of the end
        assert {r.informer for r in records()} == {"applications"}
        assert "applications is forbidden" in records()[0].error
        assert "leader part starts" not in bench.story.lines
        missing.has_synced, missing.last_error = True, None
        bench.clock.advance(0.1)
        bench.story.wait_for("leader part starts")

    def test_a_stop_ends_the_wait(self, bench: Bench) -> None:
        """A process that never got to work stops like any other, and never touches the lease."""
        manager = bench.manager(FakeInformer(bench.story, has_synced=False), leader_election=ELECTION)
        bench.threads.start(manager.run)
        bench.clock.wait_for_waiters(2)
        bench.threads.end()
        assert bench.story.lines[-1] == "informer ends"
        assert bench.api.requests == []

    def test_readyz_follows_the_caches(self, bench: Bench) -> None:
        """Not ready before the caches are filled, but alive."""
        informer = FakeInformer(bench.story, has_synced=False)
        manager = bench.manager(informer, health_port=0)
        bench.threads.start(manager.run)
        bench.clock.wait_for_waiters(2)
        port = manager.servers["health"].port
        assert get(port, "/readyz")[0] == 500
        assert get(port, "/healthz") == (200, "ok")
        informer.has_synced = True
        assert get(port, "/readyz") == (200, "ok")


class TestFailures:
    @pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3)], ids=repr)
    def test_a_runnable_that_raises_ends_the_process(self, bench: Bench, error: Exception) -> None:
        """Everything else is stopped in order, the lease is released, and run raises what happened."""

        def fail(_stop: threading.Event) -> None:
            bench.story.wait_for("part starts")
            raise error

        manager = bench.manager(parts=["part"], leader_election=ELECTION)
        manager.add_runnable("failing part", fail, leader_only=True)
        bench.threads.start(manager.run)
        raised = bench.threads.error()
        assert isinstance(raised, RunnableFailed)
        assert "failing part" in str(raised)
        assert raised.__cause__ is error
        assert bench.threads.stop.is_set()
        assert bench.story.lines[-1] == "part ends"
        assert bench.api.objects[PATH]["spec"]["holderIdentity"] == ""

    def test_an_informer_that_ends_is_a_failure(self, bench: Bench) -> None:
        """Its cache is out of date from then on."""
        informer = FakeInformer(bench.story)
        informer.failure = RuntimeError("index function failed")
        manager = bench.manager(informer)
        bench.threads.start(manager.run)
        raised = bench.threads.error()
        assert isinstance(raised, RunnableFailed)
        assert raised.__cause__ is informer.failure

    def test_a_server_that_cannot_listen_is_a_failure_at_once(self, bench: Bench) -> None:
        """Nothing else is started; servers that had started are given up."""
        with socket.create_server(("", 0)) as taken:
            manager = bench.manager(FakeInformer(bench.story), metrics_port=taken.getsockname()[1])
            bench.threads.start(manager.run)
            assert isinstance(bench.threads.error(), ServerBindError)
        assert bench.story.lines == []

    def test_the_grace_period_bounds_the_stop(self, bench: Bench) -> None:
        """Parts that do not end are named, and the lease is left to expire: they may still write."""
        manager = bench.manager(parts=["part"], leader_parts=["stuck part"], leader_election=ELECTION)
        bench.start(manager, until="stuck part starts")
        bench.story.wait_for("part starts")
        bench.threads.stop.set()
        bench.story.wait_for("stuck part has to stop")
        bench.clock.wait_for_waiters(3)  # the manager, the elector and its watchdog
        for _ in range(29):
            bench.clock.advance(1)
            bench.clock.wait_for_waiters(3)
        assert "part has to stop" not in bench.story.lines
        bench.clock.advance(1)
        raised = bench.threads.error()
        assert isinstance(raised, GracePeriodExceeded)
        assert "stuck part" in str(raised)
        bench.story.wait_for("part has to stop")
        assert bench.api.objects[PATH]["spec"]["holderIdentity"] == "a"

    def test_a_part_that_stops_after_a_stuck_one_has_its_own_time(self, bench: Bench) -> None:
        """For example, to write the last Events."""

        def write_the_rest(stop: threading.Event) -> None:
            stop.wait(WAIT)
            bench.clock.sleep(5, threading.Event())
            bench.story.add("the rest is written")

        manager = bench.manager(leader_parts=["stuck part"])
        manager.add_runnable("events", write_the_rest, leader_only=False)
        bench.start(manager, until="stuck part starts")
        bench.threads.stop.set()
        bench.story.wait_for("stuck part has to stop")
        bench.clock.wait_for_waiters(1)
        bench.clock.advance(30)
        bench.clock.wait_for_waiters(2)
        bench.clock.advance(5)
        assert "stuck part" in str(bench.threads.error())
        assert bench.story.lines[-1] == "the rest is written"

    def test_a_failure_is_reported_before_its_part_counts_as_ended(self, clock: VirtualClock) -> None:
        """Otherwise a failure during the stop could be reported when the process has ended with success."""
        running: list[list[str]] = []

        def fail(stop: threading.Event) -> None:
            stop.wait(WAIT)
            raise ValueError("boom")

        group = Group(clock, lambda _error: running.append(group.end(clock.monotonic())))
        group.start("part", fail, until_stop=False)
        assert group.end(WAIT) == []
        assert running == [["part"]]

    def test_a_failure_outranks_a_part_that_does_not_end(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        """run() raises what ended the process; the log names what it could not wait for."""

        def fail(_stop: threading.Event) -> None:
            bench.story.wait_for("stuck part starts")
            raise ValueError("boom")

        manager = bench.manager(leader_parts=["stuck part"])
        manager.add_runnable("failing part", fail, leader_only=True)
        bench.start(manager, until="stuck part has to stop")
        bench.clock.wait_for_waiters(1)
        bench.clock.advance(30)
        raised = bench.threads.error()
        assert isinstance(raised, RunnableFailed)
        assert "boom" in str(raised)
        (record,) = [r for r in caplog.records if r.getMessage() == "The grace period has ended"]
        # The thread that starts the parts may be among them: on this clock the grace period takes no time.
        assert "stuck part" in record.stillRunning.split(", ")  # type: ignore[attr-defined]

    def test_the_lease_is_renewed_during_the_grace_period(self, bench: Bench) -> None:
        """No other replica may start while the last reconciles end."""
        manager = bench.manager(leader_parts=["slow part"], leader_election=ELECTION)
        bench.start(manager, until="slow part starts")
        bench.threads.stop.set()
        bench.story.wait_for("slow part has to stop")
        for _ in range(20):
            bench.clock.wait_for_waiters(3)
            bench.clock.advance(1)
        bench.clock.wait_for_waiters(3)
        assert bench.api.objects[PATH]["spec"]["renewTime"] == "2026-01-01T00:00:20.000000Z"
        bench.release.set()
        bench.threads.join()
        assert bench.api.objects[PATH]["spec"]["holderIdentity"] == ""


class Term:
    """What a test sees of the terms of one manager: their clients, and reconcilers that hang until `release`."""

    def __init__(self) -> None:
        self.clients: list[Any] = []
        self.reconciled: list[tuple[int, str]] = []
        self.entered = threading.Event()
        self.release = threading.Event()
        self.release.set()
        self.raised: list[BaseException] = []

    def build(self, client: Any) -> list[Controller[str]]:
        self.clients.append(client)
        term = len(self.clients)

        def reconcile(key: str) -> Result:
            self.entered.set()
            self.release.wait(WAIT)
            try:
                client.request("GET", PATH, timeout=1.0)
            except BaseException as error:
                self.raised.append(error)
                raise
            self.reconciled.append((term, key))
            return Result()

        controller: Controller[str] = Controller("apps", reconcile, clock=VirtualClock())
        controller.enqueue(f"of term {term}")
        return [controller]


def refused(_method: str, _path: str) -> None:
    raise ConnectionFailed("connection refused", reason=ConnectionFailed.REFUSED)


class TestLostLease:
    """A lost lease ends the term, and not the process."""

    def test_an_outage_of_the_api_server_ends_the_term_only(self, bench: Bench) -> None:
        """The leader part ends at the renew deadline, all else goes on. A second after the return it leads again.

        The requests for the Lease show the outage, though all watches seem to work. Then all list again.
        """
        informer = FakeInformer(bench.story)
        manager = bench.manager(informer, parts=["part"], leader_parts=["leader part"], leader_election=ELECTION)
        bench.start(manager, until="leader part starts")
        bench.clock.wait_for_waiters(3)  # the elector, its watchdog, and the recovery
        bench.api.before = refused
        for second in range(1, 61):
            bench.clock.advance(1)
            if second == ELECTION.renew_deadline:
                bench.story.wait_for("leader part ends")
                assert not manager.elected.is_set()
            bench.clock.wait_for_waiters(2)
        bench.api.before = lambda _method, _path: None
        assert bench.story.lines.count("leader part starts") == 1
        bench.clock.advance(1)
        assert manager.elected.wait(WAIT)
        bench.story.wait_for_count("leader part starts", 2)
        eventually(lambda: informer.relists == [60])  # the last moment of the outage
        assert not bench.threads.stop.is_set()
        assert not {"informer has to stop", "part has to stop"} & {*bench.story.lines}
        assert bench.api.objects[PATH]["spec"]["leaseTransitions"] == 0  # no other replica has led meanwhile
        bench.threads.end()
        assert bench.api.objects[PATH]["spec"]["holderIdentity"] == ""

    def test_after_an_outage_the_back_offs_of_controllers_end(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of those of the current term; a watch that broke shows the outage."""
        controller: Controller[str] = Controller("apps", lambda _key: Result(), clock=bench.clock)
        monkeypatch.setattr(controller, "retry_now", lambda: bench.story.add("retried"))
        informer = FakeInformer(bench.story)
        manager = bench.manager(informer)
        manager.add_controllers(lambda _client: [controller])
        bench.threads.start(manager.run)
        bench.clock.wait_for_waiters(2)  # the recovery, and the worker
        informer.last_error = ConnectionFailed("connection refused", reason=ConnectionFailed.REFUSED)
        for answer in (refused, refused, lambda _method, _path: None):
            bench.api.before = answer
            assert "retried" not in bench.story.lines
            bench.clock.advance(1)
            bench.clock.wait_for_waiters(2)
        bench.story.wait_for("retried")

    def test_each_term_has_its_own_controllers_and_client(self, bench: Bench) -> None:
        """What one term remembers, plans or has queued is not there in the next, and its client sends nothing more."""
        terms = Term()
        manager = bench.manager(leader_election=ELECTION)
        manager.add_controllers(terms.build)
        bench.threads.start(manager.run)
        for number in (1, 2):
            assert manager.elected.wait(WAIT)
            eventually(lambda number=number: terms.reconciled[-1:] == [(number, f"of term {number}")])  # type: ignore[misc]
            bench.take_lease()
            eventually(lambda: not manager.elected.is_set())
            with pytest.raises(Stopped):
                terms.clients[-1].request("GET", PATH, timeout=1.0)
            bench.release_lease()
            bench.clock.advance(2)
        assert terms.reconciled == [(1, "of term 1"), (2, "of term 2")]

    def test_the_work_of_a_term_ends_with_it_by_the_clock(self, bench: Bench) -> None:
        """A process that was suspended sends nothing, to Compass neither, even if the watchdog did not run yet."""
        terms = Term()
        manager = bench.manager(leader_election=ELECTION)
        manager.add_controllers(terms.build)
        bench.threads.start(manager.run)
        eventually(lambda: terms.reconciled != [])
        assert not terms.clients[0].stop.is_set()
        bench.api.before = refused
        bench.clock.advance(ELECTION.renew_deadline)
        assert terms.clients[0].stop.is_set()

    def test_a_lost_term_leaves_nothing_in_memory(self, bench: Bench) -> None:
        """Its objects refer to each other."""

        class Work:
            def __init__(self) -> None:
                self.controller: Controller[str] = Controller("apps", self.reconcile, clock=VirtualClock())

            def reconcile(self, _key: str) -> Result:
                return Result()

        left = []

        def build(_client: Any) -> list[Controller[str]]:
            work = Work()
            left.append(weakref.ref(work))
            return [work.controller]

        manager = bench.manager(leader_election=ELECTION)
        manager.add_controllers(build)
        bench.threads.start(manager.run)
        eventually(lambda: len(left) == 1)
        bench.take_lease()
        eventually(lambda: left[0]() is None)

    def test_a_reconcile_of_a_lost_term_sends_nothing_more(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is given up, which is no failure: not logged as one, not counted, not tried again. The next term waits."""
        terms = Term()
        terms.release.clear()
        metrics = Metrics()
        manager = bench.manager(leader_election=ELECTION, metrics=metrics)
        manager.add_controllers(terms.build)
        bench.threads.start(manager.run)
        assert terms.entered.wait(WAIT)
        bench.take_lease()
        eventually(lambda: not manager.elected.is_set())
        bench.release_lease()
        bench.clock.advance(3)
        bench.clock.wait_for_waiters(1)
        requests = len(bench.api.requests)
        assert len(terms.clients) == 1
        terms.release.set()
        assert manager.elected.wait(WAIT)
        assert [type(error) for error in terms.raised] == [Stopped]
        assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []
        assert bench.api.requests[requests][:2] == ("GET", PATH)  # the elector's, not the reconcile's
        assert terms.reconciled[:1] in ([], [(2, "of term 2")])

    def test_a_part_that_does_not_end_ends_the_process(self, bench: Bench) -> None:
        """Two terms never work at the same time: what still runs after the grace period is named."""
        manager = bench.manager(leader_parts=["stuck part"], leader_election=ELECTION)
        bench.start(manager, until="stuck part starts")
        bench.take_lease()
        bench.story.wait_for("stuck part has to stop")
        bench.clock.wait_for_waiters(1)
        bench.clock.advance(29)
        bench.clock.wait_for_waiters(1)
        assert not bench.threads.stop.is_set()
        bench.clock.advance(1)
        raised = bench.threads.error()
        assert isinstance(raised, GracePeriodExceeded)
        assert "stuck part" in str(raised)
        assert "Lease was lost" in str(raised)
        assert bench.api.objects[PATH]["spec"]["holderIdentity"] == "b"

    def test_a_loss_during_the_stop_changes_nothing_of_it(self, bench: Bench) -> None:
        """The parts end within the grace period; what is held by another is not released."""
        manager = bench.manager(leader_parts=["slow part"], leader_election=ELECTION)
        bench.start(manager, until="slow part starts")
        bench.threads.stop.set()
        bench.story.wait_for("slow part has to stop")
        bench.take_lease(waiters=3)
        eventually(lambda: not manager.elected.is_set())
        bench.release.set()
        bench.threads.join()
        assert bench.clock.monotonic() == 2
        assert bench.api.objects[PATH]["spec"]["holderIdentity"] == "b"

    def test_a_term_waits_for_interrupted_watches(self, bench: Bench) -> None:
        """Caches of before an outage are not worked with, as long as they can be expected to come up to date."""
        informer = FakeInformer(bench.story)
        informer.last_error = ConnectionFailed("connection refused", reason=ConnectionFailed.REFUSED)
        manager = bench.manager(informer, leader_parts=["leader part"], leader_election=ELECTION)
        bench.threads.start(manager.run)
        assert manager.elected.wait(WAIT)
        bench.clock.wait_for_waiters(4)
        bench.clock.advance(0.1)
        bench.clock.wait_for_waiters(4)
        assert "leader part starts" not in bench.story.lines
        informer.last_error = None
        bench.clock.advance(0.1)
        bench.story.wait_for("leader part starts")

    def test_an_interrupted_watch_delays_a_term_by_ten_seconds(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After ten seconds it begins, and the log says which cache may be old."""
        informer = FakeInformer(bench.story, "applications")
        informer.last_error = Forbidden("applications is forbidden", status=403, reason="Forbidden")
        manager = bench.manager(informer, leader_parts=["leader part"], leader_election=ELECTION)
        bench.threads.start(manager.run)
        assert manager.elected.wait(WAIT)
        for _ in range(101):
            bench.clock.wait_for_waiters(4)
            bench.clock.advance(0.1)
        bench.story.wait_for("leader part starts")
        (record,) = [r for r in caplog.records if r.getMessage() == "Caches may be out of date"]
        assert record.informers == "applications"  # type: ignore[attr-defined]


class TestChecks:
    def test_a_stuck_reconcile_fails_healthz(self, bench: Bench) -> None:
        """Kubernetes restarts the pod when a worker hangs for longer than the bound."""
        entered = threading.Event()

        def reconcile(_key: str) -> Result:
            entered.set()
            bench.release.wait(WAIT)
            return Result()

        controller = Controller("apps", reconcile, clock=bench.clock)
        controller.enqueue("ns/a")
        manager = bench.manager(health_port=0)
        manager.add_controllers(lambda _client: [controller])
        bench.threads.start(manager.run)
        assert entered.wait(WAIT)
        port = manager.servers["health"].port
        bench.clock.advance(600)
        assert get(port, "/healthz") == (200, "ok")
        bench.clock.advance(0.5)
        assert get(port, "/healthz")[0] == 500
        assert "ns/a" in get(port, "/healthz/workers")[1]
        bench.release.set()
        bench.clock.wait_for_waiters(1)
        assert get(port, "/healthz") == (200, "ok")

    def test_a_long_reconcile_is_not_stuck_while_it_gets_answers(self, bench: Bench) -> None:
        """Sixty Secrets behind a webhook that times out: a restart of the Pod would begin again with the first one."""
        tried = threading.Event()

        def controllers(client: Client) -> list[Controller[str]]:
            def reconcile(_key: str) -> Result:
                for _ in range(3):
                    bench.clock.advance(599)
                    with contextlib.suppress(NotFound):
                        client.request("GET", PATH, timeout=1)
                    manager._check_workers()
                tried.set()
                return Result()

            controller = Controller("apps", reconcile, clock=bench.clock)
            controller.enqueue("a")
            return [controller]

        manager = bench.manager()
        manager.add_controllers(controllers)
        bench.threads.start(manager.run)
        assert tried.wait(WAIT)


def test_a_manager_runs_once(bench: Bench) -> None:
    manager = bench.manager(leader_parts=["part"])
    bench.start(manager, until="part starts")
    with pytest.raises(RuntimeError, match="only once"):
        manager.run(bench.threads.stop)
