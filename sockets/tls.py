"""TLS sockets whose errors do not affect other connections.

OpenSSL has a queue of errors for each thread, and expects it to be empty before an operation. CPython empties it after
most errors, but not after each system error (python/cpython#148594; seen with Python 3.13 and OpenSSL 3.5). The rest is
reported for the next operations of the thread that have to wait, on whatever connection. So a thread in which one
connection broke, or was shut down by another thread, could never read from a connection again.
"""

import ssl
from typing import Any

# Any context will do. It is not used for connections.
_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class TLSSocket(ssl.SSLSocket):
    """Empties the queue of the thread after each failure, and at the end of the connection."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            _empty_error_queue()
            raise

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the name of the base class
        try:
            read = super().read(len, buffer)
        except OSError:
            _empty_error_queue()
            raise
        if not read:
            _empty_error_queue()
        return read

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except OSError:
            _empty_error_queue()
            raise


def _empty_error_queue() -> None:
    try:
        _context.set_ciphers("none")
    except ssl.SSLError:
        return  # this failure is the only call without another effect that empties the queue
    raise AssertionError("OpenSSL accepts any ciphers")
