"""A TCP path to a server that can lose everything, as a network partition or a load balancer that fails does.

Nothing is refused or reset: connections from before a loss stay silent, and new ones get no answer until `restore`.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Self

_BUFFER = 65536
_POLL_SECONDS = 0.05


class LossyNetwork:
    """Forwards connections to `target` ("host:port") inside its block; clients use `address`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        # The queue of this listener is full after one or two connections. Then the system drops packets of new ones.
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._stop = threading.Event()
        self._lock = threading.Lock()  # held while a connection is accepted: none is after a loss
        self._lost = threading.Event()
        self._fillers = contextlib.ExitStack()
        self._connections = contextlib.ExitStack()
        self._current = threading.Event()  # set when the connections of now are lost
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._current.set()
        for thread in self._threads:
            thread.join()
        self._fillers.close()
        self._connections.close()
        self._listener.close()

    def lose(self) -> None:
        """Nothing arrives any more, in both directions."""
        with self._lock:
            self._lost.set()
        self._current.set()
        for _ in range(8):
            filler = self._fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(self._listener.getsockname())

    def restore(self) -> None:
        """New connections work; those from before the loss stay silent."""
        self._fillers.close()
        self._current = threading.Event()
        self._lost.clear()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="lossy-network", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if self._lost.is_set():
                self._stop.wait(_POLL_SECONDS)
                continue
            if not select.select([self._listener], [], [], _POLL_SECONDS)[0]:
                continue
            with self._lock:
                if self._lost.is_set():
                    continue
                client, _ = self._listener.accept()
            server = socket.create_connection(self._target)
            for one in (client, server):
                self._connections.callback(one.close)
            self._start(self._forward, client, server, self._current)
            self._start(self._forward, server, client, self._current)

    def _forward(self, source: socket.socket, sink: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):  # one side has reset its connection, so the other one is closed
            for data in _received(source, lost):
                if lost.is_set():
                    return
                sink.sendall(data)
        if not lost.is_set():
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)


def _received(source: socket.socket, lost: threading.Event) -> Iterator[bytes]:
    while not lost.is_set():
        if select.select([source], [], [], _POLL_SECONDS)[0]:
            data = source.recv(_BUFFER)
            if not data:
                return
            yield data
