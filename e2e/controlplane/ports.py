"""Loopback ports that nobody else gets."""

import socket

LOOPBACK = "127.0.0.1"


class ReservedPort:
    """A free port, kept for its owner until release(), also while no server listens on it.

    The socket is bound but never listens; SO_REUSEPORT lets a server of the same user bind beside it when it sets the
    option too, and keeps everyone else away. So there is no gap between finding a free port and using it, and a server
    that was killed gets its port back. While nothing listens, clients are refused, as for a dead server.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()
