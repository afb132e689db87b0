"""An agent that is killed in the middle of its writes."""

import threading
from typing import Any

from e2e.world import World
from informers import Client, ConnectionFailed
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
