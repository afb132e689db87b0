"""The state of an API server for one kind of object: what exists, what happened, and how far back it remembers."""

import threading
from dataclasses import dataclass
from typing import Any

from tests.support.apiserver.objects import bookmark, status, widget, widget_list

Object = dict[str, Any]


class Refused(Exception):
    """The request is answered by this Status."""

    def __init__(self, body: Object) -> None:
        super().__init__(body["reason"])
        self.body = body


@dataclass(frozen=True)
class Event:
    version: int
    type: str
    object: Object


Events = list[Event]


class Cluster:
    """Thread-safe. Versions are whole numbers here; clients must not care."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = 1
        self.objects: dict[str, Object] = {}
        self.history: list[Event] = []
        self.oldest = 1  # the history after this version is known
        self.deleted: set[str] = set()
        self._snapshots: dict[str, tuple[list[Object], int]] = {}
        self._created = 0

    def put(self, name: str, **spec: Any) -> Object:
        """Create or update."""
        with self.changed:
            self.version += 1
            old = self.objects.get(name)
            self._created += old is None
            uid = old["metadata"]["uid"] if old else f"uid-{self._created}"
            obj = widget(name, self.version, uid=uid, **spec)
            self.objects[name] = obj
            self._happened("MODIFIED" if old else "ADDED", obj)
            return obj

    def delete(self, name: str) -> None:
        """Delete, if it exists."""
        with self.changed:
            old = self.objects.pop(name, None)
            if old is None:
                return
            self.version += 1
            gone = old | {"metadata": old["metadata"] | {"resourceVersion": str(self.version)}}
            self._happened("DELETED", gone)

    def bookmark(self) -> None:
        """Something else happened in the cluster; the watches are told the new version."""
        with self.changed:
            self.version += 1
            self._happened("BOOKMARK", bookmark(self.version))

    def compact(self) -> None:
        """Forget what happened so far, and all pages not yet fetched."""
        with self.changed:
            self.oldest = self.version
            self.history.clear()
            self._snapshots.clear()

    def list(self, *, limit: int | None = None, continue_: str = "", resource_version: str = "") -> Object:
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
                items, version = list(self.objects.values()), self.version
            rest = items[limit:] if limit else []
            token = ""
            if rest:
                token = f"token-{len(self._snapshots)}-{version}"
                self._snapshots[token] = (rest, version)
            return widget_list(items[: len(items) - len(rest)], version, token)

    def start_of_watch(self, resource_version: str, send_initial_events: bool = False) -> tuple[Events, int]:
        """The synthetic first events, and the version after which history goes on. Raises Refused (410)."""
        with self.changed:
            if send_initial_events or resource_version in ("", "0"):
                events = [Event(self.version, "ADDED", obj) for obj in self.objects.values()]
                if send_initial_events:
                    events.append(Event(self.version, "BOOKMARK", bookmark(self.version, ends_initial_events=True)))
                return events, self.version
            if int(resource_version) < self.oldest:
                raise Refused(status(410, "Expired", f"too old resource version: {resource_version}"))
            return [], int(resource_version)

    def events_after_locked(self, version: int) -> Events:
        """What has happened since. Raises Refused (410) when that is no longer known. `changed` is held."""
        if version < self.oldest:
            raise Refused(status(410, "Expired", f"too old resource version: {version}"))
        return [event for event in self.history if event.version > version]

    def _happened(self, kind: str, obj: Object) -> None:
        self.history.append(Event(self.version, kind, obj))
        self.changed.notify_all()
