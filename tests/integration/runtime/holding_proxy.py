"""A TCP path to a server that can hold requests back and pass them on later, even if their sender has gone."""

import contextlib
import socket
import threading
from typing import Self

_BUFFER = 65536


class HoldingProxy:
    """Forwards connections to `target` ("host:port") inside its block; clients use `address`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._passes = threading.Event()
        self._passes.set()
        self._sockets: list[socket.socket] = []

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        for open_socket in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()

    def hold(self) -> None:
        """Keep what clients send, and the end of their connections, until `release`."""
        self._passes.clear()

    def release(self) -> None:
        self._passes.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        to_server = sink.getpeername() == self._target
        with contextlib.suppress(OSError):
            while data := source.recv(_BUFFER):
                if to_server:
                    self._passes.wait()
                # A client that has gone does not end the way to the server.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sink.sendall(data)
