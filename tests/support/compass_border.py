"""Connector and Director of the mock behind the agent's own clients, without sockets: for virtual time, any answer.

What is down answers as the gateway of the mock does. Only the exchange of bytes is replaced; queries, redaction,
parsing and certificates are the real ones.
"""

import functools
import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from cryptography.x509.oid import NameOID

from controller.compass import tls
from controller.compass.director import DirectorClient
from controller.compass.graphql import Transport
from controller.compass.http import HttpAnswer
from controller.connection.clients import CompassClients
from controller.connection.credentials import StoredCredentials
from e2e.mock_compass import connector, director
from e2e.mock_compass.connector import ConnectorContext, ConnectorSettings
from e2e.mock_compass.director import DirectorContext
from e2e.mock_compass.examples import generate
from e2e.mock_compass.faults import Disorder
from e2e.mock_compass.gateway import CERTIFICATE, DIRECTOR, TOKEN, UNAUTHENTICATED, Outages, Reply
from e2e.mock_compass.pki import Pki
from e2e.mock_compass.state import State

TENANT = "tenant-1"
RUNTIME = "6f0c1a4e-0000-4000-8000-000000000001"
CONNECTOR_URL = "https://connector.example/graphql"
SECURED_URL = "https://mtls.example/connector"
DIRECTOR_URL = "https://mtls.example/director"

_JSON = "application/json"


@functools.cache
def _pki() -> Pki:
    return Pki()


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Not used for any connection, and slow to make."""
    return tls.client_context()


class ConnectorBorder(CompassClients):
    """CompassClients whose bytes go to a Compass in memory. `intervene` may answer first, or raise.

    `sleep`: lets the seconds pass that an answer takes.
    """

    def __init__(self, *, clock: Callable[[], float], sleep: Callable[[float], None] = lambda _seconds: None) -> None:
        super().__init__(ca_file=None, skip_verify=False)
        self.state = State(clock=clock)
        self.state.register_runtime(tenant=TENANT, runtime_id=RUNTIME)
        self.settings = ConnectorSettings(director_url=DIRECTOR_URL, secured_connector_url=SECURED_URL)
        self.outages = Outages()
        self.intervene: Callable[[str], HttpAnswer | None] = lambda _operation: None
        self.calls: list[str] = []
        self.url = ""  # of the last call
        self.sleep = sleep
        self._disorder = Disorder(0)

    def token(self) -> str:
        return self.state.issue_token(RUNTIME)

    def _open(self, credentials: StoredCredentials | None) -> Transport:
        transport = Transport(tls_context())
        transport._http = _Http(self, credentials)  # type: ignore[assignment]
        return transport

    def answer(self, body: bytes, headers: Mapping[str, str], credentials: StoredCredentials | None) -> HttpAnswer:
        """The Connector's."""
        operation = connector.SERVICE.prepare(body)
        self.calls.append(operation.root_fields[0])
        intervened = self.intervene(self.calls[-1])
        if intervened is not None:
            return intervened
        effect = self.outages.effect(TOKEN if credentials is None else CERTIFICATE)
        if effect is not None and not effect.spends_token:
            return self._instead(effect.reply)
        client = self._client(headers, credentials)
        if effect is not None:
            return self._instead(effect.reply)
        if client is None:
            return self._instead(UNAUTHENTICATED)
        fingerprint = credentials.fingerprint if credentials else None
        context = ConnectorContext(
            state=self.state, pki=_pki(), settings=self.settings, client_id=client, fingerprint=fingerprint
        )
        return HttpAnswer(200, orjson.dumps(operation.run(context)), "", _JSON)

    def director_answer(
        self, body: bytes, headers: Mapping[str, str], credentials: StoredCredentials | None
    ) -> HttpAnswer:
        operation = director.SERVICE.prepare(body)
        self.calls.append(operation.root_fields[0])
        intervened = self.intervene(self.calls[-1])
        if intervened is not None:
            return intervened
        effect = self.outages.effect(DIRECTOR)
        if effect is not None:
            return self._instead(effect.reply)
        client = None if self.outages.without_scopes() else self._client(headers, credentials)
        runtime = self.state.runtime_of_client(client) if client else None
        context = DirectorContext(state=self.state, runtime=runtime, disorder=self._disorder)
        return HttpAnswer(200, orjson.dumps(operation.run(context)), "", _JSON)

    def _instead(self, reply: Reply) -> HttpAnswer:
        self.sleep(reply.delay)
        return HttpAnswer(reply.status, reply.text().encode(), "", reply.content_type or "")

    def _client(self, headers: Mapping[str, str], credentials: StoredCredentials | None) -> str | None:
        """The client id of a token, which is spent by this, or of a certificate; None for one that does not work."""
        if credentials is None:
            return self.state.spend_token(headers.get("Connector-Token", ""))
        alive = credentials.not_before <= self.state.clock() <= credentials.not_after
        fine = alive and not self.state.is_revoked(credentials.fingerprint)
        return common_name(credentials) if fine else None


def common_name(credentials: StoredCredentials) -> str:
    """The client id in the certificate."""
    (name,) = credentials.pair.chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


class _Http:
    def __init__(self, border: ConnectorBorder, credentials: StoredCredentials | None) -> None:
        self._border = border
        self._credentials = credentials

    def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str], timeout: float, may_be_abandoned: bool
    ) -> HttpAnswer:
        assert url.startswith("https://")
        assert may_be_abandoned == ("Connector-Token" not in headers), "a call with a token uses it"
        assert timeout > 0
        self._border.url = url
        answer = self._border.director_answer if url == DIRECTOR_URL else self._border.answer
        return answer(body, headers, self._credentials)

    def close(self) -> None:
        pass


class DirectorBorder:
    """A Director with `count` Applications. `intervene` gets the true answer and gives the one that is sent."""

    def __init__(self, count: int) -> None:
        self.state = State(clock=time.time)
        self.state.register_runtime(tenant="t", runtime_id=RUNTIME)
        for application in generate(count):
            self.state.put_application(application, assign_to=(RUNTIME,))
        self.intervene: Callable[[dict[str, Any]], HttpAnswer] = truthful
        self._disorder = Disorder()

    def client(self) -> DirectorClient:
        transport = Transport(tls_context())
        transport._http = self  # type: ignore[assignment]
        return DirectorClient(transport, "https://director.example/graphql", tenant="t")

    def post(
        self, _url: str, body: bytes, *, headers: Mapping[str, str], timeout: float, may_be_abandoned: bool
    ) -> HttpAnswer:
        assert may_be_abandoned
        context = DirectorContext(state=self.state, runtime=self.state.runtime(RUNTIME), disorder=self._disorder)
        return self.intervene(director.SERVICE.prepare(body).run(context))

    def close(self) -> None:
        pass


def truthful(document: dict[str, Any]) -> HttpAnswer:
    return HttpAnswer(200, json.dumps(document).encode(), "")  # orjson takes no integer of more than 64 bits
