"""Leader election with a coordination.k8s.io/v1 Lease, by client-go's rules (tools/leaderelection).

- A candidate takes the Lease over when it has seen no renewal for the duration in the record, and for its own duration,
  by its *own* clock. The times in the record are never compared with a clock, so clocks may differ.
- Only a change of renewTime counts as a renewal, so an edit of other fields neither shortens nor extends a Lease. One
  that a person deletes or empties counts as renewed when that is seen, because its holder may still write.
- A released Lease is free at once. Its record has no holder and a duration of one second, as client-go writes it.
- The holder renews every retry period. If no renewal succeeds within the renew deadline, its term ends. The deadline is
  shorter than the duration in the record, so this is before another process can take over.
- A leader that finds another holder, or a release that is not its own, ends its term.
- The holder that a process finds at its first look, if it is of the same Pod, has probably ended: the kubelet starts a
  container when the previous one has ended. So the process waits only until that holder should have renewed.

client-go leaves fencing to the caller. Here a term refuses requests by the clock; `term` says what that guarantees.
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
from typing import Any

from controller.runtime.metrics import Metrics
from controller.runtime.term import Term
from informers import (
    AlreadyExists,
    ApiError,
    Client,
    Conflict,
    ConnectionFailed,
    NotFound,
    Resource,
    ServerError,
)
from workqueue import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

# Shorter than in controllers in Go (15 s and 10 s), so that another process takes over after 10 s.
LEASE_DURATION = 10.0
RENEW_DEADLINE = 7.0
RETRY_PERIOD = 2.0
# The deadline must allow more than one retry (client-go: JitterFactor).
JITTER_FACTOR = 1.2
# Interval of attempts while the API server cannot be reached. Attempts cost nothing then, and the work continues soon
# after the server is back.
_UNREACHABLE_RETRY_PERIOD = 1.0
# The duration in a released Lease. A Lease without a holder that has another duration was emptied by an edit.
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
    of the Pod of this process, "" if unknown. lease_duration: a Lease holds whole seconds, so fractions are cut off.

    Raises ValueError unless int(lease_duration) > renew_deadline > retry_period * JITTER_FACTOR > 0 and
    int(lease_duration) > 1, which is the mark of a released Lease.
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
        if self.written_duration <= max(self.renew_deadline, _RELEASED_DURATION):
            raise ValueError(
                f"leader election: lease_duration ({self.lease_duration:g}, in the Lease {self.written_duration}) must "
                f"be more than renew_deadline ({self.renew_deadline:g}) and more than {_RELEASED_DURATION}"
            )
        if not self.identity:
            parts = (socket.gethostname(), self.pod_uid, str(uuid.uuid4()))
            object.__setattr__(self, "identity", "_".join(filter(None, parts)))

    @property
    def written_duration(self) -> int:
        """The duration in the Lease, whole seconds. client-go cuts fractions off too."""
        return int(self.lease_duration)

    @property
    def request_seconds(self) -> float:
        """Timeout of one request. Two of them fit between the retry period and the deadline, with a tenth in reserve,
        so that one request that hangs does not lose the Lease.
        """
        return 0.9 * (self.renew_deadline - self.retry_period) / 2

    def is_same_pod(self, holder: str) -> bool:
        """Whether the holder is another process of the Pod of this process."""
        return bool(self.pod_uid) and f"_{self.pod_uid}_" in holder and holder != self.identity


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
        metrics: Metrics,
        clock: Clock = REAL_CLOCK,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._config = config
        self._on_started = on_started
        self._on_stopped = on_stopped
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        # The Lease as last read or written; {} before. Its last renewal expires at this monotonic time.
        self._lease: dict[str, Any] = {}
        self._expires_at = -math.inf
        self._has_looked = False
        self._requests_end_at = math.inf  # monotonic
        self._stopped = False
        self._lock = threading.Lock()
        self._reported_holder: str | None = None
        self._reported_error: str | None = None  # its reason
        self._unreachable = False
        self._metrics.leading(config.name, holds=False)

    @property
    def is_unreachable(self) -> bool:
        """Whether the API server did not answer the last attempt, or answered with a 5xx."""
        return self._unreachable

    def run(self, stop: threading.Event, *, release: Callable[[], bool] = lambda: True) -> LeaderElectionLost | None:
        """Wait for the Lease, and hold it until stop is set (returns None) or until it is lost. Blocks.

        After a loss, run may be called again when the work of the lost term has ended. release decides at the end
        whether the Lease may be released: it must not be while work of the term continues.
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
        self._requests_end_at = math.inf
        while not stop.is_set():
            written_at = self._attempt(self._take)
            if written_at is not None:
                return Term(renewed_at=written_at, renew_deadline=self._config.renew_deadline, clock=self._clock)
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
        return min(pause, expires_in) if expires_in > 0 else pause

    def _lead(self, term: Term, stop: threading.Event) -> LeaderElectionLost | None:
        """Renew until stop is set (returns None) or the Lease is lost."""
        self._metrics.leading(self._config.name, holds=True)
        log.info("Acquired the Lease", extra=self._context)
        ended = threading.Event()
        watchdog = threading.Thread(target=self._watch_deadline, args=(term, ended), name="lease-watchdog", daemon=True)
        watchdog.start()
        try:
            self._on_started(term)
            return self._keep(term, stop)
        finally:
            ended.set()
            watchdog.join()

    def _keep(self, term: Term, stop: threading.Event) -> LeaderElectionLost | None:
        next_attempt = self._clock.monotonic() + self._config.retry_period
        while not self._clock.sleep(max(0.0, next_attempt - self._clock.monotonic()), stop):
            next_attempt = self._clock.monotonic() + self._config.retry_period
            self._requests_end_at = term.deadline
            renewed_at = self._attempt(self._renew)
            if renewed_at is not None:
                term.renewed(renewed_at)
            elif not self._is_kept():
                return LeaderElectionLost(f"the Lease {self._config.name} is held by {self._holder or 'no process'}")
            if term.is_set():
                # The watchdog may have ended the term already. A later renewal must not revive it.
                return self._deadline_missed()
            last_chance = term.deadline - self._config.request_seconds
            if last_chance > self._clock.monotonic():
                next_attempt = min(next_attempt, last_chance)
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

    def _attempt(self, write: Callable[[], float | None]) -> float | None:
        """Call `_take` or `_renew`. An error means None, and is logged once until it changes."""
        try:
            written_at = write()
        except (Conflict, AlreadyExists) as error:
            # Another candidate was faster, which is normal in an election.
            log.debug("Another replica updated the Lease first", extra={**self._context, "error": str(error)})
            return None
        except ApiError as error:
            self._report_error(error)
            return None
        self._report_error(None)
        return written_at

    def _take(self) -> float | None:
        """Acquire the Lease if it is free; return the monotonic time at which the write began. Raises ApiError.

        A Lease that has vanished may have been renewed without being seen here, so it counts as renewed at that moment.
        """
        try:
            self._observe(self._request("GET", self._path))
        except NotFound:
            if self._lease:
                self._lease = {}
                self._expires_at = self._clock.monotonic() + self._config.written_duration
            self._has_looked = True
            if not self._is_free():
                return None
            try:
                return self._write(self._create)
            except AlreadyExists:
                self._expires_at = self._clock.monotonic() + self._config.written_duration
                raise
        return self._write(self._update) if self._is_free() else None

    def _renew(self) -> float | None:
        """Renew the Lease; return the monotonic time at which the write began, None if it has another holder. Raises
        ApiError.
        """
        try:
            # Without reading first: the resourceVersion protects the record.
            return self._write(self._update)
        except ConnectionFailed:
            raise  # reading would fail as well
        except ApiError as error:
            log.debug("First attempt to renew the Lease failed", extra={**self._context, "error": str(error)})
        self._metrics.slow_path(self._config.name)
        try:
            self._observe(self._request("GET", self._path))
        except NotFound:
            try:
                return self._write(self._create)
            except AlreadyExists:
                self._observe(self._request("GET", self._path))
        return self._write(self._update) if self._is_kept() else None

    def _write(self, write: Callable[[], dict[str, Any]]) -> float:
        # From here on other processes may see the renewal, so the term counts from here and not from the answer.
        began = self._clock.monotonic()
        self._observe(write())
        return began

    def _is_free(self) -> bool:
        """Whether this process may take the Lease: no other holder may still write."""
        return self._holder == self._config.identity or self._clock.monotonic() >= self._expires_at

    def _is_kept(self) -> bool:
        """Whether this process still is the holder, maybe of a record that an edit has emptied."""
        return self._holder in (self._config.identity, "") and not self._is_released()

    def _release(self) -> None:
        """Release the Lease. Failures are logged; the Lease then expires."""
        self._requests_end_at = self._clock.monotonic() + _RELEASE_SECONDS
        for _ in range(_RELEASE_TRIES):
            try:
                self._observe(self._request("GET", self._path))
                if self._holder != self._config.identity:
                    return
                self._observe(
                    self._update(holderIdentity="", leaseDurationSeconds=_RELEASED_DURATION, acquireTime=self._now())
                )
            except Conflict:
                continue
            except ApiError as error:
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

    def _is_released(self) -> bool:
        return not self._holder and self._spec.get("leaseDurationSeconds") == _RELEASED_DURATION

    def _last_renewal(self) -> object:
        # A record that an edit has wiped says nothing, so each change of it may hide a renewal.
        return self._spec.get("renewTime") or self._lease.get("metadata", {}).get("resourceVersion")

    def _observe(self, lease: dict[str, Any]) -> None:
        last_renewal = self._last_renewal()
        self._lease = lease
        if self._last_renewal() != last_renewal:
            # The holder may be configured differently, and a short duration may be the edit of a person.
            seconds: float = max(self._spec.get("leaseDurationSeconds") or 0, self._config.written_duration)
            if self._config.is_same_pod(self._holder) and not self._has_looked:
                seconds = self._config.retry_period * JITTER_FACTOR
            self._expires_at = self._clock.monotonic() + seconds
        self._has_looked = True
        if self._is_released():
            self._expires_at = -math.inf
        if self._holder != self._reported_holder:
            self._reported_holder = self._holder
            log.info("The Lease has a new holder", extra={**self._context, "holder": self._holder or "none"})

    def _next_spec(self) -> dict[str, Any]:
        """Return the record that makes or keeps this process the holder."""
        now = self._now()
        spec = self._spec | {
            "holderIdentity": self._config.identity,
            "leaseDurationSeconds": self._config.written_duration,
            "renewTime": now,
        }
        if self._holder != self._config.identity:
            spec |= {"acquireTime": now, "leaseTransitions": (self._spec.get("leaseTransitions") or 0) + 1}
        return spec

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

    def _update(self, **fields: object) -> dict[str, Any]:
        return self._request("PUT", self._path, self._lease | {"spec": self._next_spec() | fields})

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        left = self._requests_end_at - self._clock.monotonic()
        if left <= 0:
            raise ConnectionFailed("the API server answers too slowly", reason=ConnectionFailed.TIMEOUT)
        return self._client.request(method, path, body=body, timeout=min(left, self._config.request_seconds))

    # Log messages.

    @property
    def _context(self) -> dict[str, str]:
        return {"lease": f"{self._config.namespace}/{self._config.name}", "identity": self._config.identity}

    def _report_error(self, error: ApiError | None) -> None:
        self._unreachable = isinstance(error, (ConnectionFailed, ServerError))
        # Not compared by text, which may contain the rest of a timeout.
        reason = None if error is None else error.reason
        if reason == self._reported_error:
            return
        self._reported_error = reason
        if error is not None:
            log.warning("Cannot read or write the Lease", extra={**self._context, "error": str(error)})
        else:
            log.info("The Lease can be read and written again", extra=self._context)
