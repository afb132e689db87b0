"""What is reported to the exporter of metrics."""

from typing import Any

from informers import Forbidden, InformerMetrics, SharedInformer
from tests.fake_api_server.cluster import Cluster
from tests.fake_api_server.in_process import InProcess, api_error
from tests.fake_api_server.waiting import HastyClock, eventually
from tests.unit.informers.conftest import Start


class Recorder(InformerMetrics):
    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def listed(self, name: str, *, seconds: float, items: int) -> None:
        self.log.append(("listed", name, items))

    def watch_started(self, name: str) -> None:
        self.log.append(("watch_started", name))

    def watch_ended(self, name: str, *, seconds: float, events: int, short: bool) -> None:
        self.log.append(("watch_ended", name, events, short))

    def resource_version(self, name: str, version: str) -> None:
        self.log.append(("resource_version", name, version))

    def processed(self, name: str, *, seconds: float, items: int) -> None:
        self.log.append(("processed", name, items))


def test_informer_metrics(start: Start) -> None:
    """Lists with their items, watches with their events, versions, batches; failed lists are no lists."""
    cluster, metrics = Cluster(), Recorder()
    cluster.put("a")
    source = InProcess(cluster)
    source.list_faults.append(api_error(Forbidden, "Forbidden", 403))
    source.watch_faults.append([])
    informer = SharedInformer(source, name="widgets", clock=HastyClock(), metrics=metrics, watch_list=False)
    start(informer)
    eventually(lambda: source.lists == 3)
    cluster.put("b")
    eventually(lambda: ("resource_version", "widgets", "3") in metrics.log)
    source.end_watches()
    eventually(lambda: ("watch_ended", "widgets", 1, False) in metrics.log)
    assert [entry for entry in metrics.log if entry[0] == "listed"] == [("listed", "widgets", 1)] * 2
    assert ("watch_ended", "widgets", 0, True) in metrics.log
    eventually(lambda: sum(entry[2] for entry in metrics.log if entry[0] == "processed") == 3)
