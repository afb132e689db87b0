"""An API server in memory, with the client's methods: for reconcilers on virtual time.

It keeps what the connection depends on: resourceVersions and conflicts, uids, the status subresource or the pruning CRD
of the Go agent, dry runs. Caches (Indexers) follow each write at once, or when told to.
"""

import copy
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from controller.resources import COMPASS_CONNECTION
from informers import Resource
from informers.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from informers.indexer import Indexer

Object = dict[str, Any]

_ADDITIONS = ("conditions", "observedGeneration", "runtime", "applications", "summary")


class ObjectStore:
    """`subresource`: the own CRD, with a status subresource; else the Go agent's. `before` sees every write."""

    def __init__(self, *, subresource: bool = True) -> None:
        self.subresource = subresource
        self.writes: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.before: Callable[[str, str], None] = lambda _verb, _kind: None
        self.lagging = False
        self.forbidden: set[str] = set()  # keys of objects that nobody may write
        self._objects: dict[tuple[str, str], Object] = {}
        self._indexers: dict[str, Indexer] = {}
        self._versions = itertools.count(1)

    def indexer(self, resource: Resource) -> Indexer:
        return self._indexers.setdefault(resource.plural, Indexer(resource))

    # --- the client's methods ---

    def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        self.reads[resource.kind] += 1
        try:
            return copy.deepcopy(self._objects[resource.plural, _key(name, namespace)])
        except KeyError:
            raise NotFound(f"{resource.plural} {name} not found", status=404, reason="NotFound") from None

    def create(self, resource: Resource, obj: Object, *, namespace: str | None = None, dry_run: bool = False) -> Object:
        self.before("dry-run" if dry_run else "create", resource.kind)
        key = self._allowed(_key(obj["metadata"]["name"], namespace))
        if (resource.plural, key) in self._objects:
            raise AlreadyExists(f"{key} exists", status=409, reason="AlreadyExists")
        stored = self._admitted(resource, copy.deepcopy(obj))
        if resource == COMPASS_CONNECTION and self.subresource:
            stored.pop("status", None)
        stored["metadata"] |= {"uid": f"uid-{next(self._versions)}", "generation": 1}
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
        self.before("dry-run" if dry_run else "update", resource.kind)
        namespace = namespace or obj["metadata"].get("namespace")
        key = self._allowed(_key(obj["metadata"]["name"], namespace))
        present = self._objects.get((resource.plural, key))
        if present is None or (subresource and not self.subresource):
            raise NotFound(f"{key} not found", status=404, reason="NotFound")
        if obj["metadata"].get("resourceVersion") != present["metadata"]["resourceVersion"]:
            raise Conflict(f"{key} was changed", status=409, reason="Conflict")
        if present.get("immutable") and obj.get("data") != present.get("data"):
            raise Invalid("data: Forbidden: field is immutable when `immutable` is set", status=422, reason="Invalid")
        stored = self._admitted(resource, copy.deepcopy(obj))
        if subresource:
            stored = {**copy.deepcopy(present), "status": stored.get("status", {})}
        elif resource == COMPASS_CONNECTION and self.subresource:
            stored["status"] = copy.deepcopy(present.get("status", {}))
            if not stored["status"]:
                del stored["status"]
        if stored.get("spec") != present.get("spec"):
            stored["metadata"]["generation"] = present["metadata"].get("generation", 0) + 1
        if stored == present:
            self.writes[f"update {resource.kind}"] += not dry_run  # it changes nothing, and was a request all the same
            return copy.deepcopy(present)
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
        self.before("delete", resource.kind)
        key = _key(name, namespace)
        present = self._objects.get((resource.plural, key))
        if present is None:
            raise NotFound(f"{key} not found", status=404, reason="NotFound")
        metadata = present["metadata"]
        if uid not in (None, metadata["uid"]) or resource_version not in (None, metadata["resourceVersion"]):
            raise Conflict(f"{key} was changed", status=409, reason="Conflict")
        del self._objects[resource.plural, key]
        self.writes[f"delete {resource.kind}"] += 1
        if not self.lagging:
            self.indexer(resource).remove(key, str(next(self._versions)))

    def request(self, method: str, path: str) -> Object:
        assert (method, path) == ("GET", f"/apis/{COMPASS_CONNECTION.group}/{COMPASS_CONNECTION.version}")
        names = [COMPASS_CONNECTION.plural, f"{COMPASS_CONNECTION.plural}/status"][: 2 if self.subresource else 1]
        return {"resources": [{"name": name} for name in names]}

    # --- what somebody else does ---

    def edit(
        self, resource: Resource, name: str, change: Callable[[Object], None], namespace: str | None = None
    ) -> None:
        """Any part of an object, status included."""
        obj = self.get(resource, name, namespace=namespace)
        change(obj)
        self._store(resource, _key(name, namespace), obj, "edit", dry_run=False)

    def put(self, resource: Resource, obj: Object) -> None:
        """An object of somebody, created or replaced."""
        namespace = obj["metadata"].get("namespace")
        key = _key(obj["metadata"]["name"], namespace)
        obj = copy.deepcopy(obj)
        obj["metadata"].setdefault("uid", f"uid-{next(self._versions)}")
        self._store(resource, key, obj, "edit", dry_run=False)

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
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        if dry_run:
            return obj
        self._objects[resource.plural, key] = obj
        self.writes[f"{verb} {resource.kind}"] += 1
        if not self.lagging or verb == "edit":
            indexer = self.indexer(resource)
            indexer.put(key, copy.deepcopy(obj), obj["metadata"]["resourceVersion"])
        return copy.deepcopy(obj)


def _key(name: str, namespace: str | None) -> str:
    return f"{namespace}/{name}" if namespace else name
