"""A client of the API server that notes which place in the program each request comes from, and lets others be faster.

A race is what somebody else does to the very object that the agent is about to write: so a write meets a conflict, an
object that exists already, or none, whenever the test wants it to.
"""

import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from informers import ApiError, Client, Resource
from informers.watch import WatchStream
from tests.integration.rbac.call_sites import ROOT, Call

Object = dict[str, Any]

_CLIENT = "informers/client.py"
_LISTER_WATCHER = "informers/lister_watcher.py"


@dataclass(frozen=True)
class Race:
    """Before the first such request: the object is made (for a POST), changed or deleted by somebody else.

    `path` is a part of the path of the request.
    """

    verb: Literal["POST", "PUT", "PATCH", "DELETE"]
    path: str
    what: Literal["create", "change", "delete"]


class Recorder:
    """What was asked, from where; and the races that are still to be run. Thread-safe."""

    def __init__(self, admin: Client, races: Iterable[Race]) -> None:
        self._admin = admin
        self._lock = threading.Lock()
        self.races = list(races)
        self.made: set[tuple[str, int, str, str]] = set()

    def missed(self, calls: Iterable[Call]) -> list[str]:
        """The places that have asked nothing."""
        return sorted(str(call) for call in calls if not any(_is(call, *made) for made in self.made))

    def unknown(self, calls: Iterable[Call]) -> list[str]:
        """What was asked from elsewhere."""
        known = list(calls)
        return sorted(
            f"{path}:{line} {verb} {resource}"
            for path, line, verb, resource in self.made
            if not any(_is(call, path, line, verb, resource) for call in known)
        )

    def asked(self, verb: str, resource: str) -> None:
        path, line = _origin()
        with self._lock:
            self.made.add((path, line, verb, resource))

    def before(self, verb: str, path: str, body: Any) -> None:
        """Run the races that are for this request."""
        with self._lock:
            due = [race for race in self.races if race.verb == verb and race.path in path]
            self.races = [race for race in self.races if race not in due[:1]]
        for race in due[:1]:
            try:
                self._run(race, path, body)
            except ApiError as error:
                raise AssertionError(f"{race} {path}: {error}") from error

    def _run(self, race: Race, path: str, body: Any) -> None:
        path = path.removesuffix("/status")
        if race.what == "create":
            self._admin.request("POST", path, body=body)
        elif race.what == "delete":
            self._admin.request("DELETE", path)
        else:
            patch = {"metadata": {"annotations": {"race": race.verb}}}
            self._admin.request("PATCH", path, body=patch, content_type="application/merge-patch+json")


class RecordingClient(Client):
    """Everything is sent, and noted."""

    recorder: Recorder

    def list(self, resource: Resource, **options: Any) -> Object:
        if _origin()[0] == _LISTER_WATCHER:
            self.recorder.asked("LIST", resource.plural)
        return super().list(resource, **options)

    def watch(self, resource: Resource, **options: Any) -> WatchStream:
        self.recorder.asked("WATCH", resource.plural)
        return super().watch(resource, **options)

    def request(self, method: str, path: str, **options: Any) -> Object:
        if _origin()[0] != _LISTER_WATCHER:
            self.recorder.asked(method, _plural(path))
            self.recorder.before(method, path, options.get("body"))
        return super().request(method, path, **options)


def _is(call: Call, path: str, line: int, verb: str, resource: str) -> bool:
    if call.verb in ("LIST", "WATCH"):
        return (path, verb, resource) == (_LISTER_WATCHER, call.verb, call.resource)
    return (
        (call.path, call.verb) == (path, verb)
        and call.first_line <= line <= call.last_line
        and call.resource in ("", resource)
    )


def _plural(path: str) -> str:
    """Of /api/v1/namespaces/NAMESPACE/PLURAL/NAME and the like."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return parts[0] if parts else ""


def _origin() -> tuple[str, int]:
    """The nearest frame that is neither this file's nor the client's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (_file(frame) == _CLIENT or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    assert frame is not None
    return _file(frame), frame.f_lineno


def _file(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
