"""The state of an API server for one kind of object: its objects, and a limited history of their changes."""

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from informers.resource import Resource, make_key
from informers.testing.objects import WIDGETS, status

Object = dict[str, Any]
Objects = list[Object]

DEFAULT_NAMESPACE = "default"


class Refused(Exception):
    """The answer to the request is this Status."""

    def __init__(self, body: Object) -> None:
        super().__init__(body["reason"])
        self.body = body


def not_implemented(what: str) -> Refused:
    """The answer to a request that needs more than this server has. Without it, tests would pass or fail wrongly."""
    return Refused(status(400, "BadRequest", f"this server does not implement {what}: use a real API server"))


@dataclass(frozen=True)
class Event:
    """One line of a watch, and the version of the state after it."""

    version: int
    type: str
    object: Object


Events = list[Event]


class Cluster:
    """All objects of one kind by key, with the rules of the API for reads and writes. Thread-safe.

    put(), delete(), bookmark() and compact() are for tests and have no such rules. Versions are whole numbers here, but
    clients must treat them as opaque. `changed` is held during each change and notified after it.
    """

    def __init__(self, resource: Resource = WIDGETS) -> None:
        self.resource = resource
        self.changed = threading.Condition()
        self.version = 1
        self.objects: dict[str, Object] = {}
        self.history: list[Event] = []
        self.oldest = 1  # the history after this version is known
        self.deleted: set[str] = set()
        self._snapshots: dict[str, tuple[list[Object], int]] = {}
        self._created = 0

    def put(self, name: str, *, namespace: str = DEFAULT_NAMESPACE, **spec: Any) -> Object:
        """Create the object with this spec, or replace it."""
        with self.changed:
            return self._store_locked(
                self._key(name, namespace), {"metadata": self._names(name, namespace), "spec": spec}
            )

    def delete(self, name: str, *, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Delete the object if it exists."""
        with self.changed:
            self._delete_locked(self._key(name, namespace))

    def bookmark(self) -> None:
        """Increase the version, as after a change of another kind, and send it to the watches as a bookmark."""
        with self.changed:
            self.version += 1
            self._happened("BOOKMARK", self._bookmark())

    # ---- what requests do

    def get(self, name: str, namespace: str) -> Object:
        """Raises Refused (404)."""
        with self.changed:
            return copy.deepcopy(self._present_locked(self._key(name, namespace)))

    def create(self, obj: Object, namespace: str) -> Object:
        """Raises Refused: 422 without a name, 409 for a name in use."""
        _check_metadata(obj)
        name = (obj.get("metadata") or {}).get("name")
        if not name:
            raise Refused(status(422, "Invalid", "metadata.name: Required value"))
        with self.changed:
            key = self._key(name, namespace)
            if key in self.objects:
                raise Refused(status(409, "AlreadyExists", f"{self.resource.plural} {name!r} already exists"))
            return copy.deepcopy(
                self._store_locked(key, obj | {"metadata": obj["metadata"] | self._names(name, namespace)})
            )

    def update(self, name: str, namespace: str, obj: Object) -> Object:
        """Raises Refused: 404, or 409 if `obj` has a resourceVersion that is not the current one."""
        _check_metadata(obj)
        with self.changed:
            key = self._key(name, namespace)
            present = self._present_locked(key)
            self._check_version(obj, present)
            metadata = obj["metadata"] | self._names(name, namespace)
            return copy.deepcopy(self._store_locked(key, obj | {"metadata": metadata}))

    def patch(self, name: str, namespace: str, patch: Object) -> Object:
        """A merge patch (RFC 7386). Raises Refused like update()."""
        _check_metadata(patch)
        with self.changed:
            key = self._key(name, namespace)
            present = self._present_locked(key)
            self._check_version(patch, present)
            return copy.deepcopy(self._store_locked(key, _merged(present, patch)))

    def remove(self, name: str, namespace: str, preconditions: Mapping[str, str]) -> Object:
        """Delete the object. Raises Refused: 404, or 409 if a precondition (uid, resourceVersion) does not hold."""
        with self.changed:
            key = self._key(name, namespace)
            metadata = self._present_locked(key)["metadata"]
            if any(metadata[field] != value for field, value in preconditions.items()):
                raise Refused(status(409, "Conflict", "the preconditions do not hold"))
            return self._delete_locked(key)

    def compact(self) -> None:
        """Drop the history, and all pages that were not read yet."""
        with self.changed:
            self.oldest = self.version
            self.history.clear()
            self._snapshots.clear()

    def list(
        self, *, limit: int | None = None, continue_: str = "", resource_version: str = "", namespace: str = ""
    ) -> Object:
        """One page. Raises Refused: 410 for an expired token, 504 for a version not reached yet."""
        with self.changed:
            if continue_:
                if continue_ not in self._snapshots:
                    raise Refused(status(410, "Expired", "The provided continue parameter is too old"))
                items, version = self._snapshots.pop(continue_)
            else:
                if resource_version and int(resource_version) > self.version:
                    raise Refused(
                        status(504, "Timeout", "wait", causes=[{"reason": "ResourceVersionTooLarge", "message": "x"}])
                    )
                items, version = self._of_namespace(namespace), self.version
            rest = items[limit:] if limit else []
            token = ""
            if rest:
                token = f"token-{len(self._snapshots)}-{version}"
                self._snapshots[token] = (rest, version)
            metadata = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
            kind = f"{self.resource.kind}List"
            items = items[: len(items) - len(rest)]
            return {"apiVersion": self.resource.api_version, "kind": kind, "metadata": metadata, "items": items}

    def start_of_watch(
        self, resource_version: str, send_initial_events: bool = False, namespace: str = ""
    ) -> tuple[Events, int]:
        """The initial events of a streamed list, and the version at their end. Raises Refused (410)."""
        with self.changed:
            if send_initial_events or resource_version in ("", "0"):
                events = [Event(self.version, "ADDED", obj) for obj in self._of_namespace(namespace)]
                if send_initial_events:
                    end = self._bookmark()
                    end["metadata"]["annotations"] = {"k8s.io/initial-events-end": "true"}
                    events.append(Event(self.version, "BOOKMARK", end))
                return events, self.version
            if int(resource_version) < self.oldest:
                raise Refused(status(410, "Expired", f"too old resource version: {resource_version}"))
            return [], int(resource_version)

    def events_after_locked(self, version: int) -> Events:
        """The changes since that version. Raises Refused (410) if they were dropped. Call it with `changed` held."""
        if version < self.oldest:
            raise Refused(status(410, "Expired", f"too old resource version: {version}"))
        return [event for event in self.history if event.version > version]

    # ---- helpers

    def _key(self, name: str, namespace: str) -> str:
        return make_key(name, namespace if self.resource.namespaced else None)

    def _names(self, name: str, namespace: str) -> Object:
        return {"name": name} | ({"namespace": namespace} if self.resource.namespaced else {})

    def _of_namespace(self, namespace: str) -> Objects:
        return [obj for obj in self.objects.values() if namespace in ("", obj["metadata"].get("namespace"))]

    def _bookmark(self) -> Object:
        about = {"apiVersion": self.resource.api_version, "kind": self.resource.kind}
        return about | {"metadata": {"resourceVersion": str(self.version)}}

    def _present_locked(self, key: str) -> Object:
        try:
            return self.objects[key]
        except KeyError:
            details = {"name": key.rpartition("/")[2], "kind": self.resource.plural}
            raise Refused(status(404, "NotFound", f"{self.resource.plural} {key!r} not found", **details)) from None

    def _check_version(self, written: Object, present: Object) -> None:
        version = (written.get("metadata") or {}).get("resourceVersion")
        if version and version != present["metadata"]["resourceVersion"]:
            raise Refused(status(409, "Conflict", "the object has been modified"))

    def _store_locked(self, key: str, obj: Object) -> Object:
        self.version += 1
        old = self.objects.get(key)
        self._created += old is None
        uid = old["metadata"]["uid"] if old else f"uid-{self._created}"
        about = {"apiVersion": self.resource.api_version, "kind": self.resource.kind}
        metadata = obj["metadata"] | {"uid": uid, "resourceVersion": str(self.version)}
        stored = copy.deepcopy(about | obj | {"metadata": metadata})
        self.objects[key] = stored
        self._happened("MODIFIED" if old else "ADDED", stored)
        return stored

    def _delete_locked(self, key: str) -> Object:
        old = self.objects.pop(key, None)
        if old is None:
            return {}
        self.version += 1
        gone = old | {"metadata": old["metadata"] | {"resourceVersion": str(self.version)}}
        self._happened("DELETED", gone)
        return gone

    def _happened(self, kind: str, obj: Object) -> None:
        self.history.append(Event(self.version, kind, obj))
        self.changed.notify_all()


def _check_metadata(obj: Object) -> None:
    for field in ("finalizers", "generateName"):
        if (obj.get("metadata") or {}).get(field):
            raise not_implemented(f"metadata.{field}")


def _merged(target: object, patch: object) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged
