"""Reads and writes of the CompassConnection, with the agent's own CRD and with that of the Go agent.

The CRD of the Go agent has no status subresource, so one PUT writes everything, and it prunes the fields that this
agent adds. The API server's discovery shows which of the two is installed. It is read again after a write without the
expected effect, because an operator may replace the CRD while the agent runs.

`apply_change` writes any object: the change is a function of its current state, so no write of others is lost. It is
applied to the cached object; after a conflict, to the object of the API server.
"""

import copy
import logging
from collections.abc import Callable
from typing import Any

from controller import fields
from controller.connection import status
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME
from informers.client import Client
from informers.errors import AlreadyExists, Conflict, NotFound
from informers.mutation_cache import MutationCache
from workqueue.clock import Clock

log = logging.getLogger(__name__)

_OBJECTS = (
    ("spec",),
    ("spec", "managementInfo"),
    ("spec", "pairing"),
    ("status",),
    ("status", "connectionStatus"),
    ("status", "connectionStatus", "certificateStatus"),
    ("status", "synchronizationStatus"),
    ("status", "applications"),
    ("status", "runtime"),
)
"""The fields of a CompassConnection that are objects."""

# Each retry starts with the object of the API server. After more conflicts, another client changes it all the time.
_MAX_CONFLICTS = 5

Object = dict[str, Any]
Change = Callable[[Object], None]
"""Modifies the copy of a CompassConnection that it is given."""

ObjectChange = Callable[[Object | None], Object | None]
"""Returns the wanted object for the current one (None if there is none). None, or an equal object: no write.

It may be called several times, and must not modify its argument.
"""


def apply_change(
    change: ObjectChange,
    *,
    name: str,
    read: Callable[[], Object | None],
    read_live: Callable[[], Object | None],
    write: Callable[[Object | None, Object], Object],
) -> Object | None:
    """Apply the change and return the resulting object. `write` gets the current and the wanted object.

    `name`: its name in messages. Raises the errors of `change`, and informers.ApiError, which is NotFound if its
    namespace or its CRD is missing.
    """
    base = read()
    for _ in range(_MAX_CONFLICTS):
        wanted = change(base)
        if wanted is None or wanted == base:
            return base
        try:
            return write(base, wanted)
        except (AlreadyExists, Conflict):
            base = read_live()
        except NotFound:
            if base is None:
                raise
            base = read_live()
    raise Conflict(f"{name} was changed by other clients at each attempt to write it", status=409, reason="Conflict")


