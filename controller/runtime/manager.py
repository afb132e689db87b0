"""The manager starts and stops everything in a process in the right order, and ends it when a part of it fails.

Start: HTTP servers, informers, wait until their caches are filled, runnables, leader election, leader-only runnables
and controllers. A cache that cannot be filled is waited for without end, and reported: the cluster may well be mended.
Stop: the same backwards within the grace period, and at last the lease is released, so that the next leader starts only
when this one has written its last word. controller-runtime stops plain runnables before leader-only ones; here they go
after them, because what reconcilers use, such as the EventRecorder, has to outlast them.

Errors of ``run``:
    ServerBindError         an HTTP server cannot listen
    LeaderElectionLost      the lease is lost; raised at once, with everything still running: end the process
    RunnableFailed          a part ended that should not have; ``__cause__`` is its error
    GracePeriodExceeded     the parts it names had not ended in time; the lease is left to expire
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from controller.runtime.controller import Controller
from controller.runtime.health import Check, HealthHandler, HTTPServer, MetricsHandler
from controller.runtime.leader_election import Client, LeaderElectionConfig, LeaderElectionLost, LeaderElector
from controller.runtime.metrics import Metrics
from informers import KubernetesError
from workqueue import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

# controller-runtime's graceful shutdown period, and Kubernetes' terminationGracePeriodSeconds.
GRACE_PERIOD = 30.0
# Far above any reconcile that still does something: every request in it has a timeout of a minute or less.
STUCK_AFTER = 600.0
# A reader of the log should see within a probe or two what is missing, yet not more than a few lines a minute.
_REPORT_SECONDS = 10.0
# client-go polls HasSynced so often.
_SYNC_POLL_SECONDS = 0.1

Run = Callable[[threading.Event], None]


class RunnableFailed(Exception):
    """A part of the process ended by an error, or ended although it should run until the stop."""


class GracePeriodExceeded(Exception):
    """Parts of the process did not end within the grace period."""


class Informer(Protocol):
    """What the manager needs of a SharedInformer."""

    @property
    def name(self) -> str: ...
    @property
    def has_synced(self) -> bool: ...
    @property
    def last_error(self) -> KubernetesError | None: ...
    def run(self, stop: threading.Event) -> None: ...


class _Group:
    """Threads that are started and stopped together, in the clock's time."""

    def __init__(self, clock: Clock, on_failure: Callable[[RunnableFailed], None]) -> None:
        self.stop_event = threading.Event()
        self._clock = clock
        self._on_failure = on_failure
        self._changed = threading.Condition()
        # Started names, and those of them that have not ended.
        self._started: list[str] = []
        self._running: list[str] = []
        self._abandoned = False

    def start(self, name: str, run: Run, *, until_stop: bool) -> None:
        """Start a thread, unless the group was told to stop. until_stop: ending earlier counts as a failure."""
        with self._changed:
            if self.stop_event.is_set():
                return
            self._started.append(name)
            self._running.append(name)
        threading.Thread(target=self._run, args=(name, run, until_stop), name=name, daemon=True).start()

    def stop(self, deadline: float) -> list[str]:
        """Tell all threads to stop and wait until they did; return the names of those that have not by then."""
        with self._changed:
            self.stop_event.set()
            while self._running and not self._abandoned and (left := deadline - self._clock.monotonic()) > 0:
                self._clock.wait(self._changed, left)
            return list(self._running)

    def abandon(self) -> None:
        """Tell all threads to stop and let nobody wait for them any longer."""
        with self._changed:
            self._abandoned = True
            self.stop_event.set()
            self._changed.notify_all()

    def ended_early(self) -> list[str]:
        """Names of the threads that ended without having been told to."""
        with self._changed:
            return [] if self.stop_event.is_set() else [name for name in self._started if name not in self._running]

    def _run(self, name: str, run: Run, until_stop: bool) -> None:
        failure: RunnableFailed | None = None
        try:
            run(self.stop_event)
            if until_stop and not self.stop_event.is_set():
                failure = RunnableFailed(f"{name} ended although nobody stopped it")
        except BaseException as error:  # noqa: BLE001 - SystemExit of a thread would otherwise end it silently
            failure = RunnableFailed(f"{name}: {type(error).__name__}: {error}")
            failure.__cause__ = error
        with self._changed:
            self._running.remove(name)
            self._changed.notify_all()
        if failure is not None:
            log.error("A part of the process ended", exc_info=failure, extra={"part": name})
            self._on_failure(failure)


