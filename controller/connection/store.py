"""Reading and writing the CompassConnection, on the agent's own CRD and on the one of the Go agent.

The CRD of the Go agent has no status subresource, so one PUT carries all, and it prunes the fields that this agent
adds. Which of the two is installed is asked from the API server's discovery; and asked again when a write did not do
what it said, since an operator may replace the CRD under a running agent.
"""

import copy
import logging
from collections.abc import Callable
from typing import Any

from controller.connection import status as cc
from controller.resources import COMPASS_CONNECTION
from informers.client import Client
from informers.errors import AlreadyExists, Conflict, NotFound
from informers.mutation_cache import MutationCache
from workqueue.clock import Clock

_log = logging.getLogger(__name__)

_MAX_CONFLICTS = 5  # each retry starts from what the API server has, so more mean a fight that back-off should end

Object = dict[str, Any]
Change = Callable[[Object], None]


class ConnectionStore:
    """Applies changes to a CompassConnection: never a write when nothing differs, never a change lost to a conflict."""

    def __init__(self, client: Client, cache: MutationCache, *, clock: Clock) -> None:
        self._client = client
        self._cache = cache
        self._clock = clock
        self._has_status_subresource: bool | None = None

    def get(self, name: str) -> Object | None:
        """The object as the cache has it, own writes included; shared, so read-only."""
        return self._cache.get(name)

    def update(self, connection: Object, change: Change) -> Object | None:
        """Applies ``change`` to a copy of what the object is now, and writes what differs.

        Gives it as stored, or None when it is gone. Another object of its name is not touched: what that one asks for
        is still to be read. Raises informers.ApiError.
        """
        metadata = connection["metadata"]
        return self._change(metadata["name"], change, uid=metadata["uid"], create=False)

    def put(self, name: str, change: Change) -> Object:
        """The same for whatever object has the name, and an absent one is created.

        Raises informers.ApiError: NotFound without the CRD.
        """
        stored = self._change(name, change, uid=None, create=True)
        assert stored is not None
        return stored

    def _change(self, name: str, change: Change, *, uid: str | None, create: bool) -> Object | None:
        base = _only(uid, self._cache.get(name))
        for _ in range(_MAX_CONFLICTS):
            try:
                if base is None:
                    return self._create(name, change) if create else None
                return self._write(base, change)
            except (Conflict, AlreadyExists):
                base = _only(uid, self._get_live(name))
            except NotFound:
                if base is None:
                    raise  # the CRD is gone
                self._has_status_subresource = None  # it may have gone away with the CRD
                base = _only(uid, self._get_live(name))
        raise Conflict(f"CompassConnection {name} kept changing while it was written", status=409, reason="Conflict")

    def _create(self, name: str, change: Change) -> Object:
        wanted: Object = {
            "apiVersion": COMPASS_CONNECTION.api_version,
            "kind": COMPASS_CONNECTION.kind,
            "metadata": {"name": name},
            "spec": {"managementInfo": {"connectorUrl": "", "directorUrl": ""}},
        }
        self._apply(wanted, change)
        status = wanted.get("status")
        created = self._client.create(COMPASS_CONNECTION, wanted)
        self._cache.mutated(created, base=None)
        if created.get("status") == status:
            return created
        return self._write(created, change)  # with a status subresource, creation drops the status

    def _write(self, base: Object, change: Change) -> Object:
        wanted = copy.deepcopy(base)
        self._apply(wanted, change)
        current = base
        if self._status_subresource():
            if _without_status(wanted) != _without_status(base):
                current = self._put({**wanted, "status": base.get("status", {})}, base=current)
            if wanted.get("status") != base.get("status"):
                wanted["metadata"] = current["metadata"]
                current = self._put(wanted, base=current, subresource="status")
        elif wanted != base:
            current = self._put(wanted, base=current)
            if current.get("status") != wanted.get("status"):
                self._has_status_subresource = None
                if self._status_subresource():
                    _log.info("the CompassConnection CRD was replaced by one with a status subresource")
                    return self._write(current, change)
        return current

    def _put(self, obj: Object, *, base: Object, subresource: str | None = None) -> Object:
        written = self._client.update(COMPASS_CONNECTION, obj, subresource=subresource)
        self._cache.mutated(written, base=base)
        return written

    def _apply(self, obj: Object, change: Change) -> None:
        change(obj)
        if self._status_subresource():
            cc.derive_conditions(obj, now=self._clock.time())
        else:
            cc.drop_additions(obj)

    def _get_live(self, name: str) -> Object | None:
        return self._cache.refresh(name, None, lambda: self._client.get(COMPASS_CONNECTION, name))

    def _status_subresource(self) -> bool:
        if self._has_status_subresource is None:
            group = f"/apis/{COMPASS_CONNECTION.group}/{COMPASS_CONNECTION.version}"
            names = {resource["name"] for resource in self._client.request("GET", group)["resources"]}
            self._has_status_subresource = f"{COMPASS_CONNECTION.plural}/status" in names
        return self._has_status_subresource


def _only(uid: str | None, obj: Object | None) -> Object | None:
    return obj if obj is not None and uid in (None, obj["metadata"]["uid"]) else None


def _without_status(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key != "status"}
