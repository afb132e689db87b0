"""The state of an API server for Widgets: its objects, and a limited history of their changes."""

import itertools
import threading
from dataclasses import dataclass
from typing import Any

from tests.fake_api_server.objects import WIDGETS, bookmark, status, widget, widget_list

Object = dict[str, Any]


class Refused(Exception):
    """The answer to the request is this Status."""

    def __init__(self, body: Object) -> None:
        super().__init__(body["reason"])
        self.body = body


@dataclass(frozen=True)
class Event:
    """One line of a watch, and the version of the state after it."""

    version: int
    type: str
    object: Object


Events = list[Event]


class Cluster:
    """All Widgets by key, and the answers to lists and watches of them. Thread-safe.

    put(), delete(), bookmark() and compact() are what other clients do, in the namespace default. `changed` is held
    during each change and notified after it.

    page_size: the server's own limit for a list in pages, which may be less than was asked for.
    """

    resource = WIDGETS

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = 1
        self.objects: dict[str, Object] = {}
        self._history: Events = []
        self._oldest = 1  # the history after this version is known
        self._rests: dict[str, tuple[list[Object], int]] = {}  # of lists in pages, by continue token
        self._token_numbers = itertools.count()
        self._created = 0
        self.page_size: int | None = None
        self._backup: tuple[int, dict[str, Object]] | None = None
        self._tells_older_versions = False

    def put(self, name: str, **spec: Any) -> Object:
        """Create the object with this spec, or replace it."""
        with self.changed:
            old = self.objects.get(f"default/{name}")
            self._created += old is None
            self.version += 1
            uid = old["metadata"]["uid"] if old else f"uid-{self._created}"
            stored = self.objects[f"default/{name}"] = widget(name, self.version, uid=uid, **spec)
            self._happened("MODIFIED" if old else "ADDED", stored)
            return stored

    def delete(self, name: str) -> None:
        """Delete the object if it exists."""
        with self.changed:
            old = self.objects.pop(f"default/{name}", None)
            if old is not None:
                self.version += 1
                metadata = old["metadata"] | {"resourceVersion": str(self.version)}
                self._happened("DELETED", old | {"metadata": metadata})

    def bookmark(self) -> None:
        """Increase the version, as after a change of another kind, and send it to the watches as a bookmark."""
        with self.changed:
            self.version += 1
            self._happened("BOOKMARK", bookmark(self.version))

    def compact(self) -> None:
        """Drop the history, and all pages that were not read yet."""
        with self.changed:
            self._oldest = self.version
            self._history.clear()
            self._rests.clear()

    def back_up(self) -> None:
        """Once. Writes of other kinds then increase the version by more than will be written here after a restore:
        otherwise nothing that a server says would tell the two histories apart (etcdutl: --bump-revision).
        """
        with self.changed:
            if self._backup is None:
                self._backup = (self.version, dict(self.objects))
                self.version += 5000

    def restore(self, *, tells_older_versions: bool) -> bool:
        """Go back to the backup, if there is one. Watches from later versions are silent, or get the older ones."""
        with self.changed:
            if self._backup is None or self.version < self._backup[0] + 5000:
                return False
            self.version, objects = self._backup
            self.objects = dict(objects)
            self._tells_older_versions = tells_older_versions
            self.compact()
            return True

    def list(self, *, limit: int | None = None, continue_: str = "") -> Object:
        """One page. Raises Refused: 410 for an expired token."""
        with self.changed:
            if not continue_:
                items, version = [*self.objects.values()], self.version
            elif continue_ in self._rests:
                items, version = self._rests.pop(continue_)
            else:
                raise Refused(status(410, "Expired", "The provided continue parameter is too old"))
            token = ""
            limit = limit and min(limit, self.page_size or limit)
            if limit and len(items) > limit:
                token = f"token-{next(self._token_numbers)}"
                self._rests[token] = (items[limit:], version)
            return widget_list(items[:limit], version, token)

    def start_of_watch(self, resource_version: str, send_initial_events: bool = False) -> tuple[Events, int]:
        """The initial events of a streamed list, and the version at their end. Raises Refused (410)."""
        with self.changed:
            if not send_initial_events and resource_version not in ("", "0"):
                version = int(resource_version)
                return [], min(version, self.version) if self._tells_older_versions else version
            events = [Event(self.version, "ADDED", obj) for obj in self.objects.values()]
            if send_initial_events:
                events.append(Event(self.version, "BOOKMARK", bookmark(self.version, ends_initial_events=True)))
            return events, self.version

    def events_after_locked(self, version: int) -> Events:
        """The changes since that version. Raises Refused (410) if they were dropped. Call it with `changed` held."""
        if version < self._oldest:
            raise Refused(status(410, "Expired", f"too old resource version: {version}"))
        return [event for event in self._history if event.version > version]

    def _happened(self, kind: str, obj: Object) -> None:
        self._history.append(Event(self.version, kind, obj))
        self.changed.notify_all()
