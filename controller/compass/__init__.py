"""Clients for Compass: Connector and Director over GraphQL, TLS, keys and certificates. Knows nothing of Kubernetes.

* Every failure is a CompassError of a kind that callers can act upon (`controller.compass.errors`).
* No secret enters a message, a repr or a log record.
* What a client returns is complete and type-checked, or it raises.
* Nothing is retried. Between calls nothing is remembered but pooled connections, and what a text of the Director said.
"""

from controller.compass.certificates import (
    Credentials,
    build_csr,
    describe,
    key_to_pem,
    load_credentials,
    load_key,
    new_key,
    parse_chain,
    parse_subject,
)
from controller.compass.connector import ConnectorClient
from controller.compass.director import DirectorClient
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    InvalidCredentials,
    InvalidRequest,
    Refused,
    TooLarge,
    Unavailable,
    UnexpectedAnswer,
)
from controller.compass.graphql import Observe, Transport
from controller.compass.http import check_url
from controller.compass.limits import Limits
from controller.compass.tls import client_context
from controller.compass.types import (
    ApiDefinition,
    Application,
    Assignment,
    BasicCredentials,
    Bundle,
    CertificateInfo,
    Configuration,
    EventDefinition,
    IncompleteApplication,
    OAuthCredentials,
    SignedCertificate,
    UnsupportedCredentials,
    Viewer,
)

__all__ = [
    "ApiDefinition",
    "Application",
    "Assignment",
    "BasicCredentials",
    "Bundle",
    "CertificateInfo",
    "CompassError",
    "Configuration",
    "ConnectorClient",
    "Credentials",
    "DirectorClient",
    "EventDefinition",
    "GraphQLError",
    "IncompleteApplication",
    "InvalidAnswer",
    "InvalidCredentials",
    "InvalidRequest",
    "Limits",
    "OAuthCredentials",
    "Observe",
    "Refused",
    "SignedCertificate",
    "TooLarge",
    "Transport",
    "Unavailable",
    "UnexpectedAnswer",
    "UnsupportedCredentials",
    "Viewer",
    "build_csr",
    "check_url",
    "client_context",
    "describe",
    "key_to_pem",
    "load_credentials",
    "load_key",
    "new_key",
    "parse_chain",
    "parse_subject",
]
