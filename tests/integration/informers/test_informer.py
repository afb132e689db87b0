"""Informers against a real API server: custom resources, selectors, a missing CRD, lost history."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane import ControlPlane
from informers import (
    ApiError,
    Client,
    ConnectionFailed,
    DeletedFinalStateUnknown,
    EventHandlers,
    Expired,
    ListerWatcher,
    NotFound,
    Resource,
    SharedInformer,
    WatchStream,
)
from informers.errors import error_from_status
from informers.transport import Stop
from tests.fake_api_server.waiting import eventually

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
WIDGET_CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
Start = Callable[..., SharedInformer]
MODES = pytest.mark.parametrize("watch_list", [True, False], ids=["streamed", "listed"])


@pytest.fixture
def start() -> Iterator[Start]:
    """Makes and runs an informer until the end of the test."""
    running: list[tuple[threading.Thread, threading.Event]] = []

    def begin(
        client: Client, resource: Resource, *handlers: EventHandlers, watch_list: bool = True, **source: Any
    ) -> Any:
        informer = SharedInformer(
            ListerWatcher(client, resource, **source), name=resource.plural, watch_list=watch_list
        )
        for one in handlers:
            informer.add_event_handler(one)
        stop = Stop()
        thread = threading.Thread(target=informer.run, args=(stop,))
        thread.start()
        running.append((thread, stop))
        return informer

    yield begin
    for _, stop in running:
        stop.set()
    for thread, _ in running:
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def widgets(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("crd") / "widgets.yaml"
    path.write_text(WIDGET_CRD)
    control_plane.apply_crds(path)


@pytest.fixture
def own_plane() -> Iterator[ControlPlane]:
    """A control plane to be hurt. Without the watch cache a compaction is felt at once."""
    with ControlPlane(apiserver_flags=["--watch-cache=false"]) as plane:
        yield plane


def widget(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": spec}


def refusal(stream: WatchStream) -> ApiError | None:
    """The error a watch is answered with, by its status or its first event."""
    try:
        event = next(iter(stream), None)
    except ApiError as error:
        return error
    finally:
        stream.close()
    return error_from_status(event.object) if event and event.type == "ERROR" else None


def names(informer: SharedInformer) -> set[str]:
    return {obj["metadata"]["name"] for obj in informer.indexer.list()}


@MODES
@pytest.mark.usefixtures("widgets")
def test_custom_resources(admin: Client, namespace: str, start: Start, watch_list: bool) -> None:
    """What exists, comes, changes and goes is told and cached; other namespaces are not."""
    admin.create(WIDGETS, widget(namespace, "before"))
    log: list[str] = []
    handlers = EventHandlers(
        on_add=lambda obj, initial: log.append(f"+{obj['metadata']['name']} {initial}"),
        on_update=lambda old, new: log.append(f"~{old['spec']['size']}{new['spec']['size']}"),
        on_delete=lambda obj: log.append(f"-{obj['metadata']['name']}"),  # type: ignore[index]
    )
    informer = start(admin, WIDGETS, handlers, watch_list=watch_list, namespace=namespace)
    eventually(lambda: log == ["+before True"])
    created = admin.create(WIDGETS, widget(namespace, "after", size=1))
    admin.create(WIDGETS, widget("default", f"elsewhere-{namespace}"))
    admin.update(WIDGETS, created | {"spec": {"size": 2}})
    admin.delete(WIDGETS, "before", namespace=namespace)
    eventually(lambda: log[1:] == ["+after False", "~12", "-before"])
    assert names(informer) == {"after"}
    (cached,) = informer.indexer.list()
    assert cached == admin.get(WIDGETS, "after", namespace=namespace)


@MODES
def test_selectors(admin: Client, namespace: str, start: Start, watch_list: bool) -> None:
    """Only what the selector matches is there; an object that stops matching is deleted."""
    obj = {"metadata": {"name": "a", "namespace": namespace, "labels": {"test": namespace}}}
    admin.create(CONFIG_MAPS, obj)
    selector = {"label_selector": f"test={namespace}"}
    informer = start(admin, CONFIG_MAPS, watch_list=watch_list, **selector)
    eventually(lambda: names(informer) == {"a"})
    assert informer.indexer.list()[0]["kind"] == "ConfigMap", "built-in kinds are told in list items too"
    admin.patch(CONFIG_MAPS, "a", {"metadata": {"labels": None}}, namespace=namespace)
    eventually(lambda: not informer.indexer.list())


def test_missing_crd(admin: Client, start: Start, control_plane: ControlPlane, tmp_path: Path) -> None:
    """Until its CRD is there the informer says what is missing; then it works."""
    gadgets = Resource("example.com", "v1", "gadgets", "Gadget")
    informer = start(admin, gadgets)
    eventually(lambda: informer.last_error)
    assert isinstance(informer.last_error, NotFound)
    path = tmp_path / "gadgets.yaml"
    path.write_text(WIDGET_CRD.replace("widget", "gadget").replace("Widget", "Gadget"))
    control_plane.apply_crds(path)
    eventually(lambda: informer.has_synced, timeout=60)
    assert informer.last_error is None


def test_history_lost(own_plane: ControlPlane, start: Start, tmp_path: Path) -> None:
    """A true 410: while the server was away an object vanished and etcd was compacted. It comes as a tombstone."""
    client = Client.load(str(own_plane.write_kubeconfig(tmp_path / "kubeconfig")))
    for name in ("a", "b"):
        client.create(CONFIG_MAPS, {"metadata": {"name": name, "namespace": "default"}})
    deleted: list[object] = []
    informer = start(
        client, CONFIG_MAPS, EventHandlers(on_delete=deleted.append), watch_list=False, namespace="default"
    )
    eventually(lambda: names(informer) >= {"a", "b"})
    version = informer.indexer.resource_version
    second = own_plane.start_second_apiserver()
    other = Client.load(str(own_plane.write_kubeconfig(tmp_path / "second", server=second)))
    own_plane.kill_apiserver()
    eventually(lambda: isinstance(informer.last_error, ConnectionFailed))
    other.delete(CONFIG_MAPS, "a", namespace="default")
    other.create(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "default"}})
    own_plane.compact()
    own_plane.start_apiserver()
    assert isinstance(refusal(client.watch(CONFIG_MAPS, resource_version=version)), Expired), "the 410 must be true"
    eventually(lambda: names(informer) >= {"b", "c"}, timeout=60)
    assert "a" not in names(informer)
    eventually(lambda: deleted)  # the cache is written before the handlers are told
    assert [one.key for one in deleted if isinstance(one, DeletedFinalStateUnknown)] == ["default/a"]
    for each in (client, other):
        each.close()
