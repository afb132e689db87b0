"""The stores over caches that have not heard of what others wrote."""

from collections.abc import Callable
from typing import Any

import pytest

from controller.connection.credentials import CredentialsStore, Registration
from controller.connection.store import ConnectionStore
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME, SECRET
from informers import Indexer, MutationCache, Resource
from informers.errors import Conflict, NotFound
from informers.resource import object_key
from tests.clock import VirtualClock
from tests.support.connection_bench import CA, CLUSTER, Bench
from tests.support.object_store import Object, ObjectStore


@pytest.fixture(params=[True, False], ids=["own CRD", "CRD of the Go agent"])
def server(request: pytest.FixtureRequest) -> ObjectStore:
    return Bench(subresource=request.param).paired().server


def frozen(server: ObjectStore, resource: Resource) -> MutationCache:
    """A cache that shows what there is now, and does not move."""
    live, indexer = server.indexer(resource), Indexer(resource)
    for obj in live.list():
        indexer.put(object_key(obj), obj, "1")
    return MutationCache(indexer, clock=VirtualClock())


def connections(server: ObjectStore, **options: Any) -> ConnectionStore:
    return ConnectionStore(server, frozen(server, COMPASS_CONNECTION), clock=VirtualClock(), **options)  # type: ignore[arg-type]


def annotate(key: str) -> Callable[[Object], None]:
    def change(obj: Object) -> None:
        obj["metadata"].setdefault("annotations", {})[key] = "here"

    return change


def set_state(obj: Object) -> None:
    obj.setdefault("status", {})["connectionState"] = "Synchronized"


def remove_annotation(key: str) -> Callable[[Object], None]:
    return lambda obj: obj["metadata"].get("annotations", {}).pop(key, None)


def test_what_was_written_after_a_conflict_is_seen_and_can_be_undone(server: ObjectStore) -> None:
    """Somebody wrote unseen: the own write went on top of that, and the next one begins where it ended."""
    store = connections(server)
    server.edit(COMPASS_CONNECTION, CONNECTION_NAME, annotate("somebody's"))
    written = store.apply(CONNECTION_NAME, annotate("own"))
    assert store.get(CONNECTION_NAME) == written
    store.apply(CONNECTION_NAME, remove_annotation("own"))
    stored = server.get(COMPASS_CONNECTION, CONNECTION_NAME)
    assert stored["metadata"]["annotations"] == {"somebody's": "here"}


def test_a_status_written_after_a_conflict_between_two_writes_is_seen(server: ObjectStore) -> None:
    """Somebody wrote between the write of the object and the one of its status."""
    store = connections(server)
    seen: list[str] = []

    def between(verb: str, kind: str) -> None:
        seen.append(kind)
        if len(seen) == 2:
            server.edit(COMPASS_CONNECTION, CONNECTION_NAME, annotate("somebody's"))

    def change(obj: Object) -> None:
        annotate("own")(obj)
        obj["status"]["connectionState"] = "MetadataUpdateFailed"

    server.before = between
    written = store.apply(CONNECTION_NAME, change)
    assert store.get(CONNECTION_NAME) == written == server.get(COMPASS_CONNECTION, CONNECTION_NAME)
    assert written["status"]["connectionState"] == "MetadataUpdateFailed"


def test_what_is_created_after_an_unseen_deletion_is_seen(server: ObjectStore) -> None:
    """And not the object that is gone."""
    store = connections(server)
    server.delete(COMPASS_CONNECTION, CONNECTION_NAME)
    created = store.apply(CONNECTION_NAME, set_state)
    assert store.get(CONNECTION_NAME) == created == server.get(COMPASS_CONNECTION, CONNECTION_NAME)
    assert (created["apiVersion"], created["kind"]) == (COMPASS_CONNECTION.api_version, COMPASS_CONNECTION.kind)
    assert created["status"]["connectionState"] == "Synchronized"
    assert ("conditions" in created["status"]) is server.subresource


@pytest.mark.parametrize(
    ("changes", "writes"),
    [((annotate("own"),), 1), ((set_state,), 1), ((annotate("own"), set_state), 2)],
    ids=["object", "status", "both"],
)
def test_a_change_has_a_write_for_each_part(
    server: ObjectStore, changes: tuple[Callable[[Object], None], ...], writes: int
) -> None:
    """And none if it changes nothing. The CRD of the Go agent has one part."""
    store = connections(server)
    attempts: list[str] = []
    server.before = lambda verb, _kind: attempts.append(verb)

    def change(obj: Object) -> None:
        for part in changes:
            part(obj)

    for _ in range(2):
        store.apply(CONNECTION_NAME, change)
        assert attempts == ["update"] * (writes if server.subresource else 1)


