"""The names, types, labels and buckets that dashboards for Go controllers rely on."""

from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from controller.runtime import Controller, Metrics, Result
from controller.runtime.metrics import RECONCILE_BUCKETS, REST_CLIENT_BUCKETS, WORKQUEUE_BUCKETS
from workqueue import QueueGauges

# Name as scraped, type, labels: from controller-runtime and component-base.
NAMES = [
    ("controller_runtime_reconcile_total", "counter", {"controller", "result"}),
    ("controller_runtime_reconcile_errors_total", "counter", {"controller"}),
    ("controller_runtime_reconcile_panics_total", "counter", {"controller"}),
    ("controller_runtime_reconcile_time_seconds", "histogram", {"controller"}),
    ("controller_runtime_max_concurrent_reconciles", "gauge", {"controller"}),
    ("controller_runtime_active_workers", "gauge", {"controller"}),
    ("workqueue_depth", "gauge", {"name", "controller"}),
    ("workqueue_adds_total", "counter", {"name", "controller"}),
    ("workqueue_queue_duration_seconds", "histogram", {"name", "controller"}),
    ("workqueue_work_duration_seconds", "histogram", {"name", "controller"}),
    ("workqueue_unfinished_work_seconds", "gauge", {"name", "controller"}),
    ("workqueue_longest_running_processor_seconds", "gauge", {"name", "controller"}),
    ("workqueue_retries_total", "counter", {"name", "controller"}),
    ("rest_client_requests_total", "counter", {"code", "method", "host"}),
    ("rest_client_request_duration_seconds", "histogram", {"verb", "host"}),
    ("rest_client_request_retries_total", "counter", {"code", "verb", "host"}),
    ("leader_election_master_status", "gauge", {"name"}),
    ("leader_election_slowpath_total", "counter", {"name"}),
    ("reflector_lists_total", "counter", {"name"}),
    ("reflector_list_duration_seconds", "histogram", {"name"}),
    ("reflector_items_per_list", "histogram", {"name"}),
    ("reflector_watches_total", "counter", {"name"}),
    ("reflector_short_watches_total", "counter", {"name"}),
    ("reflector_watch_duration_seconds", "histogram", {"name"}),
    ("reflector_items_per_watch", "histogram", {"name"}),
    ("reflector_last_resource_version", "gauge", {"name"}),
    ("informer_processing_latency_seconds", "histogram", {"name"}),
    ("informer_store_resource_version", "gauge", {"name"}),
    ("process_cpu_seconds_total", "counter", set()),
    ("process_resident_memory_bytes", "gauge", set()),
    ("process_open_fds", "gauge", set()),
    ("python_info", "gauge", {"implementation", "major", "minor", "patchlevel", "version"}),
]


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of a process with one of each: a controller with its queue, an informer, a lease, a request."""
    metrics = Metrics()
    Controller("apps", lambda _key: Result(), metrics=metrics, workers=3)
    metrics.informer("applications")
    metrics.leading("lock", holds=False)
    return metrics


def scrape(metrics: Metrics) -> dict[str, tuple[str, list[dict[str, str]], list[float]]]:
    """Return type, label sets and values by the name as it is written in a query."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, [s.labels for s in family.samples], [s.value for s in family.samples])
    return found


@pytest.mark.parametrize(("name", "kind", "labels"), NAMES)
def test_names_types_and_labels(name: str, kind: Any, labels: Any, metrics: Metrics) -> None:
    """Every metric is there under the original's name, with its labels."""
    metrics.request(verb="GET", code="200", host="api:443", seconds=0.1)
    metrics.retry(verb="GET", code="429", host="api:443")
    found_kind, found_labels, _ = scrape(metrics)[name]
    assert found_kind == kind
    assert {frozenset(set(each) - {"le"}) for each in found_labels} == {frozenset(labels)}


