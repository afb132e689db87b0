"""The agent's own metrics, in addition to those of the generic core. docs/operations.md describes each of them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.connection.status import ConnectionState
from controller.runtime.version import COMMIT, VERSION

_PREFIX = "compass_runtime_agent_"
_RESULTS = ("success", "error")
_COUNTS = ("desired", "synced", "failed")
_CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds; a call ends after 30
_SYNC_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds; 5,000 Applications take about ten


class AgentMetrics:
    """All metrics of the agent, in one object that its components share.

    `leads`: whether this process is the leader. Gauges that only a leader knows, except that of the last sync, are 0
    otherwise: the values of an earlier term are not true any more, and alerts use the maximum of all replicas.
    """

    def __init__(self, registry: CollectorRegistry, *, leads: Callable[[], bool] = lambda: True) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(_PREFIX + name, text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, text, labels, registry=registry)

        gauge("build_info", "Always 1. Version and commit of this build.", "version", "commit").labels(
            VERSION, COMMIT
        ).set(1)

        def of_leader(gauge: Gauge) -> Callable[[float], None]:
            """Sets the gauge, which is 0 while this process does not lead."""
            value = 0.0

            def set_value(new: float) -> None:
                nonlocal value
                value = new

            gauge.set_function(lambda: value if leads() else 0.0)
            return set_value

        states = gauge("connection_state", "1 for the state of the CompassConnection, 0 for others.", "state")
        self._states = {state: of_leader(states.labels(state.value)) for state in ConnectionState}
        self._not_before = of_leader(
            gauge("certificate_not_before_timestamp_seconds", "Start of the certificate's validity.")
        )
        self._not_after = of_leader(
            gauge("certificate_not_after_timestamp_seconds", "End of the certificate's validity.")
        )
        counts = gauge("applications", "Applications: desired, synced, failed.", "status")
        self._applications = {status: of_leader(counts.labels(status)) for status in _COUNTS}
        self._pairings = counter("pairing_attempts_total", "Attempts to pair with the Connector.", "result")
        self._renewals = counter("certificate_renewals_total", "Attempts to renew the certificate.", "result")
        self._syncs = counter("syncs_total", "Syncs, by result.", "result")
        self._sync_seconds = Histogram(
            _PREFIX + "sync_duration_seconds",
            "Duration of syncs, from the fetch to the result of the last Application.",
            buckets=_SYNC_BUCKETS,
            registry=registry,
        )
        self._last_sync = gauge("last_successful_sync_timestamp_seconds", "Time of the last successful sync.")
        self._writes = counter("object_writes_total", "Applications and Secrets written.", "kind", "operation")
        self._calls = counter("compass_calls_total", "Calls to Connector and Director.", "operation", "outcome")
        self._call_seconds = Histogram(
            _PREFIX + "compass_call_duration_seconds",
            "Duration of calls to Connector and Director.",
            ["operation"],
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        for result in _RESULTS:
            self._pairings.labels(result)
            self._renewals.labels(result)
            self._syncs.labels(result)
        for kind in ("Application", "Secret"):
            for operation in ("create", "update", "delete"):
                self._writes.labels(kind, operation)

    def term_begins(self) -> None:
        """Forget what an earlier term has found."""
        self.connection_state(None)
        self.certificate(0.0, 0.0)
        self.applications(desired=0, synced=0, failed=0)

    def connection_state(self, state: ConnectionState | None) -> None:
        for known, set_value in self._states.items():
            set_value(float(known is state))

    def certificate(self, not_before: float, not_after: float) -> None:
        self._not_before(not_before)
        self._not_after(not_after)

    def pairing(self, result: str) -> None:
        self._pairings.labels(result).inc()

    def renewal(self, result: str) -> None:
        self._renewals.labels(result).inc()

    def sync_failed(self) -> None:
        self._syncs.labels("error").inc()

    def sync_concluded(self, *, success: bool, seconds: float, at: float) -> None:
        self._syncs.labels("success" if success else "error").inc()
        self._sync_seconds.observe(seconds)
        if success:
            self._last_sync.set(at)

    def applications(self, *, desired: int, synced: int, failed: int) -> None:
        for status, count in zip(_COUNTS, (desired, synced, failed), strict=True):
            self._applications[status](float(count))

    def written(self, kind: str, operation: str) -> None:
        self._writes.labels(kind, operation).inc()

    def compass_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Matches controller.compass.graphql.Observe."""
        self._calls.labels(operation, outcome).inc()
        self._call_seconds.labels(operation).observe(seconds)
