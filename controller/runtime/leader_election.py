"""Leader election with a coordination.k8s.io/v1 Lease, by client-go's rules (tools/leaderelection).

- A candidate observes changes of the record. It takes the Lease over when the record has not changed for the duration
  that is written in it, by the candidate's *own* clock. The times in the record are for people. Clocks of two machines
  are never compared; only their speed matters.
- The holder renews every retry period. If no renewal succeeds within the renew deadline, its term ends. The deadline is
  shorter than the lease duration, so this is before another process can take over.
- A holder that has ended its work releases the Lease, so the next holder does not wait for it to expire.
- A process may take over at once from an earlier process of the same Pod, because the kubelet starts a container only
  when the previous one has ended.

client-go leaves fencing to the caller. Here a term refuses requests by the clock, so a process that was suspended while
it led sends nothing in the name of its term when it continues.
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

# The values of client-go's core clients and controller-runtime.
LEASE_DURATION = 15.0
RENEW_DEADLINE = 10.0
RETRY_PERIOD = 2.0
# The deadline must allow more than one retry (client-go: JitterFactor).
JITTER_FACTOR = 1.2
# Interval of attempts while the API server cannot be reached. Attempts cost nothing then, and the work continues soon
# after the server is back.
_UNREACHABLE_RETRY_PERIOD = 1.0
# The duration in a released Lease: the next holder waits only a moment, even if it did not see the empty holder.
_RELEASED_DURATION = 1
# A conflict on release means that the record has changed. It is read again this number of times.
_RELEASE_TRIES = 3
# Limit of all requests of the release together, so that the process ends even if the server does not answer.
_RELEASE_SECONDS = 5.0


class LeaderElectionLost(Exception):
    """The Lease could not be renewed in time, or another process holds it."""


@dataclass(frozen=True, kw_only=True)
class LeaderElectionConfig:
    """Configuration of the election. Durations are seconds.

    identity: unique for each process; "" for one from the host name, the uid of the Pod and a random part. pod_uid: uid
    of the Pod of this process, "" if unknown. The Lease of a holder from the same Pod is taken over at once.

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
        """Timeout of one attempt to renew. Two attempts fit between the retry period and the deadline, with a tenth in
        reserve, so that one request that hangs does not lose the Lease.
        """
        return 0.9 * (self.renew_deadline - self.retry_period) / 2

    def is_predecessor(self, holder: str) -> bool:
        """Whether the holder is an earlier process of this Pod, which has ended."""
        return bool(self.pod_uid) and f"_{self.pod_uid}_" in holder and holder != self.identity


