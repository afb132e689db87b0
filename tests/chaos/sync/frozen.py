"""An agent before an API server whose watch cache stands still while its reads from etcd and its writes go on.

What an API server takes from its watch cache is only what is listed and watched, so only that is replaced here:

- A list that takes what the cache has (resourceVersion "0", or any that is not newer) gets the state of the frozen
  version, read with resourceVersionMatch=Exact: the same bytes, at the same version, that the cache held then.
- A list without a resourceVersion is read from etcd, as is an object by its name: both are let through.
- A list that has to be newer than the cache is answered with "Too large resource version".
- A watch from the frozen version on is open and silent. When the cache goes on, it tells all that it has not told yet,
  in order: the real server's cache has these events.
- A watch that begins with a list is refused, as by servers that cannot do so; else it would wait until the cache is
  fresh, and nothing would be stale.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import urllib3

from e2e.world import World
from informers import Client, Invalid, Resource, TooLargeResourceVersion
from informers.watch import WatchEvent, WatchStream
from tests.support.agent_thread import AgentThread


class _WatchCache:
    """All of one API server's, frozen at one version of etcd."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._lock = threading.Lock()
        self._frozen = True
        self._streams: list[_HeldStream] = []

    @property
    def frozen(self) -> bool:
        return self._frozen

    def hold(self, stream: "_HeldStream") -> None:
        with self._lock:
            if self._frozen:
                self._streams.append(stream)
            else:
                stream.go_on()

    def go_on(self) -> None:
        with self._lock:
            self._frozen = False
        for stream in self._streams:
            stream.go_on()


class _HeldStream(WatchStream):
    """Open, as far as its reader can tell, and silent until it goes on."""

    def __init__(self, open_response: Callable[..., urllib3.BaseHTTPResponse]) -> None:
        super().__init__(open_response)
        self._going_on = threading.Event()

    def go_on(self) -> None:
        self._going_on.set()

    def open(self) -> None:
        if self._going_on.is_set():
            super().open()

    def stream(self) -> Iterator[WatchEvent]:
        self._going_on.wait()
        yield from super().stream()

    def stop(self) -> None:
        super().stop()
        self._going_on.set()


class _FrozenClient(Client):
    cache: _WatchCache

    def list(
        self,
        resource: Resource,
        *,
        continue_: str = "",
        resource_version: str | None = None,
        resource_version_match: str | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        if self.cache.frozen and resource_version and not continue_:
            if int(resource_version) > self.cache.version:
                raise TooLargeResourceVersion("Too large resource version", status=504, reason="Timeout")
            resource_version, resource_version_match = str(self.cache.version), "Exact"
        return super().list(
            resource,
            continue_=continue_,
            resource_version=resource_version,
            resource_version_match=resource_version_match,
            **options,
        )

    def watch(self, resource: Resource, *, send_initial_events: bool | None = None, **options: Any) -> WatchStream:
        if send_initial_events:
            raise Invalid("sendInitialEvents is forbidden for watch", status=422, reason="Invalid")
        stream = super().watch(resource, **options)
        held = _HeldStream(stream._open_response)
        self.cache.hold(held)
        return held


class FrozenAgent(AgentThread):
    """Started where all that is listed and watched is as it was at `version`, until the cache goes on."""

    def __init__(self, world: World, *, version: int, **settings: str) -> None:
        super().__init__(world, **settings)  # type: ignore[arg-type]
        self._cache = _WatchCache(version)

    def new_client(self) -> Client:
        client = _FrozenClient.load(str(self._kubeconfig), user_agent="compass-runtime-agent/chaos")
        client.cache = self._cache
        return client

    def go_on(self) -> None:
        self._cache.go_on()