class Manager:
    """Runs informers, controllers and runnables until it is told to stop.

    leader_election: None runs the leader-only parts at once.
    health_address, metrics_address: "host:port" to serve /healthz and /readyz, and /metrics; "" and "0" serve nothing.
    grace_period: seconds in which all parts have to end.
    stuck_after: seconds after which a reconcile makes /healthz fail.
    """

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock = REAL_CLOCK,
        leader_election: LeaderElectionConfig | None = None,
        health_address: str = "",
        metrics_address: str = "",
        metrics: Metrics | None = None,
        grace_period: float = GRACE_PERIOD,
        stuck_after: float = STUCK_AFTER,
    ) -> None:
        self._client = client
        self._clock = clock
        self._leader_election = leader_election
        self._grace_period = grace_period
        self._stuck_after = stuck_after
        self.metrics = metrics if metrics is not None else Metrics()
        self.elected = threading.Event()  # set when the leader-only parts start

        self._informers: list[Informer] = []
        self._controllers: list[Controller[Any]] = []
        self._runnables: list[tuple[str, Run]] = []
        self._leader_runnables: list[tuple[str, Run]] = []
        # An informer may be called like the controller that reads from it.
        self._informer_names: set[str] = set()
        self._part_names: set[str] = set()

        self._informer_group = _Group(clock, self._fail)
        self._runnable_group = _Group(clock, self._fail)
        self._election_group = _Group(clock, self._fail)
        self._leader_group = _Group(clock, self._fail)

        self._lock = threading.Lock()
        self._stop: threading.Event | None = None
        self._error: RunnableFailed | LeaderElectionLost | None = None
        self._late: list[str] = []

        self._health = HealthHandler("/healthz")
        self._ready = HealthHandler("/readyz")
        self._health.add("workers", self._check_workers)
        self._health.add("informers", self._check_informers)
        self._ready.add("informers", self._check_synced)
        self.health_server = HTTPServer(
            "health", health_address, {handler.path: handler for handler in (self._health, self._ready)}
        )
        self.metrics_server = HTTPServer(
            "metrics", metrics_address, {MetricsHandler.path: MetricsHandler(self.metrics.registry)}
        )
        self._servers = [server for server in (self.health_server, self.metrics_server) if server.enabled]

    def add_informer(self, informer: Informer) -> None:
        """Run the informer, and wait for its cache before any reconcile. Raises ValueError when its name is taken."""
        self._add_name(informer.name, self._informer_names)
        self.metrics.informer(informer.name)
        self._informers.append(informer)

    def add_controller(self, controller: Controller[Any]) -> None:
        """Run the controller while this process leads. Raises ValueError when its name is taken."""
        self._add_name(controller.name, self._part_names)
        self._controllers.append(controller)

    def add_runnable(self, name: str, run: Run, *, leader_only: bool) -> None:
        """Run a function in a thread of its own; it must return soon after the event it is given is set.

        leader_only: while this process leads, like a controller; else once the caches are filled, until after the
        controllers have stopped. Raises ValueError when the name is taken.
        """
        self._add_name(name, self._part_names)
        (self._leader_runnables if leader_only else self._runnables).append((name, run))

    def add_health_check(self, name: str, check: Check) -> None:
        """Let /healthz fail, and so the pod be restarted, while check raises."""
        self._health.add(name, check)

    def add_ready_check(self, name: str, check: Check) -> None:
        """Let /readyz fail while check raises."""
        self._ready.add(name, check)

    def run(self, stop: threading.Event) -> None:
        """Run everything until stop is set, then end everything. Blocks; the errors are listed above.

        Sets stop itself when a part fails. Signal handlers run in the main thread only, which is free to do so while
        it waits here. Raises RuntimeError when called twice.
        """
        if self._stop is not None:
            raise RuntimeError("a manager runs only once")
        self._stop = stop
        try:
            for server in self._servers:
                server.start()
            self._start(stop)
            stop.wait()
            self._end()
        except BaseException:
            self._abandon()
            for server in self._servers:
                server.stop()
            raise
        if self._error is not None:
            raise self._error
        if self._late:
            raise GracePeriodExceeded(f"still running after {self._grace_period:g} s: {', '.join(self._late)}")

    # Start.

    def _start(self, stop: threading.Event) -> None:
        for informer in self._informers:
            self._informer_group.start(informer.name, informer.run, until_stop=True)
        if not self._wait_for_caches(stop):
            return
        for name, run in self._runnables:
            self._runnable_group.start(name, run, until_stop=False)
        if self._leader_election is None:
            self._lead()
            return
        elector = LeaderElector(
            self._client,
            self._leader_election,
            on_started=self._lead,
            on_stopped=self._stopped_leading,
            clock=self._clock,
            metrics=self.metrics,
        )
        self._election_group.start(
            "leader-election", lambda stop: elector.run(stop, release=lambda: not self._late), until_stop=False
        )

    def _wait_for_caches(self, stop: threading.Event) -> bool:
        """Wait until every informer has its initial list; False when stop was set before."""
        log.info("Waiting for caches", extra={"informers": len(self._informers)})
        report_at = self._clock.monotonic() + _REPORT_SECONDS
        while missing := [informer for informer in self._informers if not informer.has_synced]:
            if self._clock.monotonic() >= report_at:
                report_at += _REPORT_SECONDS
                for informer in missing:
                    reason = str(informer.last_error or "the list has not come in yet")
                    log.warning("Still waiting for a cache", extra={"informer": informer.name, "reason": reason})
            if self._clock.sleep(_SYNC_POLL_SECONDS, stop):
                return False
        log.info("Caches are filled")
        return True

    def _lead(self) -> None:
        self.elected.set()
        for name, run in self._leader_runnables:
            self._leader_group.start(name, run, until_stop=False)
        for controller in self._controllers:
            self._leader_group.start(controller.name, controller.run, until_stop=True)

    # Stop.

    def _end(self) -> None:
        deadline = self._clock.monotonic() + self._grace_period
        for group in (self._leader_group, self._runnable_group, self._informer_group):
            self._late += group.stop(deadline)
        if isinstance(self._error, LeaderElectionLost):
            return
        if self._late:
            log.error("The grace period is over", extra={"still_running": ", ".join(self._late)})
        for server in self._servers:
            server.stop()
        # Whatever the grace period has left, releasing takes one or two requests, and each of them has a timeout.
        self._election_group.stop(self._clock.monotonic() + self._grace_period)

    def _abandon(self) -> None:
        for group in (self._leader_group, self._runnable_group, self._informer_group, self._election_group):
            group.abandon()

    def _stopped_leading(self, lost: LeaderElectionLost | None) -> None:
        if lost is not None:
            log.error("Leader election lost", extra={"reason": str(lost)})
            self._fail(lost)

    def _fail(self, error: RunnableFailed | LeaderElectionLost) -> None:
        with self._lock:
            # The lost lease outranks what failed before: it allows no grace.
            if self._error is None or isinstance(error, LeaderElectionLost):
                self._error = error
        if isinstance(error, LeaderElectionLost):
            self._abandon()
        if self._stop is not None:
            self._stop.set()

    # Checks.

    def _check_workers(self) -> None:
        for controller in self._controllers:
            controller.check(stuck_after=self._stuck_after)

    def _check_informers(self) -> None:
        if ended := self._informer_group.ended_early():
            raise RuntimeError(f"informer ended: {', '.join(ended)}")

    def _check_synced(self) -> None:
        if missing := [informer.name for informer in self._informers if not informer.has_synced]:
            raise RuntimeError(f"not synced: {', '.join(missing)}")

    def _add_name(self, name: str, names: set[str]) -> None:
        if self._stop is not None:
            raise RuntimeError(f"{name}: added after run()")
        if name in names:
            raise ValueError(f"the name {name!r} is taken")
        names.add(name)
