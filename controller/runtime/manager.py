"""The manager starts and stops all components of a process in the right order, and ends it when a component fails.

Start: HTTP servers, informers, runnables, wait until the caches are filled, leader election, leader-only runnables and
controllers. The manager waits for a cache without limit and logs the reason, because the cluster may be repaired.
Stop: in reverse order within the grace period. The Lease is released last, so that the next leader starts when this one
has finished its writes. controller-runtime stops plain runnables before leader-only ones. Here plain runnables stop
last, because reconcilers use them, for example the EventRecorder.

If the Lease is lost, for example in an outage of the API server, the process continues, unlike in controller-runtime.
The leader-only components end, the caches stay, and the process waits for the Lease again. From the moment of the loss,
requests of the term are refused and aborted (see `term`). Each term has its own controllers, which are built when it
begins, so no term uses the memory, plans or queues of an earlier one, which may be outdated.
"""

import gc
import logging
import random
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from controller.runtime.controller import Controller, answered
from controller.runtime.group import Group, Run, RunnableFailed
from controller.runtime.health import Check, HealthHandler, MetricsHandler
from controller.runtime.http_server import HTTPServer, serve
from controller.runtime.leader_election import LeaderElectionConfig, LeaderElectionLost, LeaderElector
from controller.runtime.metrics import Metrics
from controller.runtime.recovery import Recovery
from controller.runtime.term import Term, TermStop
from informers import Client, ConnectionFailed, KubernetesError, Stop
from workqueue import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

# controller-runtime's graceful shutdown period. The Pod's terminationGracePeriodSeconds is longer: what stops later has
# time of its own, and the release of the Lease has five seconds.
GRACE_PERIOD = 30.0
# The minimum for the runnables, and again for the informers, even if the grace period is over before. The last Events
# need up to five seconds.
_LATER_SECONDS = 6.0
# Much longer than a reconcile works without an answer: each request has a timeout of a minute or less.
STUCK_AFTER = 600.0
# Short enough that the log soon shows what is missing, and long enough for only a few lines a minute.
_REPORT_SECONDS = 10.0
# The interval in which client-go polls HasSynced.
_SYNC_POLL_SECONDS = 0.1
# A rotation of credentials, of which the API server knows before or after this process, takes less.
_REFUSED_SECONDS = 10.0
# A term waits this long for interrupted watches, so that it does not start with old caches. Then it starts anyway: each
# write contains the version that it is based on.
_CATCH_UP_SECONDS = 10.0

# Builds the controllers of one term. All their requests use the client that it gets, which refuses them when the term
# has ended; its `stop` is set when their work has to end.
BuildControllers = Callable[[Client], Iterable[Controller[Any]]]


class GracePeriodExceeded(Exception):
    """Components of the process have not ended within the grace period. The text names them."""


class Informer(Protocol):
    """The methods of a SharedInformer that the manager needs."""

    @property
    def name(self) -> str: ...
    @property
    def has_synced(self) -> bool: ...
    @property
    def last_error(self) -> KubernetesError | None: ...
    @property
    def is_watching(self) -> bool: ...
    def relist(self, *, since: float | None) -> None: ...
    def run(self, stop: Stop) -> None: ...


