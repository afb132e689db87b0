"""HTTP and TLS over pooled connections, for the clients of the API server and of Compass. It knows neither."""

from informers.transport.errors import Kind, TransportError
from informers.transport.pool import CONNECT_TIMEOUT, Pool, Response, Stream
from informers.transport.stop import Stop, Stopped
from informers.transport.tls import TLSMaterial

__all__ = [
    "CONNECT_TIMEOUT",
    "Kind",
    "Pool",
    "Response",
    "Stop",
    "Stopped",
    "Stream",
    "TLSMaterial",
    "TransportError",
]
