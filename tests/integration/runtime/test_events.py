"""Events on a real API server."""

from collections.abc import Callable
from typing import Any

import pytest

from controller.runtime.events import EVENTS, EventRecorder
from informers import Client, Resource, Stop

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


@pytest.fixture
def record(admin: Client) -> Callable[..., None]:
    """Record events, and have them written: each call runs a recorder's thread to its end."""
    recorder = EventRecorder(admin, "test-agent")

    def write(*events: tuple[Any, ...]) -> None:
        for event in events:
            recorder.event(*event)
        stop = Stop()
        stop.set()
        recorder.run(stop)

    return write


def events_of(admin: Client, namespace: str, name: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = admin.list(EVENTS, namespace=namespace, field_selector=f"involvedObject.name={name}")[
        "items"
    ]
    return items


def test_events_of_a_namespaced_object_are_counted(admin: Client, namespace: str, record: Any) -> None:
    """The API server takes what the recorder writes; the second time the count rises."""
    made = admin.create(CONFIG_MAPS, {"metadata": {"name": "shop", "namespace": namespace}}, namespace=namespace)
    config_map = {"apiVersion": "v1", "kind": "ConfigMap"} | made
    record((config_map, "Warning", "Broken", "It broke"))
    record((config_map, "Warning", "Broken", "It broke"), (config_map, "Normal", "Mended", "It works"))
    events = {event["reason"]: event for event in events_of(admin, namespace, "shop")}
    assert {reason: event["count"] for reason, event in events.items()} == {"Broken": 2, "Mended": 1}
    assert events["Broken"]["involvedObject"]["uid"] == made["metadata"]["uid"]
    assert events["Broken"]["source"] == {"component": "test-agent"}
    assert events["Broken"]["metadata"]["name"].startswith("shop.")


def test_events_of_a_cluster_scoped_object_are_in_namespace_default(admin: Client, namespace: str, record: Any) -> None:
    """Where `kubectl describe` looks for them."""
    made = {"apiVersion": "v1", "kind": "Namespace"} | admin.get(NAMESPACES, namespace)
    record((made, "Normal", "Seen", "It is there"))
    (event,) = events_of(admin, "default", namespace)
    assert event["reason"] == "Seen"
    assert "namespace" not in event["involvedObject"]
