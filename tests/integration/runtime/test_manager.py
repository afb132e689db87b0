"""A whole controller in this process against a real API server: informer, queue, workers, health, metrics."""

import http.client
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.runtime import Controller, Manager, Metrics, Result
from informers import Client, EventHandlers, Resource, ResourceListerWatcher, SharedInformer, object_key, split_key

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
WAIT = 60.0


class Copies:
    """A reconciler: each ConfigMap `x` has a copy `x-copy`, which goes when it goes."""

    def __init__(self, client: Client, informer: SharedInformer) -> None:
        self._client = client
        self._lister = informer.lister()

    def __call__(self, key: str) -> Result:
        namespace, name = split_key(key)
        source = self._lister.get(name, namespace)
        copy = self._lister.get(f"{name}-copy", namespace)
        if source is None and copy is not None:
            self._client.delete(CONFIG_MAPS, f"{name}-copy", namespace=namespace)
        elif source is not None and copy is None:
            body = {"metadata": {"name": f"{name}-copy", "namespace": namespace}, "data": source["data"]}
            self._client.create(CONFIG_MAPS, body, namespace=namespace)
        elif source is not None and copy is not None and copy["data"] != source["data"]:
            self._client.update(CONFIG_MAPS, {**copy, "data": source["data"]}, namespace=namespace)
        return Result()


def key_of_source(obj: dict[str, Any]) -> list[str]:
    return [object_key(obj).removesuffix("-copy")]


@pytest.fixture
def run() -> Iterator[Callable[[Manager], threading.Event]]:
    running: list[tuple[threading.Event, threading.Thread]] = []
    errors: list[Exception] = []

    def start(manager: Manager) -> threading.Event:
        stop = threading.Event()

        def target() -> None:
            try:
                manager.run(stop)
            except Exception as error:  # noqa: BLE001 - asserted below
                errors.append(error)

        thread = threading.Thread(target=target, daemon=True)
        running.append((stop, thread))
        thread.start()
        return stop

    yield start
    for stop, thread in running:
        stop.set()
        thread.join(WAIT)
        assert not thread.is_alive()
    assert errors == []


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def test_a_controller_follows_the_cluster(admin: Client, admin_kubeconfig: Path, namespace: str, run: Any) -> None:
    """Create, change, drift and delete are followed; health is good and every metric of the chain has moved."""
    metrics = Metrics()
    client = Client.load(str(admin_kubeconfig), metrics=metrics)
    informer = SharedInformer(
        ResourceListerWatcher(client, CONFIG_MAPS, namespace=namespace), name="configmaps", metrics=metrics
    )
    reconcile = Copies(client, informer)
    controller = Controller("copies", reconcile, workers=2, metrics=metrics)
    controller.watches(informer, key_of_source)
    manager = Manager(client, metrics=metrics, health_address="127.0.0.1:0", metrics_address="127.0.0.1:0")
    manager.add_informer(informer)
    manager.add_controllers(lambda _client: [controller])
    changed = threading.Condition()
    history: list[str] = []

    def note(obj: Any, data: str) -> None:
        if object_key(obj).endswith("-copy"):
            with changed:
                history.append(data)
                changed.notify_all()

    def wait_for_copy(*data: str) -> None:
        with changed:
            assert changed.wait_for(lambda: history == [*data], WAIT), history

    informer.add_event_handler(
        EventHandlers(
            on_add=lambda obj, _initial: note(obj, obj["data"]["k"]),
            on_update=lambda _old, new: note(new, new["data"]["k"]),
            on_delete=lambda obj: note(obj, "gone"),
        )
    )
    source = admin.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": namespace}, "data": {"k": "1"}})
    run(manager)
    wait_for_copy("1")
    admin.update(CONFIG_MAPS, {**source, "data": {"k": "2"}})
    wait_for_copy("1", "2")
    admin.patch(CONFIG_MAPS, "a-copy", {"data": {"k": "drift"}}, namespace=namespace)
    wait_for_copy("1", "2", "drift", "2")
    admin.delete(CONFIG_MAPS, "a", namespace=namespace)
    wait_for_copy("1", "2", "drift", "2", "gone")

    assert get(manager.health_server.port, "/healthz") == (200, "ok")
    assert get(manager.health_server.port, "/readyz") == (200, "ok")
    text = get(manager.metrics_server.port, "/metrics")[1]
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['controller_runtime_reconcile_total{controller="copies",result="success"}']) >= 4
    assert float(values['workqueue_adds_total{controller="copies",name="copies"}']) >= 4
    assert float(values['reflector_watches_total{name="configmaps"}']) >= 1
    assert float(values['reflector_last_resource_version{name="configmaps"}']) > 0
    posted = [float(v) for k, v in values.items() if k.startswith("rest_client_requests_total") and '"201"' in k]
    assert posted == [1.0]


@pytest.mark.slow
def test_a_kind_that_does_not_exist_yet_is_waited_for(
    admin: Client, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names what is missing and why; when its definition comes the controller starts, without a restart."""
    group = f"{uuid.uuid4().hex[:8]}.example.com"
    things = Resource(group, "v1", "things", "Thing", namespaced=False)
    reconciled = threading.Event()

    def reconcile(_key: str) -> Result:
        reconciled.set()
        return Result()

    informer = SharedInformer(ResourceListerWatcher(admin, things), name="things")
    controller = Controller("things", reconcile)
    controller.watches(informer, lambda obj: [object_key(obj)])
    manager = Manager(admin, health_address="127.0.0.1:0")
    manager.add_informer(informer)
    manager.add_controllers(lambda _client: [controller])
    stop = run(manager)
    told = threading.Event()
    while not told.wait(0.1):
        if any(r.getMessage() == "Still waiting for a cache" for r in caplog.records):
            told.set()
        assert not stop.is_set()
    assert get(manager.health_server.port, "/healthz") == (200, "ok")
    assert get(manager.health_server.port, "/readyz")[0] == 500
    (record,) = [r for r in caplog.records if r.getMessage() == "Still waiting for a cache"]
    assert record.informer == "things"  # type: ignore[attr-defined]
    assert "404" in record.error  # type: ignore[attr-defined]
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    admin.create(
        CRDS,
        {
            "metadata": {"name": f"things.{group}"},
            "spec": {
                "group": group,
                "scope": "Cluster",
                "names": {"plural": "things", "kind": "Thing"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        },
    )

    def create() -> bool:
        try:
            admin.create(things, {"apiVersion": things.api_version, "kind": "Thing", "metadata": {"name": "a"}})
        except Exception:  # noqa: BLE001 - the new kind is served a moment later
            return False
        return True

    while not create():
        assert not stop.wait(0.1)
    assert reconciled.wait(WAIT)
    assert get(manager.health_server.port, "/readyz") == (200, "ok")
