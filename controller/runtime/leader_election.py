"""Leader election on a coordination.k8s.io/v1 Lease, by client-go's rules (tools/leaderelection).

- Whoever is not the holder watches the record change. Only when it has not changed for the duration written in it, by
  the *own* clock, is the lease taken over. The times in the record are for people; clocks of two machines are never
  compared, only their speed matters.
- The holder renews every retry period. When no renewal has succeeded for the renew deadline its term is over, and that
  is before anyone else can take over, because the deadline is shorter than the lease duration.
- A holder that has ended its work releases the lease, so that the next one need not wait for it to expire.
- A process may take over at once from a process of the same Pod that ran before it: the kubelet starts a container only
  when the one before has ended.

client-go leaves fencing to the caller. Here a term refuses requests by the clock, so that a process that was frozen
while it led sends nothing in the name of its term when it runs again.
"""

import logging
import math
import random
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from controller.runtime.metrics import Metrics
from controller.runtime.term import Term
from informers import (
    AlreadyExists,
    ApiError,
    Conflict,
    ConnectionFailed,
    KubernetesError,
    NotFound,
    Resource,
    ServerError,
)
from workqueue import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

# client-go's core clients and controller-runtime use these.
LEASE_DURATION = 15.0
RENEW_DEADLINE = 10.0
RETRY_PERIOD = 2.0
# The deadline must leave room for more than one retry (client-go: JitterFactor).
JITTER_FACTOR = 1.2
# While the API server cannot be reached a candidate asks this often: a try costs nothing then, and the work goes on as
# soon as the server is back.
_UNREACHABLE_RETRY_PERIOD = 1.0
# The duration in a released lease: the next holder need hardly wait even if it did not see the empty holder.
_RELEASED_DURATION = 1
# A conflict on release means that the record changed in between; read it again that often.
_RELEASE_TRIES = 3
# Of all requests of the release together, so that the end of the process does not wait for a server that is away.
_RELEASE_SECONDS = 5.0


class LeaderElectionLost(Exception):
    """The lease could not be renewed in time, or somebody else holds it."""


@dataclass(frozen=True, kw_only=True)
class LeaderElectionConfig:
    """Which lease is fought for, by whom, and how patiently. Durations are seconds.

    identity: of this process, different from all others; "" for one that is made of the host's name, the Pod's uid and
    a random part. pod_uid: of the Pod in which this process runs, "" when it is not known. The lease of a holder from
    the same Pod is taken over at once.

    Raises ValueError unless lease_duration > renew_deadline > retry_period * JITTER_FACTOR > 0.
    """

    name: str
    namespace: str
    identity: str = ""
    pod_uid: str = ""
    lease_duration: float = LEASE_DURATION
    renew_deadline: float = RENEW_DEADLINE
    retry_period: float = RETRY_PERIOD

    def __post_init__(self) -> None:
        for required in ("name", "namespace"):
            if not getattr(self, required):
                raise ValueError(f"leader election: {required} must not be empty")
        if self.retry_period <= 0:
            raise ValueError(f"leader election: retry_period must be positive, not {self.retry_period:g}")
        if self.renew_deadline <= self.retry_period * JITTER_FACTOR:
            raise ValueError(
                f"leader election: renew_deadline ({self.renew_deadline:g}) must be more than "
                f"retry_period * {JITTER_FACTOR} ({self.retry_period * JITTER_FACTOR:g})"
            )
        if self.lease_duration <= self.renew_deadline:
            raise ValueError(
                f"leader election: lease_duration ({self.lease_duration:g}) must be more than "
                f"renew_deadline ({self.renew_deadline:g})"
            )
        if not self.identity:
            parts = (socket.gethostname(), self.pod_uid, str(uuid.uuid4()))
            object.__setattr__(self, "identity", "_".join(filter(None, parts)))

    @property
    def try_seconds(self) -> float:
        """How long one try to renew may take: two fit between the retry period and the deadline, with a tenth to spare,
        so that one that hangs does not lose the lease."""
        return 0.9 * (self.renew_deadline - self.retry_period) / 2

    def is_predecessor(self, holder: str) -> bool:
        """Whether the holder is a process that ran in this Pod before this one, and so has ended."""
        return bool(self.pod_uid) and f"_{self.pod_uid}_" in holder and holder != self.identity


