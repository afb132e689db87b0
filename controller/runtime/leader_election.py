"""Leader election on a coordination.k8s.io/v1 Lease, by client-go's rules (tools/leaderelection).

- Whoever is not the holder watches the record change. Only when it has not changed for the duration written in it, by
  the *own* clock, is the lease taken over. The times in the record are for people; clocks of two machines are never
  compared, only their speed matters.
- The holder renews every retry period. When no renewal has succeeded for the renew deadline it stops leading, and that
  is before anyone else can take over, because the deadline is shorter than the lease duration.
- A holder that has ended its work releases the lease, so that the next one need not wait for it to expire.

Not guaranteed, as in client-go: fencing. A process that is frozen while it leads does not know that it lost the lease
until it runs again; its first renewal then fails on the resourceVersion, or finds another holder.
"""

import logging
import math
import random
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from controller.runtime.metrics import Metrics
from informers import AlreadyExists, ApiError, Conflict, KubernetesError, NotFound, Resource
from workqueue import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

# client-go's core clients and controller-runtime use these.
LEASE_DURATION = 15.0
RENEW_DEADLINE = 10.0
RETRY_PERIOD = 2.0
# The pause between tries to acquire is the retry period times a random factor from 1 up to 1 + JITTER_FACTOR, so that
# standbys do not ask in step. The deadline must leave room for a retry so stretched.
JITTER_FACTOR = 1.2
# The duration in a released lease: the next holder need hardly wait even if it did not see the empty holder.
_RELEASED_DURATION = 1
# A conflict on release means that the record changed in between; read it again that often.
_RELEASE_TRIES = 3


class LeaderElectionLost(Exception):
    """The lease could not be renewed in time, or somebody else holds it: the process must end at once."""


@dataclass(frozen=True, kw_only=True)
class LeaderElectionConfig:
    """Which lease is fought for, by whom, and how patiently. Durations are seconds.

    Raises ValueError unless lease_duration > renew_deadline > retry_period * JITTER_FACTOR > 0.
    """

    name: str
    namespace: str
    identity: str = field(default_factory=lambda: f"{socket.gethostname()}_{uuid.uuid4()}")
    lease_duration: float = LEASE_DURATION
    renew_deadline: float = RENEW_DEADLINE
    retry_period: float = RETRY_PERIOD

    def __post_init__(self) -> None:
        for required in ("name", "namespace", "identity"):
            if not getattr(self, required):
                raise ValueError(f"leader election: {required} must not be empty")
        if self.retry_period <= 0:
            raise ValueError(f"leader election: retry_period must be positive, not {self.retry_period}")
        if self.renew_deadline <= self.retry_period * JITTER_FACTOR:
            raise ValueError(
                f"leader election: renew_deadline ({self.renew_deadline}) must be more than "
                f"retry_period * {JITTER_FACTOR} ({self.retry_period * JITTER_FACTOR})"
            )
        if self.lease_duration <= self.renew_deadline:
            raise ValueError(
                f"leader election: lease_duration ({self.lease_duration}) must be more than "
                f"renew_deadline ({self.renew_deadline})"
            )


