"""Whatever people write into objects: no exception leaves a reconcile, no secret is told, and memory is bounded."""

import contextlib
import copy
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from controller.connection.status import derive_conditions
from controller.fields import member
from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.settings import ObjectName
from informers import Resource
from informers.errors import NotFound
from tests.support.connection_bench import CA, CLUSTER, CONFIGURATION, Bench
from tests.support.fuzzing import PLACES, VALUES, log, planted, quickly, strings
from tests.support.sync import Agent, Cluster, Director, application

Object = dict[str, Any]

NAME = "shop"
PASSWORD = "canary-of-Compass"
THEIRS = "canary-of-a-user"

#: What the API server sets, or what makes the object another one.
_FIXED = ("name", "namespace", "uid", "resourceVersion", "generation")


def _synchronized() -> Agent:
    director = Director()
    director.applications = [application(NAME, secret=PASSWORD), application("other")]
    agent = Agent(Cluster(), director)
    agent.settle()
    assert agent.state == "Synchronized"
    return agent


def _edited(obj: Object, way: list[int], value: Any) -> Object:
    """The object with any value in any place that people may write."""
    metadata = obj["metadata"]
    whole = {
        "metadata": {
            "labels": {},
            "annotations": {},
            "ownerReferences": [],
            "finalizers": [],
            **{key: item for key, item in metadata.items() if key not in _FIXED},
        },
        **{key: item for key, item in obj.items() if key not in ("metadata", "kind", "apiVersion")},
    }
    changed = planted(whole, way, value)
    changed = changed if isinstance(changed, dict) else {"spec": changed}
    given = changed.get("metadata")
    free = {key: item for key, item in given.items() if key not in _FIXED} if isinstance(given, dict) else {}
    return {**changed, "metadata": free | {key: metadata[key] for key in _FIXED if key in metadata}}


def assert_nothing_is_told(agent: Agent, text: str) -> None:
    """No secret in any place that people or machines read, and nothing there that harms a terminal."""
    metrics = generate_latest(agent.registry).decode()
    told = [text, metrics, *strings(agent.recorder.events), *strings(agent.connections.object)]
    assert not [place for place in told if PASSWORD in place or THEIRS in place]
    assert all(line.isprintable() for line in text.splitlines())


@quickly
@given(way=PLACES, value=VALUES)
def test_any_value_in_any_place_of_an_application(way: list[int], value: Any) -> None:
    """It is reverted, or stays unchanged as one of a user; the other Application stays in sync."""
    agent = _synchronized()
    before = copy.deepcopy(agent.cluster.applications()[NAME])
    with log() as text:
        agent.cluster.put(APPLICATION, _edited(before, way, value))
        agent.settle()
        agent.cycle(60)
        assert agent.state in ("Synchronized", "ResourceApplicationFailed")
        assert all(place.isprintable() for place in strings(agent.status))
        agent.director.applications = [application("other", description="changed")]
        agent.cycle(60)
    assert agent.cluster.applications()["other"]["spec"]["description"] == "changed"
    assert agent.state == "Synchronized"
    assert_nothing_is_told(agent, text.getvalue())


@quickly
@given(name=st.sampled_from(["shop-id-shop-bundle", "theirs"]), way=PLACES, value=VALUES)
@example(name="theirs", way=[0, 2, 0, 2], value="")  # an owner without a name
def test_any_value_in_any_place_of_a_secret(name: str, way: list[int], value: Any) -> None:
    """Labels, owners, data: of the agent's own and of one that is like it."""
    agent = _synchronized()
    secret = copy.deepcopy(agent.cluster.secrets()["shop-id-shop-bundle"])
    secret["metadata"]["name"] = name
    secret["data"] |= {"key": THEIRS} if name == "theirs" else {}
    with log() as text:
        agent.cluster.put(SECRET, _edited(secret, way, value))
        agent.settle()
        agent.cycle(60)
        assert agent.state in ("Synchronized", "ResourceApplicationFailed")
        agent.director.applications = [application("other", description="changed")]
        agent.cycle(60)
    assert agent.cluster.applications().keys() == {"other"}
    assert_nothing_is_told(agent, text.getvalue())


@quickly
@given(way=PLACES, value=VALUES)
def test_any_value_in_any_place_of_the_compass_connection(way: list[int], value: Any) -> None:
    """As far as the synchronisation reads it: annotations, spec, and a status that somebody has edited."""
    agent = _synchronized()
    assert agent.connections.object is not None
    with log() as text:
        agent.connections.object = _edited(agent.connections.object, way, value)
        agent.sync_due = True
        agent.settle()
        agent.cycle(60)
    assert agent.cluster.applications().keys() == {NAME, "other"}
    assert_nothing_is_told(agent, text.getvalue())


