"""What Kubernetes does with the Deployment of the agent, on a machine without nodes: processes instead of Pods."""

import threading
from collections.abc import Callable, Container
from typing import Any, Protocol

from e2e.kyma.operator import DEPLOYMENT, NAME
from informers import ApiError, Client, NotFound

_LOOK_SECONDS = 0.1

Object = dict[str, Any]


class Replica(Protocol):
    """One process of the agent."""

    name: str

    def ready(self) -> bool: ...


class DeploymentController:
    """Has as many processes run as the Deployment says, with its environment, and tells its status.

    New processes get ready before old ones are stopped. An image that is none of `images` is that of another agent,
    which nobody can start here: it is told as available, and nothing runs.
    """

    def __init__(
        self,
        client: Client,
        *,
        images: Container[str],
        start: Callable[[dict[str, str]], Replica],
        stop: Callable[[Replica], None],
    ) -> None:
        """`start` is given the environment of the container."""
        self._client = client
        self._images = images
        self._start = start
        self._stop = stop
        self._running: list[tuple[Object, Replica]] = []  # with the template that each was started from

    def run(self, stop: threading.Event) -> None:
        """Blocks until stop is set, and ends what it has started."""
        while not stop.wait(_LOOK_SECONDS):
            try:
                self.reconcile()
            except ApiError:  # the API server may be away; the next turn tries again
                continue
        self._scale(0, {})

    def reconcile(self) -> None:
        """One step towards what the Deployment says."""
        try:
            deployment = self._client.get(DEPLOYMENT, NAME, namespace="kyma-system")
        except NotFound:
            self._scale(0, {})
            return
        spec = deployment["spec"]
        template = spec["template"]["spec"]
        wanted: int = spec["replicas"]
        foreign = template["containers"][0]["image"] not in self._images
        self._scale(0 if foreign else wanted, template)
        ready = sum(replica.ready() for started_from, replica in self._running if started_from == template)
        self._tell(deployment, updated=wanted if foreign else ready, old=len(self._running) - ready if foreign else 0)

    def _scale(self, wanted: int, template: Object) -> None:
        current = [pair for pair in self._running if pair[0] == template][:wanted]
        while len(current) < wanted:
            pair = (template, self._start(_environment(template)))
            self._running.append(pair)
            current.append(pair)
        if all(replica.ready() for _, replica in current):
            for pair in [pair for pair in self._running if pair not in current]:
                self._running.remove(pair)
                self._stop(pair[1])

    def _tell(self, deployment: Object, *, updated: int, old: int) -> None:
        generation = deployment["metadata"]["generation"]
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status: Object = {"observedGeneration": generation, **dict.fromkeys(counts, updated)}
        status["replicas"] += old
        if deployment.get("status", {}) != {key: value for key, value in status.items() if value}:
            self._client.patch(DEPLOYMENT, NAME, {"status": status}, namespace="kyma-system", subresource="status")


def _environment(template: Object) -> dict[str, str]:
    variables = template["containers"][0].get("env", [])
    return {variable["name"]: variable.get("value", "") for variable in variables}
