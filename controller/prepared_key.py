"""Creates the client key of a pairing during the start of the process, while it waits for the Lease.

OpenSSL needs 0.2 to 2 s for a key of 4096 bits, and lets other threads run during this time.
"""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from informers.threads import run_in_thread
from workqueue.clock import Clock

_POLL_SECONDS = 0.05  # a cache of one object is filled within a few of these


class _Cache(Protocol):
    @property
    def has_synced(self) -> bool: ...


class PreparedKey:
    """Creates one key in advance if a pairing is expected, and all other keys on request.

    `caches`: the caches that `is_expected` reads. A replica without the Lease keeps its key, because it may have to
    pair later.
    """

    def __init__(
        self,
        new_key: Callable[[], RSAPrivateKey],
        *,
        caches: Collection[_Cache],
        is_expected: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._new_key = new_key
        self._caches = caches
        self._is_expected = is_expected
        self._clock = clock
        self._lock = threading.Lock()
        self._ahead: Future[RSAPrivateKey] | None = None
        self._was_asked = False

    def run(self, stop: threading.Event) -> None:
        """Wait for the caches, and begin to create the key if it will be needed. For the start of a manager."""
        while not all(cache.has_synced for cache in self._caches):
            if self._clock.sleep(_POLL_SECONDS, stop):
                return
        with self._lock:
            if self._was_asked or not self._is_expected():
                return
            ahead = self._ahead = Future()
        # In a separate thread, so a stop does not wait for it.
        run_in_thread("client-key", lambda: self._make(ahead))

    def take(self) -> RSAPrivateKey:
        """The key that was created in advance, for the first call; then a new key for each call."""
        with self._lock:
            self._was_asked = True
            ahead, self._ahead = self._ahead, None
        return self._new_key() if ahead is None else ahead.result()

    def _make(self, ahead: "Future[RSAPrivateKey]") -> None:
        try:
            ahead.set_result(self._new_key())
        except BaseException as error:  # noqa: BLE001 - raised by take(), whatever it is
            ahead.set_exception(error)