class ConnectionStore:
    """Applies changes to a CompassConnection: no write without a difference, and no change lost in a conflict."""

    def __init__(self, client: Client, cache: MutationCache, *, clock: Clock, overlay: Change = lambda _: None) -> None:
        """`overlay` is applied after each change, for fields that do not depend on the writer."""
        self._overlay = overlay
        self._client = client
        self._cache = cache
        self._clock = clock
        self._has_status_subresource: bool | None = None

    def get(self, name: str) -> Object | None:
        """The object in the cache, including own writes. It is shared, so read-only. See `well_formed`."""
        return _well_formed_or_none(self._cache.get(name))

    def get_live(self, name: str) -> Object | None:
        """The object in the API server. Raises informers.ApiError."""
        live = self._cache.refresh(name, None, lambda: self._client.get(COMPASS_CONNECTION, name))
        return _well_formed_or_none(live)

    def apply(self, name: str, change: Change) -> Object:
        """Change the object with this name, or create it. Returns the stored object.

        Raises informers.ApiError, which is NotFound without the CRD.
        """
        stored = self._apply(name, change, lambda _: True)
        assert stored is not None
        return stored

    def apply_to(self, connection: Object | None, change: Change) -> Object | None:
        """Change exactly this object; None: create one if there is none. Returns the stored object.

        Returns None without a write if the object does not exist any more, even if another one has its name: its spec
        was not read yet. Raises informers.ApiError.
        """
        name = CONNECTION_NAME if connection is None else connection["metadata"]["name"]
        return self._apply(name, change, lambda base: _uid(base) == _uid(connection))

    def _apply(self, name: str, change: Change, concerns: Callable[[Object | None], bool]) -> Object | None:
        concerned = True

        def changed(base: Object | None) -> Object | None:
            nonlocal concerned
            concerned = concerns(base)
            if not concerned:
                return None
            wanted = _empty(name) if base is None else copy.deepcopy(well_formed(base))
            change(wanted)
            self._overlay(wanted)
            if self._status_subresource():
                status.derive_conditions(wanted, now=self._clock.time())
            else:
                status.drop_additions(wanted)
            return wanted

        stored = apply_change(
            changed,
            name=f"CompassConnection {name}",
            read=lambda: self._cache.get(name),
            read_live=lambda: self._cache.refresh(name, None, lambda: self._client.get(COMPASS_CONNECTION, name)),
            write=self._write,
        )
        return stored if concerned else None

    def _write(self, base: Object | None, wanted: Object) -> Object:
        if base is None:
            return self._create(wanted)
        try:
            return self._write_parts(base, wanted) if self._status_subresource() else self._write_whole(base, wanted)
        except NotFound:
            self._has_status_subresource = None  # the CRD may have been removed
            raise

    def _create(self, wanted: Object) -> Object:
        created = self._client.create(COMPASS_CONNECTION, wanted)
        self._cache.mutated(created, base=None)
        if created.get("status") == wanted.get("status"):
            return created
        # With a status subresource, creation drops the status.
        return self._write(created, {**created, "status": wanted.get("status", {})})

    def _write_parts(self, base: Object, wanted: Object) -> Object:
        current = base
        if _without_status(wanted) != _without_status(base):
            current = self._put({**wanted, "status": base.get("status", {})}, base=current)
        if wanted.get("status") != base.get("status"):
            wanted_status = {**wanted, "metadata": current["metadata"]}
            status.derive_conditions(wanted_status, now=self._clock.time())  # again, for the current generation
            current = self._put(wanted_status, base=current, subresource="status")
        return current

    def _write_whole(self, base: Object, wanted: Object) -> Object:
        current = self._put(wanted, base=base)
        if current.get("status") != wanted.get("status"):
            self._has_status_subresource = None
            if self._status_subresource():
                log.info("The CompassConnection CRD was replaced by one with a status subresource")
                return self._write_parts(current, {**current, "status": wanted.get("status", {})})
        return current

    def _put(self, obj: Object, *, base: Object, subresource: str | None = None) -> Object:
        written = self._client.update(COMPASS_CONNECTION, obj, subresource=subresource)
        self._cache.mutated(written, base=base)
        return written

    def _status_subresource(self) -> bool:
        known = self._has_status_subresource  # once: another thread may forget it at any moment
        if known is None:
            group = f"/apis/{COMPASS_CONNECTION.group}/{COMPASS_CONNECTION.version}"
            names = {resource["name"] for resource in self._client.request("GET", group)["resources"]}
            known = self._has_status_subresource = f"{COMPASS_CONNECTION.plural}/status" in names
        return known


def well_formed(connection: Object) -> Object:
    """The object without fields of a wrong type, for all fields that the agent reads. It always has a `spec`.

    The CRD checks types, but it may be replaced by one that does not. The object is not changed; it is returned itself
    if all types are right.
    """
    for path in _OBJECTS:
        connection = _without_other_types(connection, path)
    annotations = fields.annotations(connection)
    if annotations != connection["metadata"].get("annotations", {}):
        connection = {**connection, "metadata": {**connection["metadata"], "annotations": annotations}}
    return connection if "spec" in connection else {**connection, "spec": {}}


def _without_other_types(holder: Object, path: tuple[str, ...]) -> Object:
    name, *rest = path
    if name not in holder:
        return holder
    value = holder[name]
    if not isinstance(value, dict):
        return {key: item for key, item in holder.items() if key != name}
    inner = _without_other_types(value, tuple(rest)) if rest else value
    return holder if inner is value else {**holder, name: inner}


def _well_formed_or_none(connection: Object | None) -> Object | None:
    return None if connection is None else well_formed(connection)


def _empty(name: str) -> Object:
    return {
        "apiVersion": COMPASS_CONNECTION.api_version,
        "kind": COMPASS_CONNECTION.kind,
        "metadata": {"name": name},
        "spec": {"managementInfo": {"connectorUrl": "", "directorUrl": ""}},
    }


def _uid(obj: Object | None) -> str | None:
    return None if obj is None else obj["metadata"]["uid"]


def _without_status(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key != "status"}