@pytest.mark.parametrize(
    "name", [name for name, _, _ in NAMES if not name.startswith(("process_", "python_", "rest_"))]
)
def test_series_exist_before_anything_happens(name: str, metrics: Metrics) -> None:
    """Pre-seeded: 0 everywhere but for the number of workers."""
    _, _, values = scrape(metrics)[name]
    assert values
    assert set(values) == ({3.0} if name == "controller_runtime_max_concurrent_reconciles" else {0.0})


def test_there_are_no_created_series(metrics: Metrics) -> None:
    """Such series double the number; controllers in Go do not have them."""
    metrics.request(verb="GET", code="200", host="api:443", seconds=0.1)
    for encode in (generate_latest, generate_openmetrics):
        assert b"_created" not in encode(metrics.registry)


@pytest.mark.parametrize(
    ("name", "buckets"),
    [
        ("controller_runtime_reconcile_time_seconds", RECONCILE_BUCKETS),
        ("workqueue_queue_duration_seconds", WORKQUEUE_BUCKETS),
        ("workqueue_work_duration_seconds", WORKQUEUE_BUCKETS),
        ("rest_client_request_duration_seconds", REST_CLIENT_BUCKETS),
    ],
)
def test_buckets(name: str, buckets: Any, metrics: Metrics) -> None:
    """Quantiles of a Go and a Python controller can be compared."""
    metrics.request(verb="GET", code="200", host="api:443", seconds=0.1)
    _, labels, _ = scrape(metrics)[name]
    assert [float(each["le"]) for each in labels if "le" in each] == [*buckets, float("inf")]


def test_queue_gauges_are_asked_at_each_scrape(metrics: Metrics) -> None:
    """No timer is between the queue and the scrape."""
    state = QueueGauges(1, 2.5, 3.5)
    metrics.queue("other", lambda: state)

    def values() -> list[float | None]:
        names = ("depth", "unfinished_work_seconds", "longest_running_processor_seconds")
        labels = {"name": "other", "controller": "other"}
        return [metrics.registry.get_sample_value(f"workqueue_{name}", labels) for name in names]

    assert values() == [1, 2.5, 3.5]
    state = QueueGauges(0, 0.0, 0.0)
    assert values() == [0, 0, 0]
    metrics.key_added("other")
    metrics.key_delayed("other")
    metrics.key_taken("other", queued_seconds=0.5)
    metrics.key_done("other", work_seconds=0.25)
    read = metrics.registry.get_sample_value
    labels = {"name": "other", "controller": "other"}
    assert read("workqueue_adds_total", labels) == 1
    assert read("workqueue_retries_total", labels) == 1
    assert read("workqueue_queue_duration_seconds_sum", labels) == 0.5
    assert read("workqueue_work_duration_seconds_sum", labels) == 0.25


def test_informer_hooks(metrics: Metrics) -> None:
    """Each hook of an informer shows in its metrics."""
    name = "applications"
    metrics.listed(name, seconds=0.5, items=7)
    metrics.watch_started(name)
    metrics.watch_ended(name, seconds=0.25, events=0, short=True)
    metrics.watch_ended(name, seconds=300, events=4, short=False)
    metrics.resource_version(name, "1234")
    for odd in ("not a number", "9" * 400, "9" * 5000, "-1", "1e3"):
        metrics.resource_version(name, odd)
    metrics.processed(name, seconds=0.125, items=5)
    values = {
        metric: metrics.registry.get_sample_value(metric, {"name": name})
        for metric in (
            *("reflector_lists_total", "reflector_list_duration_seconds_sum", "reflector_items_per_list_sum"),
            *("reflector_watches_total", "reflector_short_watches_total", "reflector_items_per_watch_sum"),
            *("reflector_watch_duration_seconds_sum", "reflector_last_resource_version"),
            *("informer_store_resource_version", "informer_processing_latency_seconds_sum"),
        )
    }
    assert list(values.values()) == [1, 0.5, 7, 1, 1, 4, 300.25, 1234, 1234, 0.125]
