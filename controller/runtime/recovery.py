"""Detects that the API server is available again, so that nothing waits for a back-off that has grown in the outage.

A return is reported once. If the server fails again and again, the reports have growing intervals, because each of them
costs a list of everything. A server that was ready at each look has had no outage.
"""

import logging
import threading
from collections.abc import Callable

from informers import ApiError, Client, ConnectionFailed, ServerError
from informers.reflector import Backoff
from workqueue import Clock

log = logging.getLogger(__name__)

# /readyz and not another request: while a server starts it refuses requests, and the waits would continue.
_READY_PATH = "/readyz"
_PERIOD = 1.0
_REQUEST_TIMEOUT = 2.0


class Recovery:
    """Run it beside the informers.

    is_failing: whether any request has had no answer. on_return: called when the API server answers again, with the
    time (monotonic seconds) at which it was last known to be away.
    """

    def __init__(
        self,
        client: Client,
        *,
        is_failing: Callable[[], bool],
        on_return: Callable[[float], None],
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._client = client
        self._is_failing = is_failing
        self._on_return = on_return
        self._clock = clock
        self._backoff = Backoff(clock, random)

    def run(self, stop: threading.Event) -> None:
        """Report returns until stop is set. Blocks."""
        away_at: float | None = None  # None: there was no outage since the last report
        report_at = 0.0
        while not self._clock.sleep(_PERIOD, stop):
            now = self._clock.monotonic()
            if away_at is None and not self._is_failing():
                continue
            if not self._is_ready():
                away_at = now
            elif away_at is not None and now >= report_at:
                log.info("The API server answers again")
                self._on_return(away_at)
                away_at, report_at = None, now + self._backoff.next()

    def _is_ready(self) -> bool:
        try:
            self._client.request("GET", _READY_PATH, timeout=_REQUEST_TIMEOUT)
        except (ConnectionFailed, ServerError):
            return False
        except ApiError:
            # The answer is not JSON, or the request is forbidden: the server is available.
            return True
        return True
