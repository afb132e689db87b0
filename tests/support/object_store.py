"""An API server in memory, with the client's methods: for reconcilers on virtual time.

It keeps what they depend on: resourceVersions and conflicts, uids, finalizers, the status subresource or the pruning
CRD of the Go agent, dry runs. Caches (Indexers) follow each write at once, unless it is `lagging`.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from controller.resources import COMPASS_CONNECTION
from informers import Resource
from informers.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from informers.indexer import Indexer
from informers.resource import object_key

Object = dict[str, Any]

_ADDITIONS = ("conditions", "observedGeneration", "runtime", "applications", "summary")


def copied(value: Object) -> Object:
    """A copy of a JSON object. Much of the time of these tests would go into copy.deepcopy."""
    return {key: _copied(item) for key, item in value.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return copied(value)
    return [_copied(item) for item in value] if isinstance(value, list) else value


class ObjectStore:
    """`subresource`: the own CRD, with a status subresource; else the Go agent's. `before` sees every write."""

    def __init__(self, *, subresource: bool = True) -> None:
        self.subresource = subresource
        self.writes: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.before: Callable[[str, str], None] = lambda _verb, _kind: None
        self.lagging = False
        self.forbidden: set[str] = set()  # keys of objects that must not be written
        self.now: Callable[[], float] = lambda: 0.0  # epoch seconds, of deletions that finalizers hold up
        self.objects: defaultdict[str, dict[str, Object]] = defaultdict(dict)  # by plural and key
        self.version = 1  # of the latest change
        self._indexers: dict[str, Indexer] = {}

    def indexer(self, resource: Resource) -> Indexer:
        return self._indexers.setdefault(resource.plural, Indexer(resource))

    # --- the client's methods ---

    def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        self._arrived("get", resource, name)
        return copied(self._existing(resource, _key(name, namespace)))

    def create(self, resource: Resource, obj: Object, *, namespace: str | None = None, dry_run: bool = False) -> Object:
        name, namespace = obj["metadata"]["name"], namespace or obj["metadata"].get("namespace")
        self._arrived("dry-run" if dry_run else "create", resource, name)
        key = self._allowed(_key(name, namespace))
        if key in self.objects[resource.plural]:
            raise AlreadyExists(f"{key} exists", status=409, reason="AlreadyExists")
        stored = self._admitted(resource, copied(obj))
        if resource == COMPASS_CONNECTION and self.subresource:
            stored.pop("status", None)
        stored["metadata"] |= {"uid": f"uid-{self._next_version()}", "generation": 1}
        return self._store(resource, key, stored, "create", dry_run)

    def update(
        self,
        resource: Resource,
        obj: Object,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        name, namespace = obj["metadata"]["name"], namespace or obj["metadata"].get("namespace")
        self._arrived("dry-run" if dry_run else "update", resource, name)
        key = self._allowed(_key(name, namespace))
        present = self._existing(resource, key)
        if subresource and not self.subresource:
            raise NotFound(f"{key} not found", status=404, reason="NotFound")
        if obj["metadata"].get("resourceVersion") != present["metadata"]["resourceVersion"]:
            raise Conflict(f"{key} was changed", status=409, reason="Conflict")
        if present.get("immutable") and obj.get("data") != present.get("data"):
            raise Invalid("data: Forbidden: field is immutable when `immutable` is set", status=422, reason="Invalid")
        stored = self._admitted(resource, copied(obj))
        if subresource:
            stored = {**copied(present), "status": stored.get("status", {})}
        elif resource == COMPASS_CONNECTION and self.subresource:
            stored["status"] = copied(present.get("status", {}))
            if not stored["status"]:
                del stored["status"]
        if stored.get("spec") != present.get("spec"):
            stored["metadata"]["generation"] = present["metadata"].get("generation", 0) + 1
        if stored == present:
            self.writes[f"update {resource.kind}"] += not dry_run  # it changes nothing, and was a request all the same
            return copied(present)
        return self._store(resource, key, stored, "update", dry_run)

    def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        self._arrived("delete", resource, name)
        present = self._existing(resource, _key(name, namespace))
        metadata = present["metadata"]
        if uid not in (None, metadata["uid"]) or resource_version not in (None, metadata["resourceVersion"]):
            raise Conflict(f"{name} was changed", status=409, reason="Conflict")
        self.writes[f"delete {resource.kind}"] += 1
        if metadata.get("finalizers"):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now()))
            held = {**present, "metadata": {**metadata, "deletionTimestamp": stamp}}
            self._store(resource, _key(name, namespace), held, "delete", dry_run=False)
        else:
            self.remove(resource, name, namespace)

    def request(self, method: str, path: str) -> Object:
        assert (method, path) == ("GET", f"/apis/{COMPASS_CONNECTION.group}/{COMPASS_CONNECTION.version}")
        names = [COMPASS_CONNECTION.plural, f"{COMPASS_CONNECTION.plural}/status"][: 2 if self.subresource else 1]
        return {"resources": [{"name": name} for name in names]}

    # --- what other clients do ---

    def edit(
        self, resource: Resource, name: str, change: Callable[[Object], None], namespace: str | None = None
    ) -> None:
        """Any part of an object, status included."""
        obj = self.get(resource, name, namespace=namespace)
        change(obj)
        self._store(resource, _key(name, namespace), obj, "edit", dry_run=False)

    def put(self, resource: Resource, obj: Object) -> Object:
        """An object of another client, created or replaced."""
        key = _key(obj["metadata"]["name"], obj["metadata"].get("namespace"))
        obj = copied(obj)
        obj["metadata"].setdefault("uid", f"uid-{self._next_version()}")
        return self._store(resource, key, obj, "edit", dry_run=False)

    def remove(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        """An object is gone, whatever its finalizers."""
        old = self.objects[resource.plural].pop(_key(name, namespace))
        self._next_version()
        self._happened(resource, old, None, seen=not self.lagging)

    def _arrived(self, verb: str, resource: Resource, name: str) -> None:
        if verb == "get":
            self.reads[resource.kind] += 1
        else:
            self.before(verb, resource.kind)

    def _existing(self, resource: Resource, key: str) -> Object:
        found = self.objects[resource.plural].get(key)
        if found is None:
            raise NotFound(f"{resource.plural} {key} not found", status=404, reason="NotFound")
        return found

    def _next_version(self) -> int:
        self.version += 1
        return self.version

    def _allowed(self, key: str) -> str:
        if key in self.forbidden:
            raise Forbidden("secrets is forbidden", status=403, reason="Forbidden")
        return key

    def _admitted(self, resource: Resource, obj: Object) -> Object:
        if resource == COMPASS_CONNECTION and not self.subresource:
            for name in _ADDITIONS:
                obj.get("status", {}).pop(name, None)
            obj["spec"].pop("pairing", None)
            if not {"connectorUrl", "directorUrl"} <= obj["spec"].get("managementInfo", {}).keys():
                raise Invalid("spec.managementInfo: Required value", status=422, reason="Invalid")
        return obj

    def _store(self, resource: Resource, key: str, obj: Object, verb: str, dry_run: bool) -> Object:
        obj["metadata"]["resourceVersion"] = str(self._next_version())
        if dry_run:
            return obj
        old = self.objects[resource.plural].get(key)
        self.objects[resource.plural][key] = obj
        self.writes[f"{verb} {resource.kind}"] += verb != "delete"
        self._happened(resource, old, obj, seen=not self.lagging or verb == "edit")
        return copied(obj)

    def _happened(self, resource: Resource, old: Object | None, new: Object | None, *, seen: bool) -> None:
        """A change; `seen`: the caches follow."""
        if not seen:
            return
        indexer = self.indexer(resource)
        if new is not None:
            indexer.put(object_key(new), copied(new), str(self.version))
        elif old is not None:
            indexer.remove(object_key(old), str(self.version))


def _key(name: str, namespace: str | None) -> str:
    return f"{namespace}/{name}" if namespace else name
