"""One log line with resources and usage of the cluster, for collectors of the log.

It is JSON for any log format, with the fields of the Go agent:

    {"time": ..., "level": "info", "logger": ..., "msg": "Cluster metrics logged successfully.", "metrics": true,
     "clusterInfo": {
       "resources": [{"nodeName", "instanceType", "capacity": {"cpu", "ephemeralStorage", "memory", "pods"}}],
       "usage": [{"nodeName", "startCollectingTimestamp", "usage": {"cpu", "memory", "ephemeralStorage", "pods"}}],
       "persistentVolumes": [{"name", "capacity", "claim": {"name", "namespace"}}]}}

Quantities are strings as Kubernetes writes them, "0" if absent; a volume without a claim has no `claim`. If one
source fails, for example without a metrics server, no line is written, and a warning has the reason.
"""

import logging
import sys
import threading
from typing import Any, TextIO

from controller.fields import member, objects
from controller.runtime.logs import JsonFormatter
from controller.text import clean
from informers import ApiError, Client, Resource
from workqueue import Clock

log = logging.getLogger(__name__)

NODES = Resource(group="", version="v1", plural="nodes", kind="Node", namespaced=False)
NODE_METRICS = Resource(group="metrics.k8s.io", version="v1beta1", plural="nodes", kind="NodeMetrics", namespaced=False)
PERSISTENT_VOLUMES = Resource(
    group="", version="v1", plural="persistentvolumes", kind="PersistentVolume", namespaced=False
)

_INSTANCE_TYPES = (
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",  # the name until Kubernetes 1.17
)
_ZERO = "0"
_MAX_TEXT = 253
_QUANTITIES = {"cpu": "cpu", "ephemeralStorage": "ephemeral-storage", "memory": "memory", "pods": "pods"}

Object = dict[str, Any]


class ClusterMetrics:
    """Writes the line once in each interval, the first time after one interval."""

    def __init__(self, client: Client, *, interval: float, clock: Clock, stream: TextIO | None = None) -> None:
        """`interval` in seconds; `stream` is standard error by default."""
        self._client = client
        self._interval = interval
        self._clock = clock
        self._line = logging.getLogger(f"{__name__}.line")
        self._line.propagate = False
        self._line.setLevel(logging.INFO)  # collectors of logs need the line at any APP_LOG_LEVEL
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(JsonFormatter(timestamp="time", message="msg"))
        self._line.handlers = [handler]

    def run(self, stop: threading.Event) -> None:
        """Blocks until stop is set."""
        while not self._clock.sleep(self._interval, stop):
            self.write_line()
        log.info("Cluster metrics stopped")

    def write_line(self) -> None:
        """Write the line, or a warning with the reason why there is none."""
        try:
            info = self._cluster_info()
        except ApiError as error:
            log.warning("Cannot read the cluster metrics", extra={"error": str(error)})
        else:
            self._line.info("Cluster metrics logged successfully.", extra={"metrics": True, "clusterInfo": info})

    def _cluster_info(self) -> Object:
        return {
            "resources": [_node(node) for node in self._items(NODES)],
            "usage": [_usage(metrics) for metrics in self._items(NODE_METRICS)],
            "persistentVolumes": [_volume(volume) for volume in self._items(PERSISTENT_VOLUMES)],
        }

    def _items(self, resource: Resource) -> list[Object]:
        return objects(self._client.list(resource).get("items"))


# Another server implements the metrics API, so its answers are not trusted: unexpected shapes are left out.


def _node(node: Object) -> Object:
    metadata = member(node, "metadata")
    labels = member(metadata, "labels")
    return {
        "nodeName": _text(metadata, "name"),
        "instanceType": next((text for name in _INSTANCE_TYPES if (text := _text(labels, name))), ""),
        "capacity": _quantities(member(member(node, "status"), "capacity")),
    }


def _usage(metrics: Object) -> Object:
    return {
        "nodeName": _text(member(metrics, "metadata"), "name"),
        "startCollectingTimestamp": _text(metrics, "timestamp") or None,
        "usage": _quantities(member(metrics, "usage")),
    }


def _volume(volume: Object) -> Object:
    spec = member(volume, "spec")
    described: Object = {
        "name": _text(member(volume, "metadata"), "name"),
        "capacity": _text(member(spec, "capacity"), "storage") or _ZERO,
    }
    claim = member(spec, "claimRef")
    if claim:
        described["claim"] = {"name": _text(claim, "name"), "namespace": _text(claim, "namespace")}
    return described


def _quantities(given: Object) -> dict[str, str]:
    return {name: _text(given, resource) or _ZERO for name, resource in _QUANTITIES.items()}


def _text(obj: Object, name: str) -> str:
    """A text or a number as text, no longer than any name in Kubernetes; "" for anything else."""
    value = obj.get(name)
    return clean(str(value), _MAX_TEXT) if isinstance(value, (str, int, float)) else ""
