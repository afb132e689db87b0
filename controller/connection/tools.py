"""The clients and stores that the procedures of the connection use."""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.connection.credentials import CredentialsStore
from controller.connection.sessions import Sessions
from controller.connection.store import ConnectionStore
from workqueue.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The cluster, Compass and the time. `new_key` makes client keys of that many bits."""

    connections: ConnectionStore
    credentials: CredentialsStore
    sessions: Sessions
    clock: Clock
    new_key: Callable[[int], RSAPrivateKey]
