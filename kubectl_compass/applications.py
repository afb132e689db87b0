"""`kubectl compass list`: the Applications that Compass manages, each with its sync status and the reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller import fields
from controller.applications.conversion import SYNC_STATUS, SYNCED
from controller.resources import APPLICATION
from controller.runtime.events import EVENTS
from controller.text import clean
from informers import Forbidden
from kubectl_compass.cluster import Cluster
from kubectl_compass.desk import Desk
from kubectl_compass.output import show

_EVENTS_NAMESPACE = "default"  # that of Events about objects without a namespace
_PAGE = 500
_MAX_NAME = 253
_MAX_TEXT = 1024

Object = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """`reason`: of the last warning about the Application; "" if it is in sync or no warning is known."""

    name: str
    sync: str
    reason: str


def list_applications(desk: Desk) -> int:
    """Print the Applications. Returns 0 if all are in sync, else 1."""
    rows = _rows(desk.cluster)
    show({"applications": [vars(row) for row in rows]}, desk.output, desk.out, lines=lambda: _lines(rows))
    return 0 if all(row.sync == SYNCED for row in rows) else 1


def _rows(cluster: Cluster) -> list[Row]:
    """The managed Applications, and the names of failing ones that could not be created."""
    status = fields.member(fields.member(cluster.connection(), "status"), "applications")
    named = status.get("failing")
    failing = {str(name) for name in named} if isinstance(named, list) else set()
    found = {obj["metadata"]["name"]: _sync(obj) for obj in _all(cluster, APPLICATION) if _is_managed(obj)}
    found = {name: "Failed" if sync == SYNCED and name in failing else sync for name, sync in found.items()}
    found |= dict.fromkeys(failing - found.keys(), "Missing")
    reasons = _reasons(cluster) if set(found.values()) - {SYNCED} else {}
    return [Row(name, sync, "" if sync == SYNCED else reasons.get(name, "")) for name, sync in sorted(found.items())]


def _is_managed(application: Object) -> bool:
    return bool(fields.spec(application).get("compassMetadata"))


def _sync(application: Object) -> str:
    return str(fields.annotations(application).get(SYNC_STATUS, SYNCED))


def _reasons(cluster: Cluster) -> Mapping[str, str]:
    """The message of the last warning about each Application; none if Events may not be read."""
    selector = f"involvedObject.kind={APPLICATION.kind},type=Warning"
    try:
        events = _all(cluster, EVENTS, namespace=_EVENTS_NAMESPACE, field_selector=selector)
    except Forbidden:
        return {}
    events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return {
        str(fields.member(event, "involvedObject").get("name")): f"{event.get('reason')}: {event.get('message')}"
        for event in events
    }


def _all(cluster: Cluster, resource: Any, **selection: Any) -> list[Object]:
    found: list[Object] = []
    continue_ = ""
    while True:
        page = cluster.client.list(resource, limit=_PAGE, continue_=continue_, **selection)
        found += page["items"]
        continue_ = page["metadata"].get("continue") or ""
        if not continue_:
            return found


def _lines(rows: list[Row]) -> list[str]:
    if not rows:
        return ["no Application is managed by Compass"]
    cells = [("NAME", "SYNC", "REASON")]
    cells += [(clean(row.name, _MAX_NAME), clean(row.sync, _MAX_NAME), clean(row.reason, _MAX_TEXT)) for row in rows]
    name, sync = (max(len(row[column]) for row in cells) for column in (0, 1))
    return [f"{row[0]:<{name}}  {row[1]:<{sync}}  {row[2]}".rstrip() for row in cells]
