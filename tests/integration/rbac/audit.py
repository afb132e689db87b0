"""What the API server was asked, from its audit log, held against the rules of Roles."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
"""


@dataclass(frozen=True, order=True)
class Request:
    """One kind of request. `name` is "" where it carries none: lists of all, and creations."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    allowed: bool

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.group or 'core'} {self.resource} {self.name}{where}"


@dataclass(frozen=True, order=True)
class Permission:
    """The smallest part of a rule: one verb on one resource, and one name if the rule has names."""

    role: str
    namespace: str  # "" in a ClusterRole
    group: str
    resource: str
    verb: str
    name: str

    def covers(self, request: Request) -> bool:
        return (
            self.namespace in ("", request.namespace)
            and (self.group, self.resource, self.verb) == (request.group, request.resource, request.verb)
            and self.name in ("", request.name)
        )

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.role}: {self.verb} {self.group or 'core'} {self.resource} {self.name}{where}"


class AuditLog:
    """Flags for a kube-apiserver that writes one, and what it wrote about a user."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "audit.log"
        policy = directory / "audit-policy.yaml"
        policy.write_text(POLICY)
        self.flags = (
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self._log}",
            "--audit-log-mode=blocking",
        )

    def requests(self, user: str) -> set[Request]:
        """All requests for resources so far; those for paths such as /apis are left out."""
        return {
            _request(event) for event in self._events() if event["user"]["username"] == user and "objectRef" in event
        }

    def _events(self) -> Iterator[Object]:
        for line in self._log.read_text().splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may still be in the making
                yield json.loads(line)


def _request(event: Object) -> Request:
    reference = event["objectRef"]
    resource = reference["resource"]
    return Request(
        verb=event["verb"],
        group=reference.get("apiGroup", ""),
        resource=f"{resource}/{reference['subresource']}" if "subresource" in reference else resource,
        namespace=reference.get("namespace", ""),
        name="" if event["verb"] == "create" else reference.get("name", ""),
        allowed=event["annotations"]["authorization.k8s.io/decision"] == "allow",
    )


def permissions(manifests: Iterable[Object]) -> set[Permission]:
    """Everything that the Roles and ClusterRoles among the manifests allow."""
    return {
        Permission(
            role=manifest["metadata"]["name"],
            namespace=manifest["metadata"].get("namespace", ""),
            group=group,
            resource=resource,
            verb=verb,
            name=name,
        )
        for manifest in manifests
        if manifest["kind"] in ("Role", "ClusterRole")
        for rule in manifest["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def read_manifests(folder: Path) -> list[Object]:
    """The manifests in the YAML files of a folder, but not its kustomization."""
    files = sorted(file for file in folder.glob("*.yaml") if file.name != "kustomization.yaml")
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]
