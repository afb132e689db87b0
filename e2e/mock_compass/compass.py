"""A Compass without its servers: what it knows, how it is set, what goes wrong, and where it is."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.mock_compass.connector import ConnectorSettings
from e2e.mock_compass.examples import generate
from e2e.mock_compass.faults import Disorder, Faults
from e2e.mock_compass.gateway import Outages
from e2e.mock_compass.pki import Pki
from e2e.mock_compass.state import TOKEN_LIFETIME, RequestLog, State

CONNECTOR_PATH = "/connector/graphql"
DIRECTOR_PATH = "/director/graphql"


@dataclass(frozen=True)
class Listen:
    """Where to listen. Port 0 takes a free one."""

    address: str = "127.0.0.1"
    port: int = 0
    mtls_port: int = 0
    admin_port: int = 0


class Compass:
    """Knows one tenant and one Runtime from the start.

    `host_name`: the name in all advertised URLs; the server certificate carries it, localhost and 127.0.0.1.
    `state_directory`: keeps the two authorities, so that certificates survive a restart of the process.
    """

    def __init__(
        self,
        *,
        runtime_id: str | None = None,
        tenant: str = "3e64ebae-38b5-46a0-b1ed-9ccee153a0ae",
        host_name: str = "localhost",
        listen: Listen = Listen(),
        state_directory: Path | None = None,
    ) -> None:
        self.listen = listen
        self._host_name = host_name
        self.pki = Pki(host_name, directory=state_directory)
        self.state = State(clock=time.time)
        self.faults = Faults()
        self.outages = Outages()
        self.requests = RequestLog()
        self.disorder = Disorder()
        self.settings = ConnectorSettings()
        self.tenant = tenant
        self.runtime_id = self.state.register_runtime(tenant=tenant, runtime_id=runtime_id)
        self.ports = (listen.port, listen.mtls_port, listen.admin_port)

    @property
    def connector_url(self) -> str:
        return f"https://{self._host_name}:{self.ports[0]}{CONNECTOR_PATH}"

    @property
    def secured_connector_url(self) -> str:
        return f"https://{self._host_name}:{self.ports[1]}{CONNECTOR_PATH}"

    @property
    def director_url(self) -> str:
        return f"https://{self._host_name}:{self.ports[1]}{DIRECTOR_PATH}"

    @property
    def admin_url(self) -> str:
        address = self.listen.address
        everywhere = address in ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
        return f"http://{'127.0.0.1' if everywhere else address}:{self.ports[2]}"

    @property
    def ca_pem(self) -> str:
        """The authority that signed the server certificates, for the clients' trust store."""
        return self.pki.server_authority.certificate_pem.decode()

    @property
    def client_ca_pem(self) -> str:
        """The authority that signs client certificates."""
        return self.pki.client_authority.certificate_pem.decode()

    # --- shortcuts for the Runtime that is there from the start ---

    def issue_token(self, *, lifetime: float = TOKEN_LIFETIME) -> str:
        return self.state.issue_token(self.runtime_id, lifetime=lifetime)

    def put_application(self, application: dict[str, Any]) -> dict[str, Any]:
        """Adds or replaces an Application (shape: records.py) and assigns it to the Runtime."""
        return self.state.put_application(application, assign_to=(self.runtime_id,))

    def generate_applications(self, count: int, *, prefix: str = "generated") -> None:
        """Adds `count` small Applications, the same ones each time, and assigns them to the Runtime."""
        for application in generate(count, prefix=prefix):
            self.put_application(application)