@pytest.mark.parametrize("kind", [[], {}, None, 5, True, ["Ready"]], ids=str)
def test_a_condition_of_no_type_is_left_out(kind: object) -> None:
    """Others stay, whoever they are of."""
    others = {"type": "Theirs", "status": "True"}
    connection: Object = {
        "metadata": {},
        "status": {"conditions": [{"type": kind, "status": "True"}, others, "nonsense"]},
    }
    derive_conditions(connection, now=0.0)
    types = [condition["type"] for condition in connection["status"]["conditions"]]
    assert types == ["Theirs", "Ready", "Connected", "Synchronized"]


# --- what the connection is made of ---

CANARY = "canary-that-a-user-wrote-into-a-field"

_CONNECTION_PARTS: list[tuple[Resource, ObjectName]] = [
    (CONFIG_MAP, CONFIGURATION),
    (SECRET, CONFIGURATION),
    (SECRET, CLUSTER),
    (SECRET, CA),
    (COMPASS_CONNECTION, ObjectName("", CONNECTION_NAME)),
]


@quickly
@given(
    part=st.sampled_from(_CONNECTION_PARTS),
    way=PLACES,
    value=VALUES | st.sampled_from([CANARY, {"token": CANARY}, {"pairing": {"token": CANARY}}, {"TOKEN": CANARY}]),
    subresource=st.booleans(),
    paired=st.booleans(),
)
def test_any_value_in_any_place_of_what_a_connection_is_made_of(
    part: tuple[Resource, ObjectName], way: list[int], value: Any, subresource: bool, paired: bool
) -> None:
    """Configuration, credentials, CA, CompassConnection: told and tried again, until there is a fresh token."""
    resource, where = part
    bench = Bench(subresource=subresource)
    token = bench.configure(kind="Secret" if part == (SECRET, CONFIGURATION) else "ConfigMap")["TOKEN"]
    secrets = {token}
    if paired or part not in _CONNECTION_PARTS[:2]:
        bench.settle()
        secrets.add(bench.secret()["data"]["key"])

    hidden = {CANARY, *secrets}

    def edit(obj: Object) -> None:
        edited = _edited(obj, way, value)
        if CANARY in _ids(edited):
            hidden.discard(CANARY)  # the ids of Runtime and tenant are shown, for example in the id of each call
        obj.clear()
        obj.update(edited)

    with log() as text:
        bench.server.edit(resource, where.name, edit, namespace=where.namespace or None)
        before = _status(bench)
        bench.run(400)
    told = [text.getvalue(), *strings(bench.recorder.events), *(set(strings(_status(bench))) - set(strings(before)))]
    assert not [place for place in told for secret in hidden if secret in place]
    assert all(line.isprintable() for line in text.getvalue().splitlines())
    for kind, each in _CONNECTION_PARTS:
        with contextlib.suppress(KeyError):
            bench.server.remove(kind, each.name, each.namespace or None)
    bench.configure()
    bench.run(400)
    assert bench.state == "Connected", bench.error


def _ids(obj: Object) -> list[Any]:
    pairing = member(member(obj, "spec"), "pairing")
    return [member(obj, "data").get(key) for key in ("RUNTIME_ID", "TENANT")] + [
        pairing.get(key) for key in ("runtimeId", "tenant")
    ]


def _status(bench: Bench) -> Any:
    try:
        return bench.connection.get("status")
    except NotFound:
        return None


HUGE = "x" * 1_500_000  # about as much as etcd takes in one object

HUGE_PLACES: list[tuple[str, Callable[[Object], Any]]] = [
    ("annotation", lambda obj: obj["metadata"].setdefault("annotations", {}).update(huge=HUGE)),
    ("label", lambda obj: obj["metadata"]["labels"].update(huge=HUGE)),
    ("description", lambda obj: obj["spec"].update(description=HUGE)),
    ("services", lambda obj: obj["spec"].update(services=[{"id": str(n), "entries": []} for n in range(50_000)])),
]


@pytest.mark.parametrize("edit", [row[1] for row in HUGE_PLACES], ids=[row[0] for row in HUGE_PLACES])
def test_the_largest_object_costs_a_few_times_its_size(edit: Callable[[Object], Any]) -> None:
    """Reverted, reported in a line of the log that does not hold it, and not kept."""
    agent = _synchronized()
    edited = copy.deepcopy(agent.cluster.applications()[NAME])
    edit(edited)
    agent.cluster.put(APPLICATION, edited)
    tracemalloc.start()
    try:
        with log() as text:
            agent.settle()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert agent.state == "Synchronized"
    assert peak < 100_000_000
    assert len(text.getvalue()) < 20_000
