"""MockCompass: the Connector and the Director on real sockets with real TLS, in a thread of its own.

Three listeners, all on one address:

    https, no client certificate   /connector/graphql    pairing with a one-time token
    https, client certificate      /connector/graphql    renewal, revocation
                                   /director/graphql     Runtimes, labels, Applications
    http                           admin API (admin.py)
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson
from aiohttp import hdrs, web

from e2e.mock_compass import connector, director, examples
from e2e.mock_compass.admin import Admin
from e2e.mock_compass.connector import ConnectorContext, ConnectorSettings
from e2e.mock_compass.director import DirectorContext, director_error
from e2e.mock_compass.disorder import Disorder
from e2e.mock_compass.endpoint import Asked, Authenticate, Caller, Endpoint, Peer
from e2e.mock_compass.executor import Executor
from e2e.mock_compass.faults import Faults
from e2e.mock_compass.gateway import MAX_REQUEST, Gateway, RateLimit
from e2e.mock_compass.outages import CERTIFICATE, DIRECTOR, TOKEN, Outages
from e2e.mock_compass.pki import Pki
from e2e.mock_compass.replies import UNAUTHENTICATED, Reply
from e2e.mock_compass.request_log import RequestLog
from e2e.mock_compass.state import TOKEN_LIFETIME, State

CONNECTOR_PATH = "/connector/graphql"
DIRECTOR_PATH = "/director/graphql"
TOKEN_HEADER = "Connector-Token"  # noqa: S105 - the name of a header
TENANT_HEADER = "Tenant"

_MAX_ADMIN_BODY = 1 << 30  # bytes, for bulk loads
_START_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class Listen:
    """Where to listen. Port 0 takes a free one, which stays the same over stop and start."""

    address: str = "127.0.0.1"
    port: int = 0
    mtls_port: int = 0
    admin_port: int = 0


class MockCompass:
    """Knows one tenant and one Runtime from the start. A context manager: started inside, stopped after.

    `clock`: seconds since the epoch; tokens and client certificates live by it. With the default, TLS itself refuses
    an expired client certificate; with any other clock, TLS accepts it and the endpoints refuse it as a revoked one.
    `host_name`: the name in all advertised URLs; the server certificate carries it, `extra_names`, localhost and
    127.0.0.1.
    `seed`: of the order of nested lists and of errors (disorder.py).
    `state_directory`: keeps the two authorities, so that certificates survive a restart of the process.
    """

    def __init__(
        self,
        *,
        runtime_id: str | None = None,
        tenant: str = "3e64ebae-38b5-46a0-b1ed-9ccee153a0ae",
        host_name: str = "localhost",
        extra_names: tuple[str, ...] = (),
        listen: Listen = Listen(),
        state_directory: Path | None = None,
        clock: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        self._clock = clock
        self._host_name = host_name
        self._listen = listen
        self._pki = Pki(host_names=(host_name, *extra_names), directory=state_directory)
        self.state = State(clock=clock)
        self.faults = Faults()
        self.outages = Outages()
        self.rate_limit = RateLimit(clock=clock)
        self.requests = RequestLog()
        self.disorder = Disorder(seed)
        self.settings = ConnectorSettings()
        self.tenant = tenant
        self.runtime_id = self.state.register_runtime(tenant=tenant, runtime_id=runtime_id)
        self.admin = Admin(self)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runners: list[web.AppRunner] = []
        self._ports = (listen.port, listen.mtls_port, listen.admin_port)

    # --- life ---

    def start(self) -> Self:
        """Listens when it returns; raises OSError when a port is taken. The first start fixes ports and URLs."""
        if self._thread is not None:
            raise RuntimeError("the mock Compass runs already")
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run_loop, args=(loop,), name="mock-compass", daemon=True)
        thread.start()
        self._thread, self._loop = thread, loop
        try:
            self._call(self._open())
        except BaseException:
            self.stop()
            raise
        if self.settings.director_url is None and self.settings.secured_connector_url is None:
            self.settings.director_url = self.director_url
            self.settings.secured_connector_url = self.secured_connector_url
        return self

    def stop(self) -> None:
        """Closes every connection. State, ports and certificates stay for the next start."""
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

    # --- what a client needs ---

    @property
    def connector_url(self) -> str:
        return f"https://{self._host_name}:{self._ports[0]}{CONNECTOR_PATH}"

    @property
    def secured_connector_url(self) -> str:
        return f"https://{self._host_name}:{self._ports[1]}{CONNECTOR_PATH}"

    @property
    def director_url(self) -> str:
        return f"https://{self._host_name}:{self._ports[1]}{DIRECTOR_PATH}"

    @property
    def admin_url(self) -> str:
        return f"http://{_reachable(self._listen.address)}:{self._ports[2]}"

    @property
    def ca_pem(self) -> str:
        """The authority that signed the server certificates, for the clients' trust store."""
        return self._pki.server_authority.pem

    @property
    def client_ca_pem(self) -> str:
        """The authority that signs client certificates."""
        return self._pki.client_authority.pem

    # --- shortcuts for the Runtime that is there from the start ---

    def issue_token(self, *, lifetime: float = TOKEN_LIFETIME) -> str:
        return self.state.issue_token(self.runtime_id, lifetime=lifetime)

    def put_application(self, application: dict[str, Any]) -> dict[str, Any]:
        """Adds or replaces an Application (shape: records.py) and assigns it to the Runtime."""
        return self.state.put_application(application, assign_to=(self.runtime_id,))

    def generate_applications(self, count: int, *, prefix: str = "generated") -> None:
        """Adds `count` small Applications, the same ones each time, and assigns them to the Runtime."""
        for application in examples.generate(count, prefix=prefix):
            self.put_application(application)

    # --- inside ---

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            raise RuntimeError("the mock Compass is not running")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_TIMEOUT)

    async def _open(self) -> None:
        check_time = self._clock is time.time
        gateway = Gateway(rate_limit=self.rate_limit, outages=self.outages, log=self.requests, clock=self._clock)
        token_app, mtls_app = (
            web.Application(client_max_size=MAX_REQUEST, middlewares=[gateway.middleware]) for _ in range(2)
        )
        admin_app = web.Application(client_max_size=_MAX_ADMIN_BODY)
        at_connector, at_director = connector.executor(), director.executor(self.disorder)
        for app, path, endpoint in (
            (token_app, CONNECTOR_PATH, self._endpoint("connector", TOKEN, at_connector, self._with_token)),
            (mtls_app, CONNECTOR_PATH, self._endpoint("connector", CERTIFICATE, at_connector, self._with_certificate)),
            (mtls_app, DIRECTOR_PATH, self._endpoint("director", DIRECTOR, at_director, self._at_director)),
        ):
            app.router.add_route("*", path, endpoint.handle)
        for app in (token_app, mtls_app):
            app.router.add_route("*", "/{path:.*}", gateway.elsewhere)
        admin_app.router.add_route("*", "/{path:.*}", self.admin.handle)
        contexts = (
            self._pki.server_context(mutual=False, check_client_time=check_time),
            self._pki.server_context(mutual=True, check_client_time=check_time),
            None,
        )
        ports = []
        for app, context, port in zip((token_app, mtls_app, admin_app), contexts, self._ports, strict=True):
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
            self._runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, self._listen.address, port, ssl_context=context, reuse_address=True).start()
            ports.append(runner.addresses[0][1])
        self._ports = (ports[0], ports[1], ports[2])

    async def _close(self) -> None:
        for runner in self._runners:
            for connection in runner.server.connections if runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()  # close() would wait for a peer to end TLS politely
            await runner.cleanup()
        self._runners.clear()

    def _endpoint(self, target: str, name: str, executor: Executor, authenticate: Authenticate) -> Endpoint:
        return Endpoint(
            target=target,
            name=name,
            executor=executor,
            authenticate=authenticate,
            faults=self.faults,
            outages=self.outages,
            log=self.requests,
            clock=self._clock,
        )

    # --- who asks ---

    def _with_token(self, asked: Asked) -> Caller | Reply:
        """The token is spent here, so also when what follows fails."""
        client_id = self.state.spend_token(asked.headers.get(TOKEN_HEADER, ""))
        if client_id is None or asked.method != hdrs.METH_POST:
            return UNAUTHENTICATED
        return self._connector_caller(client_id, None)

    def _with_certificate(self, asked: Asked) -> Caller | Reply:
        if asked.peer is None or not self._in_force(asked.peer):
            return UNAUTHENTICATED
        return self._connector_caller(asked.peer.common_name, asked.peer.fingerprint)

    def _connector_caller(self, client_id: str, fingerprint: str | None) -> Caller:
        runtime = self.state.runtime_of_client(client_id)
        context = ConnectorContext(self.state, self._pki, self.settings, client_id, fingerprint)
        return Caller(client_id, runtime.id if runtime else None, context)

    def _at_director(self, asked: Asked) -> Caller | Reply:
        """Whoever is not accepted is a caller without scopes; only another existing tenant is told apart."""
        peer = asked.peer
        known = peer is not None and self._in_force(peer) and not self.outages.without_scopes()
        runtime = self.state.runtime_of_client(peer.common_name) if peer is not None and known else None
        if runtime is not None:
            self.state.mark_connected(runtime)
        tenant = asked.headers.get(TENANT_HEADER)
        if runtime is not None and tenant and tenant != runtime.tenant:
            if self.state.has_tenant(tenant):
                return _tenant_not_found(tenant)
            runtime = None
        if runtime is not None and b"bundle" in asked.body:
            self.state.set_runtime_label(runtime.id, "useBundles", "true")
        return Caller(
            peer.common_name if peer else None,
            runtime.id if runtime else None,
            DirectorContext(self.state, runtime),
        )

    def _in_force(self, peer: Peer) -> bool:
        return not self.state.is_revoked(peer.fingerprint) and peer.not_before <= self._clock() <= peer.not_after


def _tenant_not_found(tenant: str) -> Reply:
    error = director_error(25, f"Tenant not found [externalTenant={tenant}]")
    document = {"errors": [{"message": error.message, "extensions": error.extensions}], "data": None}
    return Reply(400, "application/json", orjson.dumps(document).decode())


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


def _reachable(address: str) -> str:
    return "127.0.0.1" if address in ("0.0.0.0", "::", "") else address  # noqa: S104 - compared, not bound
