"""Events on a real API server. (Those of cluster-scoped objects: tests/integration/sync.)"""

from controller.runtime.events import EVENTS, EventRecorder
from informers import Client, Resource, Stop

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


def test_events_of_a_namespaced_object_are_counted(admin: Client, namespace: str) -> None:
    """The API server accepts what the recorder writes; the second time the count rises."""
    made = admin.create(CONFIG_MAPS, {"metadata": {"name": "shop", "namespace": namespace}}, namespace=namespace)
    config_map = {"apiVersion": "v1", "kind": "ConfigMap"} | made
    recorder, stop = EventRecorder(admin, "test-agent"), Stop()
    stop.set()  # run() writes what waits, and returns
    recorder.event(config_map, "Warning", "Broken", "It broke")
    recorder.run(stop)
    recorder.event(config_map, "Warning", "Broken", "It broke")
    recorder.event(config_map, "Normal", "Mended", "It works")
    recorder.run(stop)
    found = admin.list(EVENTS, namespace=namespace, field_selector="involvedObject.name=shop")["items"]
    events = {event["reason"]: event for event in found}
    assert {reason: event["count"] for reason, event in events.items()} == {"Broken": 2, "Mended": 1}
    assert events["Broken"]["involvedObject"]["uid"] == made["metadata"]["uid"]
    assert events["Broken"]["source"] == {"component": "test-agent"}
    assert events["Broken"]["metadata"]["name"].startswith("shop.")
