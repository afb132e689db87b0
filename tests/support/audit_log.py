"""What the API server was asked by agents in tests, with the bodies of their writes, from its audit log."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: {writes}
    verbs: [create, update, patch, delete, deletecollection]
  - level: Metadata
"""

AGENT = "compass-runtime-agent"
"""How the user agents of agents begin, in processes and in threads."""


@dataclass(frozen=True)
class Request:
    """One request. `body` is what a write carried: the object, or the options of a deletion. `time` is when it was
    answered, in epoch seconds. `agent` is the user agent. `allowed` is what the authorizer said.
    """

    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    status: int
    body: dict[str, Any]
    time: float
    agent: str
    user: str
    allowed: bool

    @property
    def is_write(self) -> bool:
        return self.verb in ("create", "update", "patch", "delete", "deletecollection")

    @property
    def names_its_version(self) -> bool:
        """Whether the write can only hit what its sender has seen."""
        if self.verb == "create":
            return True
        if self.verb == "update":
            return bool(self.body["metadata"].get("resourceVersion") and self.body["metadata"].get("uid"))
        return self.verb == "delete" and {"uid", "resourceVersion"} <= self.body.get("preconditions", {}).keys()

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.name} ({self.status})"


class AuditLog:
    """`flags` make a kube-apiserver write it; it is complete, since a request waits until it is written down.

    Without `bodies` it costs a request little, and all of them are empty.
    """

    def __init__(self, directory: Path, *, bodies: bool = True) -> None:
        self._log = directory / "audit.log"
        self._begin = 0
        policy = directory / "audit-policy.yaml"
        policy.write_text(_POLICY.format(writes="Request" if bodies else "Metadata"))
        self.flags = (f"--audit-policy-file={policy}", f"--audit-log-path={self._log}", "--audit-log-mode=blocking")

    def clear(self) -> None:
        """Forget what there was so far."""
        self._begin = self._log.stat().st_size if self._log.exists() else 0

    def requests(self, *, agent: str = AGENT, watches: bool = False) -> list[Request]:
        """All requests for objects since `clear`, in the order of their answers; `watches` too, or not."""
        with self._log.open("rb") as log:
            log.seek(self._begin)
            lines = log.read().split(b"\n")[:-1]  # the last one may still be in the making
        events = [json.loads(line) for line in lines]
        return [
            Request(
                verb=event["verb"],
                group=event["objectRef"].get("apiGroup", ""),
                resource=event["objectRef"]["resource"],
                subresource=event["objectRef"].get("subresource", ""),
                namespace=event["objectRef"].get("namespace", ""),
                name=event["objectRef"].get("name")
                or event.get("requestObject", {}).get("metadata", {}).get("name", ""),
                status=event["responseStatus"]["code"],
                body=event.get("requestObject") or {},
                time=datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
                agent=event["userAgent"],
                user=event["user"]["username"],
                allowed=event["annotations"]["authorization.k8s.io/decision"] == "allow",
            )
            for event in events
            if event["userAgent"].startswith(agent) and "objectRef" in event and (watches or event["verb"] != "watch")
        ]

    def writes(self, *resources: str) -> list[Request]:
        """Those that change objects of the resources."""
        return [request for request in self.requests() if request.is_write and request.resource in resources]
