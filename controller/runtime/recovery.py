"""Detects that the API server is available again, so that nothing waits for a back-off that has grown in the outage.

After an outage of minutes, an informer waits up to a minute before its next request, and a failed key waits up to the
cap of its rate limiter. This protects a server with thousands of clients. For this agent it would only delay the work
for as long. So the recovery asks the server once a second whether it is ready, which is a cheap request, and then
retries everything that has failed.

Informers whose list is from before the return list again. Events may be missing otherwise: if packets were lost, TCP
repeats them after a wait that may be as long as the outage was; if a load balancer has lost its state, they never
arrive; and a server that was restored from a backup does not have them.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from informers import ApiError, ConnectionFailed, KubernetesError, ServerError
from workqueue import Clock

log = logging.getLogger(__name__)

# /readyz and not another request: while a server starts it refuses requests, and the waits would continue.
_READY_PATH = "/readyz"
_PERIOD = 1.0
_REQUEST_TIMEOUT = 2.0
# Informers that are not watching this long after the return have another problem, with their own back-off.
_RETRY_SECONDS = 10.0


class Informer(Protocol):
    @property
    def last_error(self) -> KubernetesError | None: ...
    @property
    def is_watching(self) -> bool: ...
    def retry_now(self) -> None: ...
    def relist(self, *, since: float | None) -> None: ...


class Client(Protocol):
    def request(self, method: str, path: str, *, timeout: float | None = None) -> dict[str, Any]: ...


class Recovery:
    """Run it beside the informers.

    lease_fails: whether the last request for the Lease had no answer. These requests are frequent, so an outage is
    detected while all watches seem to work. on_return: called when the API server answers again.
    """

    def __init__(
        self,
        client: Client,
        informers: Sequence[Informer],
        *,
        lease_fails: Callable[[], bool],
        on_return: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._client = client
        self._informers = informers
        self._lease_fails = lease_fails
        self._on_return = on_return
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Wait for outages until stop is set. Blocks."""
        while not self._clock.sleep(_PERIOD, stop):
            if self._informer_fails() or self._lease_fails():
                self._wait_for_return(stop)

    def _informer_fails(self) -> bool:
        return any(isinstance(informer.last_error, ConnectionFailed) for informer in self._informers)

    def _wait_for_return(self, stop: threading.Event) -> None:
        away_at: float | None = None
        while not self._is_ready():
            away_at = self._clock.monotonic()
            if self._clock.sleep(_PERIOD, stop):
                return
        if away_at is None and not self._informer_fails():
            return  # only requests for the Lease fail, which is not an outage
        log.info("The API server answers again")
        self._on_return()
        for informer in self._informers:
            if away_at is not None or not informer.is_watching:
                informer.relist(since=away_at)
        give_up_at = self._clock.monotonic() + _RETRY_SECONDS
        # Not only informers with an error: one whose watch has expired in the outage waits before its list, too.
        while waiting := [informer for informer in self._informers if not informer.is_watching]:
            for informer in waiting:
                informer.retry_now()
            if self._clock.monotonic() >= give_up_at or self._clock.sleep(_PERIOD, stop):
                return

    def _is_ready(self) -> bool:
        try:
            self._client.request("GET", _READY_PATH, timeout=_REQUEST_TIMEOUT)
        except (ConnectionFailed, ServerError):
            return False
        except ApiError:
            # The answer is not JSON, or the request is forbidden: the server is available.
            return True
        return True
