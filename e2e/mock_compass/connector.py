"""The Connector: trades a one-time token, or a certificate that works, for a certificate."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLError

from e2e.mock_compass.executor import Service
from e2e.mock_compass.pki import Pki, SigningError, subject_of
from e2e.mock_compass.records import CONNECTOR_SCHEMA
from e2e.mock_compass.state import State

CERTIFICATE_VALIDITY = 90 * 24 * 3600.0  # seconds
CONNECTOR_TOKEN_LIFETIME = 300.0  # seconds, of the tokens that `configuration` hands out


@dataclass
class ConnectorSettings:
    """What may be changed while the mock runs. URLs: None answers null; both None answer a null managementPlaneInfo."""

    director_url: str | None = None
    secured_connector_url: str | None = None
    certificate_validity: float = CERTIFICATE_VALIDITY


@dataclass(frozen=True, kw_only=True)
class ConnectorContext:
    """One authenticated request. `fingerprint`: of the client certificate, None at the token endpoint."""

    state: State
    pki: Pki
    settings: ConnectorSettings
    client_id: str
    fingerprint: str | None


def _configuration(_source: Any, context: ConnectorContext) -> dict[str, Any]:
    settings = context.settings
    known = settings.director_url is not None or settings.secured_connector_url is not None
    return {
        "token": {
            "token": context.state.issue_token_for_client(context.client_id, lifetime=CONNECTOR_TOKEN_LIFETIME),
        },
        "certificateSigningRequestInfo": {"subject": subject_of(context.client_id), "keyAlgorithm": "rsa2048"},
        "managementPlaneInfo": {
            "directorURL": settings.director_url,
            "certificateSecuredConnectorURL": settings.secured_connector_url,
        }
        if known
        else None,
    }


def _sign(_source: Any, context: ConnectorContext, csr: str) -> dict[str, str]:
    try:
        csr_pem = base64.b64decode(csr, validate=True)
    except (binascii.Error, ValueError) as error:
        raise GraphQLError(
            "Error while decoding Certificate Signing Request: Error while parsing base64 content. "
            "Incorrect value provided."
        ) from error
    settings = context.settings
    try:
        pem, issued = context.pki.sign(
            csr_pem,
            client_id=context.client_id,
            now=context.state.clock(),
            validity=settings.certificate_validity,
        )
    except SigningError as error:
        raise GraphQLError(str(error)) from error
    context.state.record_certificate(issued)
    authority = context.pki.client_authority.certificate_pem.decode()
    return {
        "certificateChain": _base64(pem + authority),
        "clientCertificate": _base64(pem),
        "caCertificate": _base64(authority),
    }


def _revoke(_source: Any, context: ConnectorContext) -> bool:
    if context.fingerprint is None:
        raise GraphQLError(
            "Failed to authenticate with certificate: Failed to authenticate with Certificate. Invalid subject."
        )
    context.state.revoke(context.fingerprint)
    return True


def _base64(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


SERVICE = Service(
    CONNECTOR_SCHEMA,
    {
        "Query.configuration": _configuration,
        "Mutation.signCertificateSigningRequest": _sign,
        "Mutation.revokeCertificate": _revoke,
    },
)
