"""Informers against a real API server: custom resources, lost history, a killed server, many objects and handlers."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import Configuration

from e2e.controlplane import ControlPlane
from informers import (
    ApiError,
    Client,
    ConnectionFailed,
    DeletedFinalStateUnknown,
    EventHandlers,
    Expired,
    Forbidden,
    ListerWatcher,
    NotFound,
    Resource,
    SharedInformer,
    WatchStream,
)
from informers.credentials import Credentials
from informers.errors import error_from_status
from informers.transport import Stop
from tests.fake_api_server.waiting import eventually
from tests.integration.informers.buffering_proxy import BufferingProxy

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


_opened: list[Client] = []  # by a test, to be closed at its end


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


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


def client_of(plane: ControlPlane, tmp_path: Path, **user: Any) -> Client:
    return opened(Client.load(str(plane.write_kubeconfig(tmp_path / "kubeconfig", **user))))


def opened(client: Client) -> Client:
    _opened.append(client)
    return client


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


def test_forbidden(control_plane: ControlPlane, start: Start, tmp_path: Path) -> None:
    """Without the right to list, last_error names user and resource."""
    nobody = client_of(control_plane, tmp_path, user="nobody", groups=())
    informer = start(nobody, CONFIG_MAPS)
    eventually(lambda: isinstance(informer.last_error, Forbidden))
    assert 'User "nobody" cannot' in str(informer.last_error)
    assert not informer.has_synced


def test_history_lost(own_plane: ControlPlane, start: Start, tmp_path: Path) -> None:
    """A true 410: while the server was away an object vanished and etcd was compacted. It comes as a tombstone."""
    client = client_of(own_plane, tmp_path)
    for name in ("a", "b"):
        client.create(CONFIG_MAPS, {"metadata": {"name": name, "namespace": "default"}})
    deleted: list[object] = []
    informer = start(
        client, CONFIG_MAPS, EventHandlers(on_delete=deleted.append), watch_list=False, namespace="default"
    )
    eventually(lambda: names(informer) >= {"a", "b"})
    version = informer.indexer.resource_version
    second = own_plane.start_second_apiserver()
    other = opened(Client.load(str(own_plane.write_kubeconfig(tmp_path / "second", server=second))))
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


@pytest.mark.slow
@pytest.mark.usefixtures("widgets")
@pytest.mark.timeout(600)
def test_many_objects_and_handlers(admin: Client, namespace: str, start: Start) -> None:
    """20,000 objects in pages from etcd, and 50 handlers: each is told of each, once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: admin.create(WIDGETS, widget(namespace, f"w{n}", size=n)), range(20_000)))
    pages: list[Any] = []
    token = ""
    while not pages or token:
        page = admin.list(WIDGETS, namespace=namespace, limit=500, continue_=token)
        pages.append(len(page["items"]))
        token = page["metadata"].get("continue", "")
    assert pages == [500] * 40
    counts = [0] * 50

    def counter(number: int) -> Callable[[Any, bool], None]:
        def count(obj: Any, initial: bool) -> None:
            counts[number] += 1

        return count

    handlers = [EventHandlers(on_add=counter(number)) for number in range(50)]
    for watch_list in (True, False):
        counts[:] = [0] * 50
        informer = start(admin, WIDGETS, *handlers, watch_list=watch_list, namespace=namespace)
        eventually(lambda: counts == [20_000] * 50, timeout=120)
        assert len(informer.indexer) == 20_000


class FastClock:
    """Sixty seconds pass in one."""

    def monotonic(self) -> float:
        return time.monotonic() * 60

    def time(self) -> float:
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        return condition.wait(None if timeout is None else timeout / 60)

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        return stop.wait(seconds / 60)


@pytest.mark.parametrize("holds_headers", [False, True], ids=["body", "headers and body"])
def test_a_proxy_that_holds_back_watches(
    admin: Client, admin_kubeconfig: Path, namespace: str, holds_headers: bool
) -> None:
    """Changes come by lists, within minutes, and last_error says why they are late."""
    with BufferingProxy(admin_kubeconfig, holds_headers=holds_headers, scale=60) as proxy:
        configuration, clock = Configuration(host=proxy.url), FastClock()
        client = opened(Client(configuration, Credentials(configuration), watch_read_timeout=70 / 60, clock=clock))
        source = ListerWatcher(client, CONFIG_MAPS, namespace=namespace)
        informer = SharedInformer(source, name="configmaps", clock=clock)
        stop = Stop()
        thread = threading.Thread(target=informer.run, args=(stop,))
        thread.start()
        try:
            for name in ("a", "b"):
                eventually(lambda: informer.has_synced and informer.is_watching is not holds_headers)
                admin.create(CONFIG_MAPS, {"metadata": {"name": name, "namespace": namespace}})
                created = clock.monotonic()
                eventually(lambda name=name: name in names(informer))  # type: ignore[misc]
                print(f"seen after {clock.monotonic() - created:.0f} s")
            told = "no complete answer" if holds_headers else "watches are silent"
            eventually(lambda: told in str(informer.last_error))
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()
