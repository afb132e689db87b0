"""An emulation of Kyma's operator (application-connector-manager), as far as it concerns the agent.

- Applies its manifests, with server-side apply and force, again and again: what others change in them is reset, what
  others add to them stays.
- Sets the replicas of the Deployment: 1 while the Secret with the configuration exists, else 0.
- Sets the URLs of the Runtime in the environment of the container, from the domain of the cluster.

The real operator applies when one of its objects changes, and every two minutes. This one does it in a short, fixed
period. That is the harder case: nothing that it resets lives for longer.
"""

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from controller.resources import SECRET
from e2e.cluster import CONFIGURATION
from informers import ApiError, Client, NotFound, Resource

log = logging.getLogger(__name__)

Object = dict[str, Any]

FIELD_MANAGER = "application-connector-manager"
PERIOD = 5.0
_DOMAIN = "example.kyma.dev"  # of the cluster, for the URLs of the Runtime
NAME = "compass-runtime-agent"
"""Of the Deployment, and of its container."""

GO_AGENT_CRDS = Path(__file__).parent / "go_agent_crds"
_MANIFESTS = Path(__file__).parent / "manifests"
_LABELS = {
    "app.kubernetes.io/managed-by": FIELD_MANAGER,
    "app.kubernetes.io/part-of": FIELD_MANAGER,
    "kyma-project.io/module": "application-connector",
}

_RBAC = "rbac.authorization.k8s.io"
_RESOURCES = {
    resource.kind: resource
    for resource in (
        Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False),
        Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False),
        Resource("", "v1", "serviceaccounts", "ServiceAccount"),
        Resource(_RBAC, "v1", "clusterroles", "ClusterRole", False),
        Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False),
        Resource(_RBAC, "v1", "roles", "Role"),
        Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
        Resource("apps", "v1", "deployments", "Deployment"),
        Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    )
}
DEPLOYMENT = _RESOURCES["Deployment"]


def go_agent_manifests() -> list[Object]:
    """What the operator brings in its image: CRDs, permissions and Deployment of the Go agent."""
    files = (*sorted(GO_AGENT_CRDS.iterdir()), _MANIFESTS / "rbac.yaml", _MANIFESTS / "deployment.yaml")
    return [obj for file in files for obj in read_manifests(file)]


def read_manifests(path: Path) -> list[Object]:
    """The documents of a YAML file."""
    return [obj for obj in yaml.safe_load_all(path.read_text()) if obj]


class KymaOperator:
    """Runs from the beginning of the block to its end, in a thread. `applied` counts what it has applied in whole."""

    def __init__(
        self,
        client: Client,
        *,
        image: str | None = None,
        period: float = PERIOD,
    ) -> None:
        """`image` replaces that of the agent in the manifests. `period`: seconds between two applications of them."""
        self._client = client
        self._manifests = go_agent_manifests()
        self._image = image
        self._period = period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)
        self._changed = threading.Condition()
        self.applied = 0
        self.last_error: ApiError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def apply(self) -> None:
        """Apply all manifests once. A refused one does not hold up the others; the first error is raised at the end."""
        deployment = next(obj for obj in self._manifests if obj["kind"] == "Deployment")
        self._adapt(deployment)
        errors = []
        for obj in self._manifests:
            try:
                self._apply(obj)
            except ApiError as error:
                log.warning("%s %s is not applied: %s", obj["kind"], obj["metadata"]["name"], error)
                errors.append(error)
        if errors:
            raise errors[0]

    def wait_until_applied(self, times: int = 1, *, timeout: float = 60.0) -> None:
        """Returns when the manifests were applied in whole so often from now on. Raises TimeoutError."""
        with self._changed:
            wanted = self.applied + times
            if not self._changed.wait_for(lambda: self.applied >= wanted, timeout):
                raise TimeoutError(f"the operator has not applied its manifests in {timeout:g} s: {self.last_error}")

    def remove(self) -> None:
        """Delete what it applies, but the CRDs: with them all objects of theirs would go."""
        for obj in reversed(self._manifests):
            if obj["kind"] != "CustomResourceDefinition":
                metadata = obj["metadata"]
                try:
                    self._client.delete(_RESOURCES[obj["kind"]], metadata["name"], namespace=metadata.get("namespace"))
                except NotFound:
                    continue

    def _run(self) -> None:
        while not self._stop.is_set():
            error: ApiError | None = None
            try:
                self.apply()
            except ApiError as failure:  # the API server may be away, or a policy may refuse: the next turn tries again
                error = failure
            with self._changed:
                self.last_error = error
                if error is None:
                    self.applied += 1
                self._changed.notify_all()
            self._stop.wait(self._period)

    def _adapt(self, deployment: Object) -> None:
        """What the operator sets in its manifest before it applies it."""
        deployment["spec"]["replicas"] = 1 if self._is_configured() else 0
        containers = deployment["spec"]["template"]["spec"]["containers"]
        container = next(container for container in containers if container["name"] == NAME)
        container["image"] = self._image or container["image"]
        urls = {
            "APP_RUNTIME_EVENTS_URL": f"https://gateway.{_DOMAIN}",
            "APP_RUNTIME_CONSOLE_URL": f"https://console.{_DOMAIN}",
        }
        for variable in container["env"]:
            if variable["name"] in urls:
                variable["value"] = urls[variable["name"]]

    def _is_configured(self) -> bool:
        try:
            self._client.get(SECRET, CONFIGURATION.name, namespace=CONFIGURATION.namespace)
        except NotFound:
            return False
        return True

    def _apply(self, obj: Object) -> None:
        metadata = obj["metadata"]
        labelled = {**obj, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **_LABELS}}}
        self._client.request(
            "PATCH",
            _RESOURCES[obj["kind"]].path(metadata.get("namespace"), metadata["name"]),
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=labelled,
            content_type="application/apply-patch+yaml",
        )
