"""Prometheus metrics with the names, labels and buckets of controller-runtime and client-go.

Existing dashboards and alerts for Go controllers work unchanged. reflector_* and informer_* have the label name only,
which contains group and resource here. Each series with known labels exists from the start with the value 0, so that
rates and alerts have a first sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from informers.metrics import InformerMetrics, RequestMetrics
from workqueue import QueueGauges, QueueMetrics

# The buckets of controller-runtime for the reconcile time: fine up to a second, at most a minute.
RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)
# ExponentialBuckets(10e-9, 10, 12): 10 ns to 1000 s.
WORKQUEUE_BUCKETS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 100, 1000)
REST_CLIENT_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
# The default buckets of client_golang, which client-go uses for reflector metrics.
REFLECTOR_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

_VERSION_DIGITS = 20  # of the 64-bit number in which etcd counts

# controller-runtime also has "requeue", for the deprecated Result.Requeue, which does not exist here.
RECONCILE_RESULTS = ("success", "error", "requeue_after")


@dataclass(frozen=True, slots=True)
class ControllerMetrics:
    """The metrics of one controller with its labels set."""

    results: dict[str, Counter]
    errors: Counter
    panics: Counter
    seconds: Histogram
    active_workers: Gauge


class Metrics(RequestMetrics, InformerMetrics, QueueMetrics):
    """All metrics of the generic core, in their own registry.

    It implements the hooks of queues, informers and the API client, and has the metrics of controllers and leader
    election. A program can add its own metrics to `registry`.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        # The creation time of each series would double their number; controllers in Go do not serve it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        controller = ("controller",)
        self._reconcile_total = self._counter(
            "controller_runtime_reconcile_total", "Reconciles, by controller and result.", ("controller", "result")
        )
        self._reconcile_errors = self._counter(
            "controller_runtime_reconcile_errors_total", "Reconciles that failed.", controller
        )
        self._panics = self._counter(
            "controller_runtime_reconcile_panics_total", "Reconciles that ended in a programming error.", controller
        )
        self._reconcile_seconds = self._histogram(
            "controller_runtime_reconcile_time_seconds", "Seconds a reconcile took.", controller, RECONCILE_BUCKETS
        )
        self._max_concurrent = self._gauge(
            "controller_runtime_max_concurrent_reconciles", "Workers of the controller.", controller
        )
        self._active_workers = self._gauge(
            "controller_runtime_active_workers", "Workers that are busy with a key.", controller
        )

        queue = ("name", "controller")
        self._depth = self._gauge("workqueue_depth", "Keys waiting in the queue.", queue)
        self._adds = self._counter("workqueue_adds_total", "Keys added to the queue.", queue)
        self._latency = self._histogram(
            "workqueue_queue_duration_seconds", "Seconds a key waited.", queue, WORKQUEUE_BUCKETS
        )
        self._work = self._histogram(
            "workqueue_work_duration_seconds", "Seconds the work on a key took.", queue, WORKQUEUE_BUCKETS
        )
        self._unfinished = self._gauge(
            "workqueue_unfinished_work_seconds",
            "Seconds of work in progress that work_duration has not observed yet, summed over the workers. "
            "A value that keeps growing means that workers are stuck.",
            queue,
        )
        self._longest = self._gauge(
            "workqueue_longest_running_processor_seconds", "Seconds the longest work in progress has taken.", queue
        )
        self._retries = self._counter("workqueue_retries_total", "Keys added with a delay.", queue)

        self._requests = self._counter(
            "rest_client_requests_total", "HTTP requests to the API server.", ("code", "method", "host")
        )
        self._request_seconds = self._histogram(
            "rest_client_request_duration_seconds",
            "Seconds until the API server answered.",
            ("verb", "host"),
            REST_CLIENT_BUCKETS,
        )
        self._request_retries = self._counter(
            "rest_client_request_retries_total", "Retried HTTP requests.", ("code", "verb", "host")
        )

        self._lists = self._counter("reflector_lists_total", "Lists read by the reflector.")
        self._list_seconds = self._histogram("reflector_list_duration_seconds", "Seconds a list took.")
        self._items_per_list = self._histogram("reflector_items_per_list", "Objects in a list.")
        self._watches = self._counter("reflector_watches_total", "Watches started by the reflector.")
        self._short_watches = self._counter(
            "reflector_short_watches_total", "Watches that ended within a second and without an event."
        )
        self._watch_seconds = self._histogram("reflector_watch_duration_seconds", "Seconds a watch lasted.")
        self._items_per_watch = self._histogram("reflector_items_per_watch", "Events in a watch.")
        caught_up = "The resourceVersion the cache has caught up with."
        self._last_version = self._gauge("reflector_last_resource_version", caught_up)
        self._store_version = self._gauge("informer_store_resource_version", caught_up)
        self._processing_seconds = self._histogram(
            "informer_processing_latency_seconds", "Seconds to write a change or a list to the cache."
        )

        self._leader = self._gauge("leader_election_master_status", "1 while this process holds the Lease, else 0.")
        self._slow_path = self._counter("leader_election_slowpath_total", "Renewals that had to read the Lease first.")

    def _counter(self, name: str, text: str, labels: Sequence[str] = ("name",)) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ("name",)) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: Sequence[str] = ("name",), buckets: Sequence[float] = REFLECTOR_BUCKETS
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def controller(self, name: str, *, workers: int) -> ControllerMetrics:
        """Return the metrics of a controller; all its series exist from now on."""
        self._max_concurrent.labels(name).set(workers)
        return ControllerMetrics(
            results={result: self._reconcile_total.labels(name, result) for result in RECONCILE_RESULTS},
            errors=self._reconcile_errors.labels(name),
            panics=self._panics.labels(name),
            seconds=self._reconcile_seconds.labels(name),
            active_workers=self._active_workers.labels(name),
        )

    # workqueue.QueueMetrics

    def queue(self, name: str, gauges: Callable[[], QueueGauges]) -> None:
        self._depth.labels(name, name).set_function(lambda: gauges().depth)
        self._unfinished.labels(name, name).set_function(lambda: gauges().unfinished_work_seconds)
        self._longest.labels(name, name).set_function(lambda: gauges().longest_running_processor_seconds)
        for metric in (self._adds, self._latency, self._work, self._retries):
            metric.labels(name, name)

    def key_added(self, name: str) -> None:
        self._adds.labels(name, name).inc()

    def key_taken(self, name: str, *, queued_seconds: float) -> None:
        self._latency.labels(name, name).observe(queued_seconds)

    def key_done(self, name: str, *, work_seconds: float) -> None:
        self._work.labels(name, name).observe(work_seconds)

    def key_delayed(self, name: str) -> None:
        self._retries.labels(name, name).inc()

    # informers.metrics.RequestMetrics

    def request(self, *, verb: str, code: str, host: str, seconds: float) -> None:
        self._requests.labels(code, verb, host).inc()
        self._request_seconds.labels(verb, host).observe(seconds)

    def retry(self, *, verb: str, code: str, host: str) -> None:
        self._request_retries.labels(code, verb, host).inc()

    # informers.metrics.InformerMetrics

    def listed(self, name: str, *, seconds: float, items: int) -> None:
        self._lists.labels(name).inc()
        self._list_seconds.labels(name).observe(seconds)
        self._items_per_list.labels(name).observe(items)

    def watch_started(self, name: str) -> None:
        self._watches.labels(name).inc()

    def watch_ended(self, name: str, *, seconds: float, events: int, short: bool) -> None:
        self._watch_seconds.labels(name).observe(seconds)
        self._items_per_watch.labels(name).observe(events)
        if short:
            self._short_watches.labels(name).inc()

    def resource_version(self, name: str, version: str) -> None:
        # The version is opaque; a dashboard only shows whether it changes. Servers other than Kubernetes' may send
        # text, or a number that does not fit into a gauge.
        if version.isascii() and version.isdigit() and len(version) <= _VERSION_DIGITS:
            self._last_version.labels(name).set(int(version))
            self._store_version.labels(name).set(int(version))

    def processed(self, name: str, *, seconds: float, items: int) -> None:  # noqa: ARG002 - the protocol's signature
        self._processing_seconds.labels(name).observe(seconds)

    def informer(self, name: str) -> None:
        """Create all series of an informer."""
        for metric in (
            *(self._lists, self._list_seconds, self._items_per_list),
            *(self._watches, self._short_watches, self._watch_seconds, self._items_per_watch),
            *(self._last_version, self._store_version, self._processing_seconds),
        ):
            metric.labels(name)

    # Reports of the leader election.

    def leading(self, lease: str, *, holds: bool) -> None:
        self._leader.labels(lease).set(1 if holds else 0)
        self._slow_path.labels(lease)

    def slow_path(self, lease: str) -> None:
        self._slow_path.labels(lease).inc()
