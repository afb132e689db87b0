"""The agent's own metrics, in addition to those of the generic core. docs/operations.md describes each of them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.connection.status import State
from controller.runtime.version import COMMIT, VERSION

_PREFIX = "compass_runtime_agent_"
_RESULTS = ("success", "error")
_CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds; a call ends after 30
_SYNC_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds; 5,000 Applications take about ten


class AgentMetrics:
    """All metrics of the agent, in one object that its components share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(_PREFIX + name, text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, text, labels, registry=registry)

        gauge("build_info", "Always 1. Version and commit of this build.", "version", "commit").labels(
            VERSION, COMMIT
        ).set(1)
        self._state = gauge("connection_state", "1 for the state of the CompassConnection, 0 for others.", "state")
        self._not_before = gauge("certificate_not_before_timestamp_seconds", "Start of the certificate's validity.")
        self._not_after = gauge("certificate_not_after_timestamp_seconds", "End of the certificate's validity.")
        self._applications = gauge("applications", "Applications: desired, synced, failed.", "status")
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
        self.connection_state(None)
        for result in _RESULTS:
            self._pairings.labels(result)
            self._renewals.labels(result)
            self._syncs.labels(result)
        for kind in ("Application", "Secret"):
            for operation in ("create", "update", "delete"):
                self._writes.labels(kind, operation)
        for status in ("desired", "synced", "failed"):
            self._applications.labels(status)

    def connection_state(self, state: State | None) -> None:
        for known in State:
            self._state.labels(known.value).set(1 if known is state else 0)

    def certificate(self, not_before: float, not_after: float) -> None:
        self._not_before.set(not_before)
        self._not_after.set(not_after)

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
        for status, count in (("desired", desired), ("synced", synced), ("failed", failed)):
            self._applications.labels(status).set(count)

    def written(self, kind: str, operation: str) -> None:
        self._writes.labels(kind, operation).inc()

    def compass_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Matches controller.compass.graphql.Observe."""
        self._calls.labels(operation, outcome).inc()
        self._call_seconds.labels(operation).observe(seconds)