class Client(Protocol):
    """The methods of the API client that the election needs. A request ends within its timeout."""

    def request(
        self, method: str, path: str, *, body: dict[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]: ...


class LeaderElector:
    """Acquires the Lease, keeps it, and releases it, each time that `run` is called.

    on_started: called with the new term when the Lease is held, in the electing thread; it must return soon.
    on_stopped: called exactly once in each run, even if the Lease was never held: with LeaderElectionLost if it was
    lost, else with None. It is called at the renew deadline even while a request to the API server hangs, and must not
    block. The term has ended by then.
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
        # The Lease as last read or written, and the monotonic time of the last observed change of its record.
        self._lease: dict[str, Any] = {}
        self._observed_at = -math.inf
        self._try_ends_at = math.inf  # monotonic
        self._stopped = False
        self._lock = threading.Lock()
        self._reported_holder: str | None = None
        self._reported_error: tuple[type[KubernetesError], str] | None = None
        self._unreachable = False
        self._metrics.leading(config.name, holds=False)

    @property
    def is_leader(self) -> bool:
        """Whether the last observed Lease names this process."""
        return self._holder == self._config.identity

    @property
    def is_unreachable(self) -> bool:
        """Whether the API server did not answer the last attempt, or answered with a 5xx."""
        return self._unreachable

    def run(self, stop: threading.Event, *, release: Callable[[], bool] = lambda: True) -> LeaderElectionLost | None:
        """Wait for the Lease, and hold it until stop is set (returns None) or until it is lost. Blocks.

        After a loss, run may be called again when the work of the lost term has ended. release decides at the end
        whether the
        Lease may be released: it must not be while work of the term continues.
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
        """Seconds until the next attempt to acquire.

        Half to one retry period, so that standbys do not send requests at the same time. (client-go waits one to 2.2
        retry periods, and so notices later that the holder has stopped.) Not later than the expiry of the Lease.
        """
        pause = self._config.retry_period * (1 + self._rng()) / 2
        if self._unreachable:
            pause = min(pause, _UNREACHABLE_RETRY_PERIOD)
        expires_in = self._expires_at - self._clock.monotonic()
        return min(pause, expires_in) if self._holder and expires_in > 0 else pause

    def _lead(self, term: Term, stop: threading.Event) -> LeaderElectionLost | None:
        """Renew until stop is set (returns None) or the Lease is lost."""
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
                # The watchdog may have ended the term already. A later renewal must not revive it.
                return self._deadline_missed()
            last_chance = term.deadline - self._config.try_seconds
            if last_chance > self._clock.monotonic():
                next_try = min(next_try, last_chance)
        return None

    def _watch_deadline(self, term: Term, ended: threading.Event) -> None:
        """Report the loss of the Lease at the renew deadline, in a separate thread because any request may hang."""
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
        """Acquire or renew the Lease; return whether it is held. Errors are logged once until they change, and mean
        False.
        """
        self._try_ends_at = self._clock.monotonic() + self._config.try_seconds
        try:
            held = self._try_acquire_or_renew()
        except (Conflict, AlreadyExists) as error:
            # Another candidate was faster, which is normal in an election.
            log.debug("Another replica updated the Lease first", extra={**self._context, "error": str(error)})
            return False
        except KubernetesError as error:
            self._report_error(error)
            return False
        self._report_error(None)
        return held

    def _try_acquire_or_renew(self) -> bool:
        if self.is_leader and not self._expired():
            # The holder owns its record: write without reading first; the resourceVersion protects it.
            try:
                self._observe(self._write(self._next_spec()))
            except ConnectionFailed:
                raise  # reading would fail as well
            except ApiError as error:
                log.debug("First attempt to renew the Lease failed", extra={**self._context, "error": str(error)})
            else:
                return True
            self._metrics.slow_path(self._config.name)
        try:
            self._observe(self._request("GET", self._path))
        except NotFound:
            if self._is_taken():
                return False  # deleted while its holder works
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
        """Whether another process holds the Lease, as last observed, and may still write."""
        if not self._holder or self.is_leader or self._config.is_predecessor(self._holder):
            return False
        return not self._expired()

    def _release(self) -> None:
        """Release the Lease. Failures are logged; the Lease then expires."""
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
        # The duration in the record counts, because the holder may be configured differently.
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
        """Return the record that makes or keeps this process the holder."""
        now = self._now()
        spec = {
            "holderIdentity": self._config.identity,
            # At least 1, the minimum of the API server; client-go truncates fractions too.
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

    # Requests to the API server.

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

    # Log messages.

    @property
    def _context(self) -> dict[str, str]:
        return {"lease": f"{self._config.namespace}/{self._config.name}", "identity": self._config.identity}

    def _report_error(self, error: KubernetesError | None) -> None:
        self._unreachable = isinstance(error, (ConnectionFailed, ServerError))
        # Not compared by text, which may contain the rest of a timeout.
        kind = None if error is None else (type(error), getattr(error, "reason", ""))
        if kind == self._reported_error:
            return
        self._reported_error = kind
        if error is not None:
            log.warning("Cannot read or write the Lease", extra={**self._context, "error": str(error)})
        else:
            log.info("The Lease can be read and written again", extra=self._context)
