"""MockCompass: the Connector and the Director on real sockets with real TLS, in a thread of its own.

Three listeners, all on one address:

    https, no client certificate   /connector/graphql    pairing with a one-time token
    https, client certificate      /connector/graphql    renewal, revocation
                                   /director/graphql     Runtimes, labels, Applications
    http                           admin API (admin.py)
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self

import orjson
from aiohttp import hdrs, web

from e2e.mock_compass import connector, director
from e2e.mock_compass.admin import Admin
from e2e.mock_compass.compass import CONNECTOR_PATH, DIRECTOR_PATH, Compass
from e2e.mock_compass.connector import ConnectorContext
from e2e.mock_compass.director import DirectorContext, director_error
from e2e.mock_compass.endpoint import Endpoint, Request
from e2e.mock_compass.gateway import CERTIFICATE, DIRECTOR, ELSEWHERE, NOT_FOUND, TOKEN, UNAUTHENTICATED, Reply

TOKEN_HEADER = "Connector-Token"  # noqa: S105 - the name of a header
TENANT_HEADER = "Tenant"

_MAX_ADMIN_BODY = 1 << 30  # bytes, for bulk loads
_START_TIMEOUT = 30.0  # seconds


class MockCompass(Compass):
    """A Compass with its servers. A context manager: started inside, stopped after."""

    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    # --- life ---

    def start(self) -> Self:
        """Listens when it returns; raises OSError when a port is taken. The ports and URLs are known then."""
        if self._thread is not None:
            raise RuntimeError("the mock Compass runs already")
        self._runners: list[web.AppRunner] = []
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run_loop, args=(loop,), name="mock-compass", daemon=True)
        thread.start()
        self._thread, self._loop = thread, loop
        try:
            self._call(self._open())
        except BaseException:
            self.stop()
            raise
        self.settings.director_url = self.director_url
        self.settings.secured_connector_url = self.secured_connector_url
        return self

    def stop(self) -> None:
        """Closes every connection."""
        if self._thread is None or self._loop is None:
            return
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._thread = self._loop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    # --- inside ---

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            raise RuntimeError("the mock Compass is not running")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_TIMEOUT)

    async def _open(self) -> None:
        token_app, mtls_app = web.Application(), web.Application()
        admin_app = web.Application(client_max_size=_MAX_ADMIN_BODY)
        for app, path, target, name, service, authenticate in (
            (token_app, CONNECTOR_PATH, "connector", TOKEN, connector.SERVICE, self._with_token),
            (mtls_app, CONNECTOR_PATH, "connector", CERTIFICATE, connector.SERVICE, self._with_certificate),
            (mtls_app, DIRECTOR_PATH, "director", DIRECTOR, director.SERVICE, self._at_director),
        ):
            endpoint = Endpoint(self, target=target, name=name, service=service, authenticate=authenticate)
            app.router.add_route("*", path, endpoint.handle)
        for app in (token_app, mtls_app):
            app.router.add_route("*", "/{path:.*}", self._elsewhere)
        admin_app.router.add_route("*", "/{path:.*}", Admin(self).handle)
        contexts = (self.pki.server_context(mutual=False), self.pki.server_context(mutual=True), None)
        ports = []
        for app, context, port in zip((token_app, mtls_app, admin_app), contexts, self.ports, strict=True):
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
            self._runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, self.listen.address, port, ssl_context=context, reuse_address=True).start()
            ports.append(runner.addresses[0][1])
        self.ports = (ports[0], ports[1], ports[2])

    async def _close(self) -> None:
        for runner in self._runners:
            for connection in runner.server.connections if runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()  # close() would wait for a peer to end TLS politely
            await runner.cleanup()
        self._runners.clear()

    async def _elsewhere(self, request: web.Request) -> web.Response:
        effect = self.outages.effect(ELSEWHERE)
        reply = NOT_FOUND if effect is None else effect.reply
        self.requests.record(request, target="gateway", operation="", status=reply.status, outcome="refused")
        return reply.response()

    # --- who asks ---

    def _with_token(self, request: Request) -> ConnectorContext | Reply:
        """The token is spent here, so also when what follows fails."""
        client_id = self.state.spend_token(request.headers.get(TOKEN_HEADER, ""))
        if client_id is None or request.method != hdrs.METH_POST:
            return UNAUTHENTICATED
        return self._connector_context(client_id, None)

    def _with_certificate(self, request: Request) -> ConnectorContext | Reply:
        if request.peer is None or self.state.is_revoked(request.peer.fingerprint):
            return UNAUTHENTICATED
        return self._connector_context(request.peer.common_name, request.peer.fingerprint)

    def _connector_context(self, client_id: str, fingerprint: str | None) -> ConnectorContext:
        return ConnectorContext(
            state=self.state, pki=self.pki, settings=self.settings, client_id=client_id, fingerprint=fingerprint
        )

    def _at_director(self, request: Request) -> DirectorContext | Reply:
        """A caller that is not accepted has no scopes. Only another existing tenant has an error of its own."""
        peer = request.peer
        runtime = None
        if peer is not None and not self.state.is_revoked(peer.fingerprint) and not self.outages.without_scopes():
            runtime = self.state.runtime_of_client(peer.common_name)
        tenant = request.headers.get(TENANT_HEADER)
        if runtime is not None and tenant and tenant != runtime.tenant:
            if self.state.has_tenant(tenant):
                return _tenant_not_found(tenant)
            runtime = None
        if runtime is not None and b"bundle" in request.body:
            self.state.set_runtime_label(runtime.id, "useBundles", "true")
        return DirectorContext(state=self.state, runtime=runtime, disorder=self.disorder)


def _tenant_not_found(tenant: str) -> Reply:
    error = director_error(25, f"Tenant not found [externalTenant={tenant}]")
    document = {"errors": [error.formatted], "data": None}
    return Reply(400, "application/json", orjson.dumps(document).decode())


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