class Client(Protocol):
    """What the election needs of the API client."""

    def request(
        self, method: str, path: str, *, body: dict[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]: ...


class LeaderElector:
    """Runs for the lease once: acquires it, keeps it, and gives it back.

    on_started: called when the lease is held, in the electing thread; it must return soon.
    on_stopped: called exactly once at the end, also when the lease was never held: with LeaderElectionLost when it
    slipped away, else with None. It comes at the renew deadline even while a request to the API server hangs.
    """

    def __init__(
        self,
        client: Client,
        config: LeaderElectionConfig,
        *,
        on_started: Callable[[], None],
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
        # Two tries must fit into the deadline even when the first one hangs.
        self._request_timeout = max(1.0, config.renew_deadline / 2)
        # The Lease as last read or written, and the moment (monotonic) its record was last seen to change.
        self._lease: dict[str, Any] = {}
        self._observed_at = -math.inf
        # The moment the last renewal that succeeded was begun: the API server recorded it then or later, so nobody
        # can see this lease expire before renewed_at + lease_duration.
        self._renewed_at = -math.inf
        self._stopped = False
        self._lock = threading.Lock()
        self._reported_holder: str | None = None
        self._reported_error = ""
        self._metrics.leading(config.name, holds=False)

    @property
    def is_leader(self) -> bool:
        """Whether the lease as last seen names this process."""
        return self._holder == self._config.identity

    def run(self, stop: threading.Event, *, release: Callable[[], bool] = lambda: True) -> None:
        """Fight for the lease until it is held, hold it until stop is set. Blocks.

        release is asked at the end whether the lease may be given back: not while work done in its name goes on.
        """
        lost: LeaderElectionLost | None = None
        try:
            if self._acquire(stop):
                lost = self._lead(stop)
                if lost is None and release():
                    self._release()
        finally:
            self._end(lost)

    def _acquire(self, stop: threading.Event) -> bool:
        log.info("Waiting for the lease", extra=self._context)
        while not stop.is_set():
            if self._try():
                return True
            self._clock.sleep(self._config.retry_period * (1 + self._rng() * JITTER_FACTOR), stop)
        return False

    def _lead(self, stop: threading.Event) -> LeaderElectionLost | None:
        """Renew until stop is set (None), or the lease is lost."""
        self._metrics.leading(self._config.name, holds=True)
        log.info("Acquired the lease", extra=self._context)
        ended = threading.Event()
        watchdog = threading.Thread(target=self._watch_deadline, args=(ended,), name="lease-watchdog", daemon=True)
        watchdog.start()
        try:
            self._on_started()
            while not self._clock.sleep(self._config.retry_period, stop):
                if not self._try() and not self.is_leader:
                    return LeaderElectionLost(f"the lease {self._config.name} is held by {self._holder or 'nobody'}")
                if self._stopped:
                    # The watchdog has said so already; a renewal that succeeded later must not revive the leader.
                    return self._deadline_missed()
            return None
        finally:
            ended.set()
            watchdog.join()

    def _watch_deadline(self, ended: threading.Event) -> None:
        """Tell at the renew deadline that the lease is lost. A thread of its own, because any request may hang."""
        while (remaining := self._renewed_at + self._config.renew_deadline - self._clock.monotonic()) > 0:
            if self._clock.sleep(remaining, ended):
                return
        self._end(self._deadline_missed())

    def _deadline_missed(self) -> LeaderElectionLost:
        return LeaderElectionLost(
            f"the lease {self._config.name} was not renewed within {self._config.renew_deadline:g} s"
        )

    def _end(self, lost: LeaderElectionLost | None) -> None:
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        self._metrics.leading(self._config.name, holds=False)
        self._on_stopped(lost)

    def _try(self) -> bool:
        """Acquire or renew the lease; return whether it is held. Errors are logged once a change and mean False."""
        began = self._clock.monotonic()
        try:
            held = self._try_acquire_or_renew()
        except (Conflict, AlreadyExists) as error:
            # Somebody was faster: what an election is about.
            log.debug("Lost a race for the lease", extra={**self._context, "reason": str(error)})
            return False
        except KubernetesError as error:
            self._report_error(error)
            return False
        self._report_error(None)
        if held:
            self._renewed_at = began
        return held

    def _try_acquire_or_renew(self) -> bool:
        if self.is_leader and not self._expired():
            # The holder's record is its own: write without reading, the resourceVersion guards it.
            try:
                self._observe(self._write(self._next_spec()))
            except ApiError as error:
                log.debug("Lease not renewed at the first try", extra={**self._context, "reason": str(error)})
            else:
                return True
            self._metrics.slow_path(self._config.name)
        try:
            self._observe(self._request("GET", self._path))
        except NotFound:
            self._observe(self._create())
            return True
        if self._holder and not self.is_leader and not self._expired():
            return False
        self._observe(self._write(self._next_spec()))
        return True

    def _release(self) -> None:
        """Give the lease back. What fails is logged: then it expires by itself."""
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
                log.warning("Cannot release the lease", extra={**self._context, "reason": str(error)})
                return
            log.info("Released the lease", extra=self._context)
            return
        log.warning("Cannot release the lease", extra={**self._context, "reason": "it keeps changing"})

    # The record.

    @property
    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self._lease.get("spec") or {}
        return spec

    @property
    def _holder(self) -> str:
        return str(self._spec.get("holderIdentity") or "")

    def _expired(self) -> bool:
        # The holder's own duration counts: it may be configured otherwise than this process.
        duration = self._spec.get("leaseDurationSeconds") or 0
        return self._clock.monotonic() >= self._observed_at + duration

    def _observe(self, lease: dict[str, Any]) -> None:
        changed = lease.get("spec") != self._lease.get("spec")
        self._lease = lease
        if changed:
            self._observed_at = self._clock.monotonic()
        if self._holder != self._reported_holder:
            self._reported_holder = self._holder
            log.info("The lease has a new holder", extra={**self._context, "holder": self._holder or "nobody"})

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
        self._lease = {}
        lease = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._config.name, "namespace": self._config.namespace},
            "spec": self._next_spec() | {"leaseTransitions": 0},
        }
        return self._request("POST", LEASES.path(self._config.namespace), lease)

    def _write(self, spec: dict[str, Any]) -> dict[str, Any]:
        return self._request("PUT", self._path, self._lease | {"spec": spec})

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._client.request(method, path, body=body, timeout=self._request_timeout)

    # What is told.

    @property
    def _context(self) -> dict[str, str]:
        return {"lease": f"{self._config.namespace}/{self._config.name}", "identity": self._config.identity}

    def _report_error(self, error: KubernetesError | None) -> None:
        text = "" if error is None else str(error)
        if text == self._reported_error:
            return
        self._reported_error = text
        if text:
            log.warning("Cannot read or write the lease", extra={**self._context, "reason": text})
        else:
            log.info("The lease can be read and written again", extra=self._context)
