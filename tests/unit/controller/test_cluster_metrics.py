"""The line with cluster metrics: when it comes, what it says, and what happens when it cannot be said."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given

from controller.cluster_metrics import NODE_METRICS, NODES, PERSISTENT_VOLUMES, ClusterMetrics
from informers import ApiError, NotFound, Resource
from tests.clock import VirtualClock
from tests.support.fuzzing import PLACES, VALUES, planted, quickly

INTERVAL = 1800.0
CAPACITY = {"cpu": "4", "ephemeral-storage": "51474912Ki", "memory": "16393272Ki", "pods": "110", "hugepages-2Mi": "0"}

Object = dict[str, Any]


class Cluster:
    """Gives lists like the API client; a kind can be made to fail."""

    def __init__(self) -> None:
        self.objects: dict[Resource, list[Object]] = {NODES: [], NODE_METRICS: [], PERSISTENT_VOLUMES: []}
        self.failing: dict[Resource, ApiError] = {}
        self.answer: Object | None = None

    def list(self, resource: Resource) -> Object:
        if resource in self.failing:
            raise self.failing[resource]
        return self.answer or {"metadata": {}, "items": self.objects[resource]}


class Run:
    """A running ClusterMetrics on a clock of its own, and what it has written."""

    def __init__(self, cluster: Cluster) -> None:
        self.clock = VirtualClock()
        self.stream = io.StringIO()
        self._stop = threading.Event()
        metrics = ClusterMetrics(cluster, interval=INTERVAL, clock=self.clock, stream=self.stream)  # type: ignore[arg-type]
        self._thread = threading.Thread(target=metrics.run, args=(self._stop,))
        self._thread.start()
        self.clock.wait_for_waiters(1)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.clock.wait_for_waiters(1)

    def lines(self) -> list[Object]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def end(self) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def run(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> Iterator[Run]:
    with caplog.at_level(logging.INFO):
        running = Run(cluster)
        yield running
        running.end()


def test_the_first_line_comes_after_one_interval_and_then_one_each_interval(run: Run) -> None:
    """Nothing is written before the interval has passed."""
    run.advance(INTERVAL - 1)
    assert run.lines() == []
    run.advance(1)
    assert len(run.lines()) == 1
    run.advance(INTERVAL)
    assert len(run.lines()) == 2


def test_nodes_usage_and_volumes_are_told_as_kubernetes_writes_them(run: Run, cluster: Cluster) -> None:
    """Quantities stay strings; what Kubernetes does not tell is "0"; an unclaimed volume has no claim."""
    cluster.objects[NODES] = [
        {
            "metadata": {"name": "a", "labels": {"beta.kubernetes.io/instance-type": "m5"}},
            "status": {"capacity": CAPACITY},
        },
        {"metadata": {"name": "b", "labels": {"node.kubernetes.io/instance-type": "m6"}}},
        {"metadata": {"name": "c"}, "status": {}},
    ]
    cluster.objects[NODE_METRICS] = [
        {"metadata": {"name": "a"}, "timestamp": "2026-11-21T12:00:00Z", "usage": {"cpu": "250m", "memory": "1Gi"}}
    ]
    cluster.objects[PERSISTENT_VOLUMES] = [
        {
            "metadata": {"name": "v1"},
            "spec": {"capacity": {"storage": "8Gi"}, "claimRef": {"name": "data", "namespace": "db", "uid": "1"}},
        },
        {"metadata": {"name": "v2"}, "spec": {}},
    ]
    nothing = {"cpu": "0", "ephemeralStorage": "0", "memory": "0", "pods": "0"}
    run.advance(INTERVAL)
    assert run.lines()[0]["clusterInfo"] == {
        "resources": [
            {
                "nodeName": "a",
                "instanceType": "m5",
                "capacity": {"cpu": "4", "ephemeralStorage": "51474912Ki", "memory": "16393272Ki", "pods": "110"},
            },
            {"nodeName": "b", "instanceType": "m6", "capacity": nothing},
            {"nodeName": "c", "instanceType": "", "capacity": nothing},
        ],
        "usage": [
            {
                "nodeName": "a",
                "startCollectingTimestamp": "2026-11-21T12:00:00Z",
                "usage": {"cpu": "250m", "memory": "1Gi", "ephemeralStorage": "0", "pods": "0"},
            }
        ],
        "persistentVolumes": [
            {"name": "v1", "capacity": "8Gi", "claim": {"name": "data", "namespace": "db"}},
            {"name": "v2", "capacity": "0"},
        ],
    }


@pytest.mark.parametrize("resource", [NODES, NODE_METRICS, PERSISTENT_VOLUMES], ids=lambda r: r.kind)
def test_one_failing_source_means_one_warning_and_no_line(
    run: Run, cluster: Cluster, resource: Resource, caplog: pytest.LogCaptureFixture
) -> None:
    """All or nothing; the next interval tries again."""
    cluster.failing[resource] = NotFound("there is no such kind", status=404, reason="NotFound")
    run.advance(INTERVAL)
    assert run.lines() == []
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.__dict__["error"] for record in warnings] == ["there is no such kind (404 NotFound)"]
    cluster.failing.clear()
    run.advance(INTERVAL)
    assert len(run.lines()) == 1


NODE: Object = {
    "metadata": {"name": "a", "labels": {"node.kubernetes.io/instance-type": "m5"}},
    "status": {"capacity": CAPACITY},
    "timestamp": "2026-11-21T12:00:00Z",
    "usage": {"cpu": "250m"},
    "spec": {"capacity": {"storage": "8Gi"}, "claimRef": {"name": "data", "namespace": "db"}},
}


def _lines(cluster: Cluster, answer: Object | None) -> list[Object]:
    """What one and a second, empty answer make of the log."""
    stream = io.StringIO()
    metrics = ClusterMetrics(cluster, interval=INTERVAL, clock=VirtualClock(), stream=stream)  # type: ignore[arg-type]
    for cluster.answer in (answer, None):
        metrics.write_line()
    text = stream.getvalue()
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text) < 100_000
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("answer", [{"items": None}, {}, {"items": {}}, {"items": [None, 1, "x", []]}], ids=str)
def test_a_list_of_nothing_usable_is_an_empty_one(cluster: Cluster, answer: Object) -> None:
    """A metrics API is a server of somebody else, and sends null for no items."""
    for line in _lines(cluster, answer):
        assert line["clusterInfo"] == {"resources": [], "usage": [], "persistentVolumes": []}


@quickly
@given(way=PLACES, value=VALUES)
def test_whatever_an_item_holds_the_line_comes(way: list[int], value: Any) -> None:
    """What has another shape counts as not told; a name as long as a book is cut; the next line is right again."""
    planted_item = planted(NODE, way, value)
    first, second = _lines(Cluster(), {"items": [planted_item, NODE]})
    assert first["clusterInfo"]["resources"][-1] == {
        "nodeName": "a",
        "instanceType": "m5",
        "capacity": {"cpu": "4", "ephemeralStorage": "51474912Ki", "memory": "16393272Ki", "pods": "110"},
    }
    assert second["clusterInfo"] == {"resources": [], "usage": [], "persistentVolumes": []}


def test_the_line_is_written_at_any_level_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collectors of logs need it."""
    monkeypatch.setattr(logging.getLogger("controller"), "level", logging.ERROR)
    line = ClusterMetrics(MagicMock(), interval=1.0, clock=VirtualClock())._line
    assert line.isEnabledFor(logging.INFO)