class Manager:
    """Runs informers, controllers and runnables until it is stopped.

    leader_election: None starts the leader-only components at once.
    health_port, metrics_port: of /healthz and /readyz, and of /metrics; None serves nothing, 0 selects a free port.
    """

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock = REAL_CLOCK,
        leader_election: LeaderElectionConfig | None = None,
        health_port: int | None = None,
        metrics_port: int | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._leader_election = leader_election
        self.metrics = metrics if metrics is not None else Metrics()
        self.elected = threading.Event()  # set while this process leads
        self._elector: LeaderElector | None = None

        self._informers: list[Informer] = []
        self._builders: list[BuildControllers] = []
        self._controllers: list[Controller[Any]] = []  # of the current or the last term
        self._runnables: list[tuple[str, Run]] = []
        self._leader_runnables: list[tuple[str, Run]] = []

        self._server_group = Group(clock, self._fail)
        self._informer_group = Group(clock, self._fail)
        self._runnable_group = Group(clock, self._fail)
        self._election_group = Group(clock, self._fail)
        self._leader_group = Group(clock, self._fail)  # a new one for each term

        self._lock = threading.Lock()
        self._stop: threading.Event | None = None
        self._error: RunnableFailed | GracePeriodExceeded | None = None
        self._late: list[str] = []

        self._ready = HealthHandler("/readyz", informers=self._check_synced, credentials=self._check_credentials)
        self._handlers: dict[str, tuple[int | None, list[HealthHandler | MetricsHandler]]] = {
            "health": (health_port, [HealthHandler("/healthz", workers=self._check_workers), self._ready]),
            "metrics": (metrics_port, [MetricsHandler(self.metrics.registry)]),
        }
        self.servers: dict[str, HTTPServer] = {}  # "health" and "metrics", from the start of run()

    def add_informer(self, informer: Informer) -> None:
        """Run the informer, and wait for its cache before any reconcile."""
        self.metrics.informer(informer.name)
        self._informers.append(informer)

    def add_controllers(self, build: BuildControllers) -> None:
        """Run controllers while this process leads.

        `build` is called when a term begins and returns new controllers. All their requests use the client that it
        gets. Without leader election there is one term, which lasts until the stop.
        """
        self._builders.append(build)

    def add_runnable(self, name: str, run: Run, *, leader_only: bool) -> None:
        """Run a function in its own thread. It must return soon after its event is set.

        leader_only: run it in each term, for reads only; writes belong into a controller. Otherwise it runs from the
        start, without waiting for caches, until the controllers have stopped.
        """
        (self._leader_runnables if leader_only else self._runnables).append((name, run))

    def add_ready_check(self, name: str, check: Check) -> None:
        """Let /readyz fail while check raises."""
        self._ready.add(name, check)

    def run(self, stop: threading.Event) -> None:
        """Run everything until stop is set, then end everything. Blocks. Sets stop itself when a component fails.

        Raises ServerBindError; RunnableFailed if a component ended unexpectedly; GracePeriodExceeded if some have not
        ended in time, and then leaves the Lease to expire; RuntimeError when called twice.
        """
        if self._stop is not None:
            raise RuntimeError("a manager runs only once")
        self._stop = stop
        try:
            self._start_servers()
            self._start(stop)
            stop.wait()
            self._end()
        except BaseException:
            self._abandon()
            raise
        if self._error is not None:
            raise self._error
        if self._late:
            raise GracePeriodExceeded(f"still running after {GRACE_PERIOD:g} s: {', '.join(self._late)}")

    # Start.

    def _start_servers(self) -> None:
        for name, (port, handlers) in self._handlers.items():
            if port is not None:
                self.servers[name] = HTTPServer(name, port, {handler.path: handler for handler in handlers})
        if self.servers:
            servers = list(self.servers.values())
            self._server_group.start("http-servers", partial(serve, servers), until_stop=True)

    def _start(self, stop: threading.Event) -> None:
        for informer in self._informers:
            self._informer_group.start(informer.name, informer.run, until_stop=True)
        if self._informers:
            recovery = Recovery(
                self._client,
                is_failing=self._is_api_server_failing,
                on_return=self._retry_after_outage,
                clock=self._clock,
                random=random.random,
            )
            self._informer_group.start("recovery", recovery.run, until_stop=True)
        for name, run in self._runnables:
            self._runnable_group.start(name, run, until_stop=False)
        if not self._wait_for_caches(stop):
            return
        if self._leader_election is None:
            self._lead(None)
            return
        elector = self._elector = LeaderElector(
            self._client,
            self._leader_election,
            on_started=self._lead,
            on_stopped=self._stopped_leading,
            clock=self._clock,
            metrics=self.metrics,
        )
        self._election_group.start("leader-election", lambda stop: self._campaign(elector, stop), until_stop=False)

    def _wait_for_caches(self, stop: threading.Event) -> bool:
        """Wait until every informer has its initial list; False when stop was set before."""
        log.info("Waiting for caches", extra={"informers": len(self._informers)})
        report_at = self._clock.monotonic() + _REPORT_SECONDS
        while missing := [informer for informer in self._informers if not informer.has_synced]:
            if self._clock.monotonic() >= report_at:
                report_at += _REPORT_SECONDS
                for informer in missing:
                    reason = str(informer.last_error or "the list is not complete yet")
                    log.warning("Still waiting for a cache", extra={"informer": informer.name, "error": reason})
            if self._clock.sleep(_SYNC_POLL_SECONDS, stop):
                return False
        log.info("Caches are filled")
        return True

    # Terms of leadership.

    def _campaign(self, elector: LeaderElector, stop: threading.Event) -> None:
        """Wait for the Lease, and again after each loss, when the work of the lost term has ended."""
        while elector.run(stop, release=lambda: not self._late) is not None:
            late = self._leader_group.end(self._clock.monotonic() + GRACE_PERIOD)
            if late:
                # Its requests are refused, but its other work must not overlap with the next term.
                names = ", ".join(late)
                self._fail(GracePeriodExceeded(f"running {GRACE_PERIOD:g} s after the Lease was lost: {names}"))
            if self._stopping:
                return
            self._controllers = []
            # The objects of a term refer to each other, and collections of old objects are rare: they would stay.
            gc.collect()

    def _lead(self, term: Term | None) -> None:
        """Start the leader-only components; without a term they run until the stop."""
        with self._lock:
            if self._stopping:
                return
            stop = TermStop(term) if term is not None else Stop()
            group = self._leader_group = Group(self._clock, self._fail, stop=stop)
            self.elected.set()
        group.start("start of the term", lambda stop: self._begin_term(term, group, stop), until_stop=False)

    def _begin_term(self, term: Term | None, group: Group, stop: threading.Event) -> None:
        self._wait_for_watches(stop)
        if stop.is_set():
            return
        client = self._client.until(term, stop=group.stop, answered=answered)
        self._controllers = [controller for build in self._builders for controller in build(client)]
        for name, run in self._leader_runnables:
            group.start(name, run, until_stop=False)
        for controller in self._controllers:
            group.start(controller.name, controller.run, until_stop=True)

    def _wait_for_watches(self, stop: threading.Event) -> None:
        """Wait until no watch is interrupted, so that the term does not begin with outdated caches."""
        give_up_at = self._clock.monotonic() + _CATCH_UP_SECONDS
        while interrupted := [informer.name for informer in self._informers if not informer.is_watching]:
            if self._clock.monotonic() >= give_up_at:
                log.warning("Caches may be out of date", extra={"informers": ", ".join(interrupted)})
                return
            if self._clock.sleep(_SYNC_POLL_SECONDS, stop):
                return

    def _is_api_server_failing(self) -> bool:
        """Whether a request had no answer. Those for the Lease are frequent: watches may seem to work in an outage."""
        if self._elector is not None and self._elector.is_unreachable:
            return True
        return any(isinstance(informer.last_error, ConnectionFailed) for informer in self._informers)

    def _retry_after_outage(self, away_at: float) -> None:
        """Retry what has failed, and list again: events may be missing.

        If packets were lost, TCP repeats them after a wait that may be as long as the outage was; if a load balancer
        has lost its state, they never arrive; and a server that was restored from a backup does not have them.
        """
        for informer in self._informers:
            informer.relist(since=away_at)
        for controller in self._controllers:
            controller.retry_now()

    def _stopped_leading(self, lost: LeaderElectionLost | None) -> None:
        if lost is None:
            return
        log.warning("Leader election lost", extra={"error": str(lost)})
        with self._lock:
            self.elected.clear()
            self._leader_group.stop.set()

    # Stop.

    @property
    def _stopping(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def _end(self) -> None:
        deadline = self._clock.monotonic() + GRACE_PERIOD
        with self._lock:
            leader_group = self._leader_group  # the last one: none is started after the stop
            leading = self.elected.is_set()
        if not leading:
            self._election_group.stop.set()
        self._late += leader_group.end(deadline)
        for group in (self._runnable_group, self._informer_group):
            self._late += group.end(max(deadline, self._clock.monotonic() + _LATER_SECONDS))
        if isinstance(self._error, GracePeriodExceeded):
            return
        if self._late:
            log.error("The grace period has ended", extra={"stillRunning": ", ".join(self._late)})
        self._server_group.end(self._clock.monotonic() + GRACE_PERIOD)
        # Releasing needs one or two requests, each with its own timeout, whatever is left of the grace period.
        self._election_group.end(self._clock.monotonic() + GRACE_PERIOD)

    def _abandon(self) -> None:
        groups = (self._leader_group, self._runnable_group, self._informer_group, self._election_group)
        for group in (*groups, self._server_group):
            group.abandon()

    def _fail(self, error: RunnableFailed | GracePeriodExceeded) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
        if isinstance(error, GracePeriodExceeded):
            self._abandon()
        if self._stop is not None:
            self._stop.set()

    # Checks.

    def _check_workers(self) -> None:
        for controller in self._controllers:
            controller.check(stuck_after=STUCK_AFTER)

    def _check_synced(self) -> None:
        if missing := [informer.name for informer in self._informers if not informer.has_synced]:
            raise RuntimeError(f"not synced: {', '.join(missing)}")

    def _check_credentials(self) -> None:
        if (seconds := self._client.refused_for) > _REFUSED_SECONDS:
            raise RuntimeError(f"the API server has refused all requests with 401 for {seconds:.0f} s")
