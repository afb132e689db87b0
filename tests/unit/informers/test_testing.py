"""The rules of the API that FakeAPIServer follows, and what it refuses."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from informers import (
    AlreadyExists,
    BadRequest,
    Conflict,
    EventHandlers,
    Invalid,
    NotFound,
    Resource,
    ResourceListerWatcher,
    SharedInformer,
)
from informers.testing import Cluster, FakeAPIServer, HastyClock, eventually

NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


@contextmanager
def informer_running(informer: SharedInformer) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=informer.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def config_map(name: str = "a", namespace: str = "ns", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def test_life_of_an_object() -> None:
    """Create, read, replace, patch, list and delete, by the rules of the API."""
    with FakeAPIServer(Cluster(CONFIG_MAPS)) as server:
        client = server.client()
        created = client.create(CONFIG_MAPS, config_map(x="1"))
        assert (created["kind"], created["apiVersion"], created["data"]) == ("ConfigMap", "v1", {"x": "1"})
        assert client.get(CONFIG_MAPS, "a", namespace="ns") == created
        with pytest.raises(AlreadyExists):
            client.create(CONFIG_MAPS, config_map())
        with pytest.raises(Invalid):
            client.create(CONFIG_MAPS, {"metadata": {"namespace": "ns"}})
        updated = client.update(CONFIG_MAPS, created | {"data": {"x": "2"}})
        assert updated["metadata"]["uid"] == created["metadata"]["uid"]
        with pytest.raises(Conflict):
            client.update(CONFIG_MAPS, created)
        patched = client.patch(CONFIG_MAPS, "a", {"data": {"x": None, "y": "3"}}, namespace="ns")
        assert patched["data"] == {"y": "3"}
        client.create(CONFIG_MAPS, config_map("b", "other"))
        assert [one["metadata"]["name"] for one in client.list(CONFIG_MAPS, namespace="ns")["items"]] == ["a"]
        assert len(client.list(CONFIG_MAPS)["items"]) == 2
        with pytest.raises(Conflict):
            client.delete(CONFIG_MAPS, "a", namespace="ns", uid="another")
        client.delete(CONFIG_MAPS, "a", namespace="ns", uid=created["metadata"]["uid"])
        for call in (client.get, client.delete):
            with pytest.raises(NotFound):
                call(CONFIG_MAPS, "a", namespace="ns")


def test_what_the_server_does_not_implement_is_refused() -> None:
    """It would delete an object with finalizers at once, for example, and a wrong controller would pass its tests."""
    with FakeAPIServer(Cluster(CONFIG_MAPS)) as server:
        client = server.client()
        present = client.create(CONFIG_MAPS, config_map())
        finalizers = {"metadata": {"finalizers": ["example.com/a"]}}
        generated = {"metadata": {"generateName": "a-", "namespace": "ns"}}
        requests: dict[str, Callable[[], object]] = {
            "metadata.finalizers": lambda: client.patch(CONFIG_MAPS, "a", finalizers, namespace="ns"),
            "finalizers": lambda: client.create(
                CONFIG_MAPS, {"metadata": config_map("b")["metadata"] | finalizers["metadata"]}
            ),
            "metadata.generateName": lambda: client.create(CONFIG_MAPS, generated),
            "dryRun": lambda: client.update(CONFIG_MAPS, present, dry_run=True),
            "labelSelector": lambda: client.list(CONFIG_MAPS, label_selector="a=b"),
            "fieldSelector": lambda: next(iter(client.watch(CONFIG_MAPS, field_selector="a=b"))),
        }
        for name, request in requests.items():
            with pytest.raises(BadRequest, match=f"this server does not implement .*{name}"):
                request()
        with pytest.raises(NotFound):
            client.update(CONFIG_MAPS, present, subresource="status")
        with pytest.raises(NotFound):
            client.list(NODES)
        assert client.list(CONFIG_MAPS)["items"] == [present]


@pytest.mark.parametrize("namespace", [None, "ns"])
def test_watch_of_what_the_client_writes(namespace: str | None) -> None:
    """An informer of all namespaces or of one sees it."""
    with FakeAPIServer(Cluster(CONFIG_MAPS)) as server:
        client = server.client(clock=HastyClock())
        lister_watcher = ResourceListerWatcher(client, CONFIG_MAPS, namespace=namespace)
        informer = SharedInformer(lister_watcher, name="config-maps", clock=HastyClock())
        log: list[str] = []
        informer.add_event_handler(
            EventHandlers(
                on_add=lambda obj, _: log.append(f"+{obj['metadata']['name']}"),
                on_update=lambda _, new: log.append(f"~{new['metadata']['name']}"),
                on_delete=lambda obj: log.append("-"),
            )
        )
        client.create(CONFIG_MAPS, config_map("before"))
        with informer_running(informer):
            eventually(lambda: log == ["+before"])
            client.create(CONFIG_MAPS, config_map("elsewhere", "other"))
            client.patch(CONFIG_MAPS, "before", {"data": {"x": "1"}}, namespace="ns")
            client.delete(CONFIG_MAPS, "before", namespace="ns")
            elsewhere = [] if namespace else ["+elsewhere"]
            eventually(lambda: log == ["+before", *elsewhere, "~before", "-"])


def test_cluster_scoped_objects() -> None:
    """Have no namespace."""
    with FakeAPIServer(Cluster(NODES)) as server:
        server.cluster.put("n1", unschedulable=True)
        assert server.client().get(NODES, "n1")["metadata"].get("namespace") is None
        assert server.client().patch(NODES, "n1", {"spec": None})["metadata"]["name"] == "n1"
