"""One line of the log with what the cluster has and uses, for those who collect it from there.

It is JSON whatever the format of the log is, with the fields that the agent in Go writes:

    {"time": ..., "level": "info", "logger": ..., "msg": "Cluster metrics logged successfully.", "metrics": true,
     "clusterInfo": {
       "resources": [{"nodeName", "instanceType", "capacity": {"cpu", "ephemeralStorage", "memory", "pods"}}],
       "usage": [{"nodeName", "startCollectingTimestamp", "usage": {"cpu", "memory", "ephemeralStorage", "pods"}}],
       "persistentVolumes": [{"name", "capacity", "claim": {"name", "namespace"}}]}}

Quantities are strings as Kubernetes writes them, "0" where it says nothing; a volume without a claim has no ``claim``.
The line tells all or nothing: when one source fails, for instance because no metrics server runs, a warning says so.
"""

import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any, TextIO

from controller.runtime.logs import JsonFormatter
from informers import ApiError, Client, Resource
from workqueue import Clock

_log = logging.getLogger(__name__)

NODES = Resource(group="", version="v1", plural="nodes", kind="Node", namespaced=False)
NODE_METRICS = Resource(group="metrics.k8s.io", version="v1beta1", plural="nodes", kind="NodeMetrics", namespaced=False)
PERSISTENT_VOLUMES = Resource(
    group="", version="v1", plural="persistentvolumes", kind="PersistentVolume", namespaced=False
)

_INSTANCE_TYPES = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")  # the second until 1.17
_QUANTITIES = {"cpu": "cpu", "ephemeralStorage": "ephemeral-storage", "memory": "memory", "pods": "pods"}

Object = dict[str, Any]


class ClusterMetrics:
    """Writes the line once an interval; the first one after the first interval."""

    def __init__(self, client: Client, *, interval: float, clock: Clock, stream: TextIO | None = None) -> None:
        """``interval`` in seconds; ``stream`` is standard error by default."""
        self._client = client
        self._interval = interval
        self._clock = clock
        self._line = logging.getLogger(f"{__name__}.line")
        self._line.propagate = False
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(JsonFormatter(timestamp="time", message="msg"))
        self._line.handlers = [handler]

    def run(self, stop: threading.Event) -> None:
        """Blocks until stop is set."""
        while not self._clock.sleep(self._interval, stop):
            try:
                info = self._cluster_info()
            except ApiError as error:
                _log.warning("cluster metrics cannot be read", extra={"error": str(error)})
                continue
            self._line.info("Cluster metrics logged successfully.", extra={"metrics": True, "clusterInfo": info})
        _log.info("Logging stopped.")

    def _cluster_info(self) -> Object:
        return {
            "resources": [_node(node) for node in self._items(NODES)],
            "usage": [_usage(metrics) for metrics in self._items(NODE_METRICS)],
            "persistentVolumes": [_volume(volume) for volume in self._items(PERSISTENT_VOLUMES)],
        }

    def _items(self, resource: Resource) -> list[Object]:
        items: list[Object] = self._client.list(resource)["items"]
        return items


def _node(node: Object) -> Object:
    labels = node["metadata"].get("labels") or {}
    return {
        "nodeName": node["metadata"]["name"],
        "instanceType": next((labels[name] for name in _INSTANCE_TYPES if name in labels), ""),
        "capacity": _quantities(node.get("status", {}).get("capacity")),
    }


def _usage(metrics: Object) -> Object:
    return {
        "nodeName": metrics["metadata"]["name"],
        "startCollectingTimestamp": metrics.get("timestamp"),
        "usage": _quantities(metrics.get("usage")),
    }


def _quantities(given: Mapping[str, str] | None) -> dict[str, str]:
    return {name: str((given or {}).get(resource, "0")) for name, resource in _QUANTITIES.items()}


def _volume(volume: Object) -> Object:
    spec = volume.get("spec", {})
    told: Object = {
        "name": volume["metadata"]["name"],
        "capacity": str((spec.get("capacity") or {}).get("storage", "0")),
    }
    claim = spec.get("claimRef")
    if claim:
        told["claim"] = {"name": claim.get("name", ""), "namespace": claim.get("namespace", "")}
    return told
