"""What the reconcilers learn of the connection while they use it.

Nothing here has to survive a restart: the first calls to Compass tell it again.
"""

import threading
from collections.abc import Mapping
from types import MappingProxyType

CONNECTOR = "Connector"
DIRECTOR = "Director"


class Health:
    """Who refuses our credentials, and when the Connector last accepted them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refusals: Mapping[str, str] = MappingProxyType({})
        self._checked_at: float | None = None

    @property
    def suspicion(self) -> str | None:
        """Why the connection may be lost; None when nobody refuses it.

        A refusal proves nothing: a revoked certificate, an unregistered Runtime and a Director without its database
        answer alike. So credentials are kept, and only a successful pairing replaces them.
        """
        return "; ".join(f"{by}: {error}" for by, error in self._refusals.items()) or None

    @property
    def checked_at(self) -> float | None:
        """When the Connector last accepted the certificate, epoch seconds; None when it failed to since."""
        return self._checked_at

    def refused(self, by: str, error: str) -> None:
        with self._lock:
            self._refusals = MappingProxyType({**self._refusals, by: error})

    def accepted(self, by: str) -> None:
        with self._lock:
            self._refusals = MappingProxyType({name: text for name, text in self._refusals.items() if name != by})

    def connector_answered(self, at: float) -> None:
        self._checked_at = at

    def connector_failed(self) -> None:
        self._checked_at = None

    def replaced(self, at: float) -> None:
        """There are new credentials: what was said of the old ones is void."""
        with self._lock:
            self._refusals = MappingProxyType({})
            self._checked_at = at