class Client(Protocol):
    """What the election needs of the API client. A request ends within its timeout as a whole."""

    def request(
        self, method: str, path: str, *, body: dict[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]: ...


class LeaderElector:
    """Acquires the lease, keeps it, and gives it back; as often as ``run`` is called.

    on_started: called with the new term when the lease is held, in the electing thread; it must return soon.
    on_stopped: called exactly once in each run, also when the lease was never held: with LeaderElectionLost when it
    slipped away, else with None. It comes at the renew deadline even while a request to the API server hangs, and it
    must not block. The term is over by then.
    """

    def __init__(
        self,
        client: Client,
        config: LeaderElectionConfig,
        *,
        on_started: Callable[[Term], None],
        on_stopped: Callable[[LeaderElectionLost | None], None],
        clock: Clock = REAL_CLOCK,
        rng: Callable[[], float] = random.random,
        metrics: Metrics | None = None,
    ) -> None:
        self._client = client
        self._config = config
        self._on_started = on_started
        self._on_stopped = on_stopped
        self._clock = clock
        self._rng = rng
        self._metrics = metrics if metrics is not None else Metrics()
        # The Lease as last read or written, and the moment (monotonic) its record was last seen to change.
        self._lease: dict[str, Any] = {}
        self._observed_at = -math.inf
        self._try_ends_at = math.inf  # monotonic
        self._stopped = False
        self._lock = threading.Lock()
        self._reported_holder: str | None = None
        self._reported_error = ""
        self._unreachable = False
        self._metrics.leading(config.name, holds=False)

    @property
    def is_leader(self) -> bool:
        """Whether the lease as last seen names this process."""
        return self._holder == self._config.identity

    def run(self, stop: threading.Event, *, release: Callable[[], bool] = lambda: True) -> LeaderElectionLost | None:
        """Fight for the lease until it is held, hold it until stop is set (None) or until it is lost. Blocks.

        After a loss run may be called again, once the work of the lost term has ended. release is asked at the end
        whether the lease may be given back: not while work done in its name goes on.
        """
        self._stopped = False
        term: Term | None = None
        lost: LeaderElectionLost | None = None
        try:
            term = self._acquire(stop)
            if term is not None:
                lost = self._lead(term, stop)
                if lost is None and release():
                    self._release()
        finally:
            self._end(term, lost)
        return lost

    def _acquire(self, stop: threading.Event) -> Term | None:
        log.info("Waiting for the Lease", extra=self._context)
        while not stop.is_set():
            began = self._clock.monotonic()
            if self._try():
                return Term(renewed_at=began, renew_deadline=self._config.renew_deadline, clock=self._clock)
            self._clock.sleep(self._pause(), stop)
        return None

    def _pause(self) -> float:
        """Seconds until the next try to acquire.

        Half to one retry period, so that standbys do not ask in step. (client-go waits one to 2.2 retry periods, and
        so notices later that the holder renews no more.) Not beyond the moment at which the lease expires.
        """
        pause = self._config.retry_period * (1 + self._rng()) / 2
        if self._unreachable:
            pause = min(pause, _UNREACHABLE_RETRY_PERIOD)
        expires_in = self._expires_at - self._clock.monotonic()
        return min(pause, expires_in) if self._holder and expires_in > 0 else pause

    def _lead(self, term: Term, stop: threading.Event) -> LeaderElectionLost | None:
        """Renew until stop is set (None), or the lease is lost."""
        self._metrics.leading(self._config.name, holds=True)
        log.info("Acquired the Lease", extra=self._context)
        ended = threading.Event()
        failures: list[BaseException] = []

        def watch() -> None:
            try:
                self._watch_deadline(term, ended)
            except BaseException as error:  # noqa: BLE001 - raised below, in the electing thread
                failures.append(error)

        watchdog = threading.Thread(target=watch, name="lease-watchdog", daemon=True)
        watchdog.start()
        try:
            self._on_started(term)
            return self._keep(term, stop)
        finally:
            ended.set()
            watchdog.join()
            for failure in failures:
                raise failure

    def _keep(self, term: Term, stop: threading.Event) -> LeaderElectionLost | None:
        next_try = self._clock.monotonic() + self._config.retry_period
        while not self._clock.sleep(max(0.0, next_try - self._clock.monotonic()), stop):
            began = self._clock.monotonic()
            next_try = began + self._config.retry_period
            if self._try():
                term.renewed(began)
            elif not self.is_leader:
                return LeaderElectionLost(f"the Lease {self._config.name} is held by {self._holder or 'nobody'}")
            if term.is_set():
                # The watchdog may have said so already; a renewal that succeeded later must not revive the leader.
                return self._deadline_missed()
            last_chance = term.deadline - self._config.try_seconds
            if last_chance > self._clock.monotonic():
                next_try = min(next_try, last_chance)
        return None

    def _watch_deadline(self, term: Term, ended: threading.Event) -> None:
        """Tell at the renew deadline that the lease is lost. A thread of its own, because any request may hang."""
        while not term.is_set():
            if self._clock.sleep(term.deadline - self._clock.monotonic(), ended):
                return
        self._end(term, self._deadline_missed())

    def _deadline_missed(self) -> LeaderElectionLost:
        return LeaderElectionLost(
            f"the Lease {self._config.name} was not renewed within {self._config.renew_deadline:g} s"
        )

    def _end(self, term: Term | None, lost: LeaderElectionLost | None) -> None:
        if term is not None:
            term.set()
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        self._metrics.leading(self._config.name, holds=False)
        self._on_stopped(lost)

    def _try(self) -> bool:
        """Acquire or renew the lease; return whether it is held. Errors are logged once a change and mean False."""
        self._try_ends_at = self._clock.monotonic() + self._config.try_seconds
        try:
            held = self._try_acquire_or_renew()
        except (Conflict, AlreadyExists) as error:
            # Somebody was faster: what an election is about.
            log.debug("Another replica updated the Lease first", extra={**self._context, "error": str(error)})
            return False
        except KubernetesError as error:
            self._report_error(error)
            return False
        self._report_error(None)
        return held

    def _try_acquire_or_renew(self) -> bool:
        if self.is_leader and not self._expired():
            # The holder's record is its own: write without reading, the resourceVersion guards it.
            try:
                self._observe(self._write(self._next_spec()))
            except ConnectionFailed:
                raise  # reading would not succeed either
            except ApiError as error:
                log.debug("First attempt to renew the Lease failed", extra={**self._context, "error": str(error)})
            else:
                return True
            self._metrics.slow_path(self._config.name)
        try:
            self._observe(self._request("GET", self._path))
        except NotFound:
            if self._is_taken():
                return False  # deleted while its holder works on
            try:
                self._observe(self._create())
            except AlreadyExists:
                self._observe(self._request("GET", self._path))
            else:
                return True
        if self._is_taken():
            return False
        self._observe(self._write(self._next_spec()))
        return True

    def _is_taken(self) -> bool:
        """Whether another process holds the lease, as last seen, and may still write in its name."""
        if not self._holder or self.is_leader or self._config.is_predecessor(self._holder):
            return False
        return not self._expired()

    def _release(self) -> None:
        """Give the lease back. What fails is logged: then it expires by itself."""
        self._try_ends_at = self._clock.monotonic() + _RELEASE_SECONDS
        for _ in range(_RELEASE_TRIES):
            try:
                self._observe(self._request("GET", self._path))
                if not self.is_leader:
                    return
                now = self._now()
                spec = self._next_spec() | {
                    "holderIdentity": "",
                    "leaseDurationSeconds": _RELEASED_DURATION,
                    "acquireTime": now,
                    "renewTime": now,
                }
                self._observe(self._write(spec))
            except Conflict:
                continue
            except KubernetesError as error:
                log.warning("Cannot release the Lease", extra={**self._context, "error": str(error)})
                return
            log.info("Released the Lease", extra=self._context)
            return
        log.warning("Cannot release the Lease", extra={**self._context, "error": "it was changed at each attempt"})

    # The record.

    @property
    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self._lease.get("spec") or {}
        return spec

    @property
    def _holder(self) -> str:
        return str(self._spec.get("holderIdentity") or "")

    @property
    def _expires_at(self) -> float:
        # The holder's own duration counts: it may be configured otherwise than this process.
        return self._observed_at + (self._spec.get("leaseDurationSeconds") or 0)

    def _expired(self) -> bool:
        return self._clock.monotonic() >= self._expires_at

    def _observe(self, lease: dict[str, Any]) -> None:
        changed = lease.get("spec") != self._lease.get("spec")
        self._lease = lease
        if changed:
            self._observed_at = self._clock.monotonic()
        if self._holder != self._reported_holder:
            self._reported_holder = self._holder
            log.info("The Lease has a new holder", extra={**self._context, "holder": self._holder or "nobody"})

    def _next_spec(self) -> dict[str, Any]:
        """Return the record that makes this process the holder, or keeps it so."""
        now = self._now()
        spec = {
            "holderIdentity": self._config.identity,
            # At least 1: the API server takes no less, and client-go cuts fractions off too.
            "leaseDurationSeconds": max(1, int(self._config.lease_duration)),
            "renewTime": now,
        }
        transitions = self._spec.get("leaseTransitions") or 0
        if self.is_leader:
            return self._spec | spec
        return self._spec | spec | {"acquireTime": now, "leaseTransitions": transitions + 1}

    def _now(self) -> str:
        """A metav1.MicroTime."""
        return datetime.fromtimestamp(self._clock.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    # The API.

    @property
    def _path(self) -> str:
        return LEASES.path(self._config.namespace, self._config.name)

    def _create(self) -> dict[str, Any]:
        now = self._now()
        lease = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._config.name, "namespace": self._config.namespace},
            "spec": self._next_spec() | {"acquireTime": now, "leaseTransitions": 0},
        }
        return self._request("POST", LEASES.path(self._config.namespace), lease)

    def _write(self, spec: dict[str, Any]) -> dict[str, Any]:
        return self._request("PUT", self._path, self._lease | {"spec": spec})

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        left = self._try_ends_at - self._clock.monotonic()
        if left <= 0:
            raise ConnectionFailed("the API server answers too slowly", reason=ConnectionFailed.TIMEOUT)
        return self._client.request(method, path, body=body, timeout=left)

    # What is told.

    @property
    def _context(self) -> dict[str, str]:
        return {"lease": f"{self._config.namespace}/{self._config.name}", "identity": self._config.identity}

    def _report_error(self, error: KubernetesError | None) -> None:
        text = "" if error is None else str(error)
        self._unreachable = isinstance(error, (ConnectionFailed, ServerError))
        if text == self._reported_error:
            return
        self._reported_error = text
        if text:
            log.warning("Cannot read or write the Lease", extra={**self._context, "error": text})
        else:
            log.info("The Lease can be read and written again", extra=self._context)
