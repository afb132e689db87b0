"""A cluster with the agent in it, seen from outside: what is in the API server, and waiting for it to change."""

import base64
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from controller.applications.conversion import SECRETS_SELECTOR
from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.settings import ObjectName
from informers import ApiError, Client, NotFound, Resource

NAMESPACES = ("kyma-system", "istio-system")
CONFIGURATION = ObjectName("kyma-system", "compass-agent-configuration")
CLUSTER_SECRET = ObjectName("kyma-system", "cluster-client-certificates")
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kyma-system/leases/compass-runtime-agent"

_POLL_SECONDS = 0.02  # of conditions in the API server; nothing waits for less
_TIMEOUT = 30.0  # far above what anything takes on a busy machine

Object = dict[str, Any]
_T = TypeVar("_T")


class Cluster:
    """What people do with kubectl, for tests; through a client with all permissions."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def agent_logs(self) -> str:
        """The end of the agents' logs, for the error of a condition that was not met."""
        return ""

    # --- what is changed ---

    def configure(self, data: Mapping[str, str], *, secret: bool = False) -> None:
        """Writes the configuration as ConfigMap or Secret, over the one that is there."""
        obj: Object = {"metadata": {"name": CONFIGURATION.name, "namespace": CONFIGURATION.namespace}}
        if secret:
            self.put(SECRET, obj | {"data": {key: encoded(value) for key, value in data.items()}})
        else:
            self.put(CONFIG_MAP, obj | {"data": dict(data)})

    def put(self, resource: Resource, obj: Object) -> Object:
        """Creates an object, or replaces the one of that name."""
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        namespace = obj["metadata"].get("namespace")
        try:
            present = self.client.get(resource, obj["metadata"]["name"], namespace=namespace)
        except NotFound:
            return self.client.create(resource, obj, namespace=namespace)
        metadata = {**obj["metadata"], "resourceVersion": present["metadata"]["resourceVersion"]}
        return self.client.update(resource, {**obj, "metadata": metadata}, namespace=namespace)

    def patch_connection(self, patch: Object) -> Object:
        return self.client.patch(COMPASS_CONNECTION, CONNECTION_NAME, patch)

    def delete_connection(self) -> None:
        self.client.delete(COMPASS_CONNECTION, CONNECTION_NAME)

    def remove_all(self, *namespaces: str) -> None:
        """Deletes CompassConnections, Applications and lease, and the Secrets and ConfigMaps of the namespaces."""
        for resource in (COMPASS_CONNECTION, APPLICATION):
            with suppress(NotFound):  # the CRD may not be there
                for obj in self.client.list(resource)["items"]:
                    self.remove(resource, obj["metadata"]["name"])
        for namespace in set(namespaces):
            for resource in (SECRET, CONFIG_MAP):
                for obj in self.client.list(resource, namespace=namespace)["items"]:
                    self.remove(resource, obj["metadata"]["name"], namespace)
        with suppress(NotFound):
            self.client.request("DELETE", LEASE)

    def remove(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        """Deletes an object if it is there."""
        with suppress(NotFound):
            self.client.delete(resource, name, namespace=namespace)

    # --- what is there ---

    def connection(self) -> Object | None:
        """The CompassConnection; None when there is none, or no such kind of object."""
        try:
            return self.client.get(COMPASS_CONNECTION, CONNECTION_NAME)
        except NotFound:
            return None

    def state(self) -> str:
        """status.connectionState, "" without one."""
        text: str = ((self.connection() or {}).get("status") or {}).get("connectionState", "")
        return text

    def connection_error(self) -> str:
        status = (self.connection() or {}).get("status") or {}
        text: str = (status.get("connectionStatus") or {}).get("error", "")
        return text

    def sync_error(self) -> str:
        status = (self.connection() or {}).get("status") or {}
        text: str = (status.get("synchronizationStatus") or {}).get("error", "")
        return text

    def applications(self) -> dict[str, Object]:
        return {obj["metadata"]["name"]: obj for obj in self.client.list(APPLICATION)["items"]}

    def secrets(self) -> dict[str, Object]:
        """The Secrets of Applications."""
        found = self.client.list(SECRET, namespace="kyma-system", label_selector=SECRETS_SELECTOR)["items"]
        return {obj["metadata"]["name"]: obj for obj in found}

    def secret(self, name: ObjectName) -> dict[str, str] | None:
        """The decoded values of a Secret; None when there is none."""
        try:
            found = self.client.get(SECRET, name.name, namespace=name.namespace)
        except NotFound:
            return None
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    def has_config_map(self, name: ObjectName) -> bool:
        try:
            self.client.get(CONFIG_MAP, name.name, namespace=name.namespace)
        except NotFound:
            return False
        return True

    def events(self, reason: str | None = None) -> list[Object]:
        found = self.client.request("GET", "/api/v1/events")["items"]
        return [event for event in found if reason in (None, event["reason"])]

    def wait_for(self, what: str, condition: Callable[[], _T], *, timeout: float = _TIMEOUT) -> _T:
        """The first true value of `condition`; raises TimeoutError with what is missing, and the state."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout:g} s: {what}\n{self._situation()}\n{self.agent_logs()}")
            time.sleep(_POLL_SECONDS)
        return value

    def _situation(self) -> str:
        try:
            return f"CompassConnection: {self.connection()}"
        except ApiError as error:
            return f"the CompassConnection cannot be read: {error}"

    def wait_for_state(self, *states: str, timeout: float = _TIMEOUT) -> str:
        def reached() -> str:
            state = self.state()
            return state if state in states else ""

        return self.wait_for(f"state {' or '.join(states)}", reached, timeout=timeout)


def encoded(text: str) -> str:
    """A value as Secrets hold it."""
    return base64.b64encode(text.encode()).decode()
