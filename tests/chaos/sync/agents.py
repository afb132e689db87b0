"""Agents on a real API server that are killed in the middle of their writes, whose writes fail, or whose watches lose
events.

All is done in their client, through which all that they read and write passes.
"""

import threading
from collections.abc import Iterator
from typing import Any

from e2e.world import World
from informers import Client, ConnectionFailed, Resource, ServerError
from informers.watch import BOOKMARK, ERROR, WatchEvent, WatchStream
from tests.support.agent_thread import AgentThread

_ENDLESS = 10**9


class _Guillotine:
    """Lets so many writes through. Once the last is answered nothing reaches the API server any more."""

    def __init__(self, writes: int) -> None:
        self.left = writes
        self.fallen = threading.Event()
        self.lock = threading.Lock()


class _MortalClient(Client):
    guillotine: _Guillotine

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        axe = self.guillotine
        if method == "GET":
            return self._unless_fallen(method, path, arguments)
        with axe.lock:  # one write at a time: none may be on its way when the last one was let through
            response = self._unless_fallen(method, path, arguments)
            if "/events" not in path:
                axe.left -= 1
                if axe.left == 0:
                    axe.fallen.set()
                    raise ConnectionFailed("killed")
            return response

    def _unless_fallen(self, method: str, path: str, arguments: dict[str, Any]) -> Any:
        if self.guillotine.fallen.is_set():
            raise ConnectionFailed("killed")
        return super().request(method, path, **arguments)


class MortalAgent(AgentThread):
    """As if killed after the n-th write: whatever it does after that, the cluster does not see it."""

    def __init__(self, world: World, *, writes: int, **settings: str) -> None:
        super().__init__(world, **settings)  # type: ignore[arg-type]
        self._guillotine = _Guillotine(writes)

    def new_client(self) -> Client:
        client = _MortalClient.load(str(self._kubeconfig), user_agent="compass-runtime-agent/chaos")
        client.guillotine = self._guillotine
        return client

    def die_after(self, writes: int) -> None:
        """Another number of writes, from now on."""
        with self._guillotine.lock:
            self._guillotine.left = writes

    @property
    def dead(self) -> bool:
        return self._guillotine.fallen.is_set()


_EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}


class _Sight:
    """Which events of Applications and Secrets arrive: so many more, then none until `regained`.

    Then every stream ends as one does whose history the API server has forgotten: only a list shows what there is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: int | None = None  # None: all
        self._streams: list[_DimStream] = []

    @property
    def left(self) -> int | None:
        return self._left

    def limit(self, events: int) -> None:
        with self._lock:
            self._left = events

    def regained(self) -> None:
        with self._lock:
            self._left = None
            streams, self._streams = self._streams, []
        for stream in streams:
            stream.expire()

    def sees(self) -> bool:
        with self._lock:
            if self._left is None:
                return True
            self._left -= 1
            return self._left >= 0

    def register(self, stream: "_DimStream") -> None:
        with self._lock:
            self._streams.append(stream)


class _DimStream(WatchStream):
    sight: _Sight
    listing: bool  # a list that is streamed arrives whole, as any list does: its end is a bookmark
    expired = False

    def stream(self) -> Iterator[WatchEvent]:
        for event in super().stream():
            if self.listing or self.sight.sees():
                yield event
            if event.type == BOOKMARK:
                self.listing = False
        if self.expired:
            yield WatchEvent(ERROR, _EXPIRED)

    def expire(self) -> None:
        self.expired = True
        self.stop()


class _BlindClient(Client):
    sight: _Sight

    def watch(self, resource: Resource, **options: Any) -> WatchStream:
        stream = super().watch(resource, **options)
        if resource.plural not in ("applications", "secrets") or options.get("field_selector"):
            return stream
        dim = _DimStream(stream._open_stream)
        dim.sight, dim.listing = self.sight, bool(options.get("send_initial_events"))
        self.sight.register(dim)
        return dim


class BlindAgent(AgentThread):
    """Loses events of Applications and Secrets: all after some, until it sees again."""

    def __init__(self, world: World, **settings: str) -> None:
        super().__init__(world, **settings)  # type: ignore[arg-type]
        self._sight = _Sight()

    def new_client(self) -> Client:
        client = _BlindClient.load(str(self._kubeconfig), user_agent="compass-runtime-agent/chaos")
        client.sight = self._sight
        return client

    def go_blind(self, *, after_events: int = 0) -> None:
        self._sight.limit(after_events)

    def see(self) -> None:
        self._sight.regained()

    @property
    def lost_events(self) -> bool:
        """Whether there was an event that it did not see."""
        return (self._sight.left or 0) < 0


class _Weather:
    """What becomes of every n-th write of Applications and Secrets; 0: of none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes = 0
        self.every = 0
        self.answers_are_lost = False  # the write is done; else it is refused

    def strikes(self, method: str, url: str) -> bool:
        if method == "GET" or not ("/applications" in url or "/secrets" in url):
            return False
        with self._lock:
            self._writes += 1
            return bool(self.every) and self._writes % self.every == 0


class _TriedClient(_MortalClient, _BlindClient):
    weather: _Weather

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        struck = self.weather.strikes(method, path)
        if struck and not self.weather.answers_are_lost:
            raise ServerError("etcd is away", status=500, reason="InternalError")
        response = super().request(method, path, **arguments)
        if struck:
            raise ConnectionFailed("the answer is lost")
        return response


class TriedAgent(MortalAgent, BlindAgent):
    """All of that at once, in any order. It begins unharmed."""

    def __init__(self, world: World, **settings: str) -> None:
        super().__init__(world, writes=_ENDLESS, **settings)
        self.weather = _Weather()

    def new_client(self) -> Client:
        client = _TriedClient.load(str(self._kubeconfig), user_agent="compass-runtime-agent/chaos")
        client.guillotine, client.sight, client.weather = self._guillotine, self._sight, self.weather
        return client
