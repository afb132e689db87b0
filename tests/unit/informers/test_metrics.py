"""What is reported to the exporter of metrics."""

from typing import Any

from informers import Forbidden, InformerMetrics, SharedInformer
from tests.clock import VirtualClock
from tests.fake_api_server.cluster import Cluster
from tests.fake_api_server.in_process import InProcess, api_error
from tests.fake_api_server.script import Page, Run, Step, Stop, Stream
from tests.fake_api_server.waiting import eventually
from tests.unit.informers.conftest import Start


class Recorder(InformerMetrics):
    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def listed(self, name: str, *, seconds: float, items: int) -> None:
        self.log.append(("listed", name, round(seconds, 3), items))

    def watch_started(self, name: str) -> None:
        self.log.append(("watch_started", name))

    def watch_ended(self, name: str, *, seconds: float, events: int, short: bool) -> None:
        self.log.append(("watch_ended", name, round(seconds, 3), events, short))

    def resource_version(self, name: str, version: str) -> None:
        self.log.append(("resource_version", name, version))

    def processed(self, name: str, *, seconds: float, items: int) -> None:
        self.log.append(("processed", name, seconds, items))


def test_lists_and_watches() -> None:
    """Lists with their items, watches with their events, versions; failed lists are no lists."""
    metrics = Recorder()
    script: list[Step] = [
        Page("a b", "10", "t1", answered_after=2),
        Page("c", answered_after=3),
        Stream(("ADDED d 11", "BOOKMARK 12"), answered_after=0.4, seconds=0.5),
        Stream(seconds=50),
        Stream(seconds=0.5),
        api_error(Forbidden, "Forbidden", 403),
        Page("a", "13", answered_after=1),
        Stop(),
    ]
    Run(script, metrics=metrics).run()
    assert metrics.log == [
        ("listed", "test", 5, 3),
        ("resource_version", "test", "10"),
        ("watch_started", "test"),
        ("resource_version", "test", "11"),
        ("resource_version", "test", "12"),
        ("watch_ended", "test", 0.9, 2, False),
        ("watch_started", "test"),
        ("watch_ended", "test", 50, 0, False),
        ("watch_started", "test"),
        ("watch_ended", "test", 0.5, 0, True),
        ("listed", "test", 1, 1),
        ("resource_version", "test", "13"),
        ("watch_started", "test"),
    ]


class SlowIndex(VirtualClock):
    """Indexing an object takes two seconds."""

    def index(self, _obj: dict[str, Any]) -> list[str]:
        self.advance(2)
        return []


def test_changes(start: Start) -> None:
    """Each list with its items, and each change, with the time until it is stored and in the buffers."""
    cluster, metrics, clock = Cluster(), Recorder(), SlowIndex()
    for name in "ab":
        cluster.put(name)
    informer = SharedInformer(
        InProcess(cluster),
        name="widgets",
        clock=clock,
        metrics=metrics,
        watch_list=False,
        indexers={"slow": clock.index},
    )
    start(informer)
    eventually(lambda: informer.is_watching)
    cluster.put("c")
    cluster.delete("c")

    def processed() -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in metrics.log if entry[0] == "processed"]

    eventually(lambda: len(processed()) == 3)
    assert processed() == [("widgets", 4, 2), ("widgets", 2, 1), ("widgets", 2, 1)]
