"""HTTP and TLS over pooled connections, for the clients of the API server and of Compass. It knows neither.

- `stop`: ends all that waits.
- `connections`: a request that ends at its deadline and at its stop, in each phase.
- `pool`: requests, answers and streams.
- `errors`: one table from the errors of the libraries to TransportError.
- `tls`: TLS contexts.
- `proxies`: which proxy a request takes, as in Go.
"""

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