def test_a_change_includes_what_others_overlay(server: ObjectStore) -> None:
    def overlay(obj: Object) -> None:
        obj["status"]["synchronizationStatus"] = {"error": "overlaid"}

    written = connections(server, overlay=overlay).apply(CONNECTION_NAME, set_state)
    assert written["status"]["synchronizationStatus"] == {"error": "overlaid"}
    assert written["status"]["connectionState"] == "Synchronized"


def test_an_object_that_is_gone_is_not_changed(server: ObjectStore) -> None:
    """Nor is another one of its name, whose spec was not read."""
    store = connections(server)
    gone = store.get(CONNECTION_NAME)
    server.remove(COMPASS_CONNECTION, CONNECTION_NAME)
    another = server.put(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {}})
    assert store.apply_to(gone, annotate("own")) is None
    assert server.get(COMPASS_CONNECTION, CONNECTION_NAME) == another


def test_a_write_ends_when_somebody_else_writes_all_the_time(server: ObjectStore) -> None:
    """After five attempts, and the queue tries again."""
    attempts: list[str] = []

    def write(verb: str, _kind: str) -> None:
        attempts.append(verb)
        server.edit(COMPASS_CONNECTION, CONNECTION_NAME, annotate(f"somebody's {len(attempts)}"))

    server.before = write
    with pytest.raises(Conflict, match="CompassConnection compass-connection was changed by other clients"):
        connections(server).apply(CONNECTION_NAME, annotate("own"))
    assert attempts == ["update"] * 5


def test_without_a_crd_a_write_ends(server: ObjectStore) -> None:
    attempts: list[str] = []

    def gone(verb: str, _kind: str) -> None:
        attempts.append(verb)
        raise NotFound("the server could not find the requested resource", status=404)

    server.remove(COMPASS_CONNECTION, CONNECTION_NAME)
    server.before = gone
    with pytest.raises(NotFound):
        connections(server).apply(CONNECTION_NAME, annotate("own"))
    assert attempts == ["create"]


def test_a_crd_that_is_replaced_is_noticed(server: ObjectStore) -> None:
    """By the first write of the status without its effect, or whose path is not there any more."""
    store = connections(server)
    store.apply(CONNECTION_NAME, annotate("own"))
    server.subresource = not server.subresource
    written = store.apply(CONNECTION_NAME, lambda obj: obj["status"].update(connectionState="MetadataUpdateFailed"))
    assert written["status"]["connectionState"] == "MetadataUpdateFailed"
    assert ("conditions" in written["status"]) is server.subresource
    assert store.get(CONNECTION_NAME) == written == server.get(COMPASS_CONNECTION, CONNECTION_NAME)


def test_the_kind_of_the_crd_is_read_once(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, request = [], server.request

    def noted(method: str, path: str) -> Object:
        paths.append(path)
        return request(method, path)

    monkeypatch.setattr(server, "request", noted)
    store = connections(server)
    for key in ("one", "another"):
        store.apply(CONNECTION_NAME, annotate(key))
    assert len(paths) == 1


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("spec",), "nonsense"),
        (("spec", "pairing"), ["nonsense"]),
        (("status",), 1),
        (("status", "connectionStatus", "certificateStatus"), "nonsense"),
        (("metadata", "annotations"), {"one": 1}),
    ],
    ids=str,
)
def test_a_field_of_another_type_is_read_as_absent(server: ObjectStore, way: tuple[str, ...], value: object) -> None:
    """A CRD may be replaced by one that checks no types. A `spec` is there always."""

    def damage(obj: Object) -> None:
        for name in way[:-1]:
            obj = obj.setdefault(name, {})
        obj[way[-1]] = value

    server.edit(COMPASS_CONNECTION, CONNECTION_NAME, damage)
    found = connections(server).get(CONNECTION_NAME)
    assert found is not None
    assert isinstance(found["spec"], dict)
    for name in way[:-1]:
        found = found[name]
    assert found.get(way[-1], {}) == {}


def test_credentials_written_after_a_conflict_are_the_ones_in_use(server: ObjectStore) -> None:
    """Or the next reconcile would go on with the ones before."""
    secrets = frozen(server, SECRET)
    store = CredentialsStore(
        server,  # type: ignore[arg-type]
        cluster_secrets=secrets,
        cluster_name=CLUSTER,
        ca_secrets=secrets,
        ca_name=CA,
    )
    server.edit(SECRET, CLUSTER.name, annotate("somebody's"), CLUSTER.namespace)
    moved = Registration(
        runtime_id="runtime", tenant="tenant", connector_url="https://moved", director_url="https://moved"
    )
    store.save_registration(moved, store.load())
    assert store.load().registration == moved
