"""The Connector of the mock behind the agent's own clients, without sockets: for virtual time and for any answer.

Only the exchange of bytes is replaced; queries, redaction, parsing and certificates are the real ones.
"""

import functools
import ssl
from collections.abc import Callable, Mapping

import orjson

from controller.compass import tls
from controller.compass.graphql import Transport
from controller.compass.http import HttpAnswer
from controller.connection.credentials import StoredCredentials
from controller.connection.sessions import Sessions
from e2e.mock_compass.connector import ConnectorContext, ConnectorSettings, executor
from e2e.mock_compass.executor import RequestError
from e2e.mock_compass.pki import Pki
from e2e.mock_compass.state import State

TENANT = "tenant-1"
RUNTIME = "runtime-1"
CONNECTOR_URL = "https://connector.example/graphql"
SECURED_URL = "https://mtls.example/connector"
DIRECTOR_URL = "https://mtls.example/director"

Answer = Callable[[str], HttpAnswer | Exception | None]


@functools.cache
def _pki() -> Pki:
    return Pki()


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Not used for any connection, and slow to make."""
    return tls.client_context()


class ConnectorBorder(Sessions):
    """Sessions whose bytes go to a Connector in memory. ``intervene`` may answer first, or raise."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        super().__init__(ca_file=None, skip_verify=False)
        self.state = State(clock=clock)
        self.state.register_runtime(tenant=TENANT, runtime_id=RUNTIME)
        self.settings = ConnectorSettings(director_url=DIRECTOR_URL, secured_connector_url=SECURED_URL)
        self.intervene: Callable[[str], HttpAnswer | None] = lambda _operation: None
        self.calls: list[str] = []
        self._executor = executor()

    def token(self) -> str:
        return self.state.issue_token(RUNTIME)

    def _open(self, credentials: StoredCredentials | None) -> Transport:
        transport = Transport(tls_context())
        transport._http = _Http(self, credentials)  # type: ignore[assignment]
        return transport

    def answer(self, body: bytes, headers: Mapping[str, str], credentials: StoredCredentials | None) -> HttpAnswer:
        prepared = self._executor.prepare(body)
        assert not isinstance(prepared, RequestError)
        operation = prepared.root_fields[0].name
        self.calls.append(operation)
        intervened = self.intervene(operation)
        if intervened is not None:
            return intervened
        if credentials is None:
            client = self.state.spend_token(headers.get("Connector-Token", ""))
        else:
            now = self.state.clock()
            alive = credentials.not_before <= now <= credentials.not_after
            fine = alive and not self.state.is_revoked(credentials.fingerprint)
            client = credentials.pair.leaf.common_name if fine else None
        if client is None:
            return HttpAnswer(400, b"", "")
        fingerprint = credentials.fingerprint if credentials else None
        context = ConnectorContext(self.state, _pki(), self.settings, client, fingerprint)
        return HttpAnswer(200, orjson.dumps(prepared.run(context)), "")


class _Http:
    def __init__(self, border: ConnectorBorder, credentials: StoredCredentials | None) -> None:
        self._border = border
        self._credentials = credentials

    def post(self, url: str, body: bytes, *, headers: Mapping[str, str], timeout: float) -> HttpAnswer:
        assert url.startswith("https://")
        assert timeout > 0
        return self._border.answer(body, headers, self._credentials)

    def close(self) -> None:
        pass
