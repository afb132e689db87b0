"""Agents that something happens to: killed in the middle of their writes, or blind to what the watch tells."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e2e.world import World
from informers import Client, ConnectionFailed, Expired
from informers.watch import WatchEvent, WatchStream
from tests.support.agent_thread import AgentThread


class _Guillotine:
    """Lets so many writes through. Once the last is answered nothing reaches the API server any more."""

    def __init__(self, writes: int) -> None:
        self.left = writes
        self.fallen = threading.Event()
        self.lock = threading.Lock()


class _MortalClient(Client):
    guillotine: _Guillotine

    def _send(self, method: str, url: str, **options: Any) -> Any:
        axe = self.guillotine
        if method == "GET":
            return self._unless_fallen(method, url, **options)
        with axe.lock:  # one write at a time: none may be on its way when the last one was let through
            response = self._unless_fallen(method, url, **options)
            if "/events" not in url:
                axe.left -= 1
                if axe.left == 0:
                    axe.fallen.set()
                    raise ConnectionFailed("killed")
            return response

    def _unless_fallen(self, method: str, url: str, **options: Any) -> Any:
        if self.guillotine.fallen.is_set():
            raise ConnectionFailed("killed")
        return super()._send(method, url, **options)


class MortalAgent(AgentThread):
    """As if killed after the n-th write: whatever it does after that, the cluster does not see it."""

    def __init__(self, world: World, *, writes: int, **settings: str) -> None:
        super().__init__(world, **settings)
        self._guillotine = _Guillotine(writes)

    def new_client(self) -> Client:
        client = _MortalClient.load(str(self._kubeconfig), user_agent="compass-runtime-agent/chaos")
        client.guillotine = self._guillotine
        return client

    @property
    def dead(self) -> bool:
        return self._guillotine.fallen.is_set()

    @property
    def writes_left(self) -> int:
        return self._guillotine.left


_BLIND_TO = ("applications", "secrets")


class _Blindness:
    """While ``dark``, events of Applications and Secrets are lost; afterwards their history is gone: 410 at a watch."""

    def __init__(self) -> None:
        self.dark = threading.Event()
        self.lock = threading.Lock()
        self.expired: set[str] = set()
        self.streams: list[_DimStream] = []


class _DimStream(WatchStream):
    dark: threading.Event

    def stream(self) -> Iterator[WatchEvent]:
        for event in super().stream():
            if not self.dark.is_set():
                yield event


class _BlindClient(Client):
    blindness: _Blindness

    def watch(self, resource: Any, **options: Any) -> WatchStream:
        stream = super().watch(resource, **options)
        one = options.get("field_selector")
        if resource.plural not in _BLIND_TO or one:
            return stream
        dim = _DimStream(stream._open_response)
        dim.dark = self.blindness.dark
        with self.blindness.lock:
            self.blindness.streams.append(dim)
        return dim

    def _send(self, method: str, url: str, **options: Any) -> Any:
        parts = urlsplit(url)
        plural = parts.path.rsplit("/", 1)[-1]
        resumes = "watch=true" in parts.query and "sendInitialEvents" not in parts.query
        with self.blindness.lock:
            if resumes and plural in self.blindness.expired and "fieldSelector" not in parts.query:
                self.blindness.expired.discard(plural)
                raise Expired("too old resource version", status=410, reason="Expired")
        return super()._send(method, url, **options)


class BlindAgent(AgentThread):
    """Loses every event of Applications and Secrets between ``go_blind`` and ``see``."""

    def __init__(self, world: World, *, kubeconfig: Path | None = None, **settings: str) -> None:
        super().__init__(world, kubeconfig=kubeconfig, **settings)
        self._blindness = _Blindness()

    def new_client(self) -> Client:
        client = _BlindClient.load(str(self._kubeconfig), user_agent="compass-runtime-agent/chaos")
        client.blindness = self._blindness
        return client

    def go_blind(self) -> None:
        self._blindness.dark.set()

    def see(self) -> None:
        """The streams end as they do when a server has forgotten what was in between: what is, is listed anew."""
        with self._blindness.lock:
            self._blindness.expired.update(_BLIND_TO)
            streams, self._blindness.streams = self._blindness.streams, []
        for stream in streams:
            stream.stop()
        self._blindness.dark.clear()
