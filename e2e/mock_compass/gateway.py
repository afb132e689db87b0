"""The gateway in front of Connector and Director: who is let through at all."""

import threading
from collections.abc import Awaitable, Callable

from aiohttp import web

from e2e.mock_compass.outages import ELSEWHERE, Outages
from e2e.mock_compass.replies import NOT_FOUND, RATE_LIMITED, TOO_LARGE, Reply
from e2e.mock_compass.request_log import LoggedRequest, RequestLog

MAX_REQUEST = 2 << 20  # bytes of a body

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RateLimit:
    """The token bucket of a gateway Pod, for all Runtimes together. Any thread may call.

    It holds `capacity` requests and gets `fill` back every `interval` seconds. May be changed while it is in use;
    `enabled` False lets everything through.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self.enabled = True
        self.capacity = 3000
        self.fill = 300
        self.interval = 30.0
        self._clock = clock
        self._lock = threading.Lock()
        self._spent = 0
        self._filled_at = clock()

    def admits(self) -> bool:
        """Whether one more request may pass; counts it."""
        if not self.enabled:
            return True
        with self._lock:
            fills = int((self._clock() - self._filled_at) // self.interval)
            if fills > 0:
                self._spent = max(0, self._spent - fills * self.fill)
                self._filled_at += fills * self.interval
            if self._spent >= self.capacity:
                return False
            self._spent += 1
            return True


class Gateway:
    """`middleware` stands in front of every path; `elsewhere` answers for those that are no endpoint."""

    def __init__(self, *, rate_limit: RateLimit, outages: Outages, log: RequestLog, clock: Callable[[], float]) -> None:
        self._rate_limit = rate_limit
        self._outages = outages
        self._log = log
        self._clock = clock

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not self._rate_limit.admits():
            return self._refuse(request, RATE_LIMITED)
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(request, TOO_LARGE)

    async def elsewhere(self, request: web.Request) -> web.StreamResponse:
        effect = self._outages.effect(ELSEWHERE)
        return self._refuse(request, NOT_FOUND if effect is None else effect.reply)

    def _refuse(self, request: web.Request, reply: Reply) -> web.Response:
        self._log.append(
            LoggedRequest(
                time=self._clock(),
                target="gateway",
                operation="invalid",
                runtime_id=None,
                client_id=None,
                request_id=request.headers.get("x-request-id"),
                status=reply.status,
                outcome="refused",
            )
        )
        return reply.response()
