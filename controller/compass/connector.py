"""The Connector: configuration, signing and revoking of the client certificate.

Over plain TLS a call is authorised by a one-time token, over mTLS by the certificate of the transport.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from cryptography import x509

from controller.compass.certificates import (
    belongs_to,
    chain_to_pem,
    csr_public_key,
    describe,
    parse_chain,
    parse_subject,
)
from controller.compass.errors import InvalidAnswer
from controller.compass.graphql import Transport
from controller.compass.queries import CONFIGURATION, REVOKE, SIGN, Operation
from controller.compass.types import Configuration, SignedCertificate
from controller.compass.values import (
    filled_text,
    numbered,
    optional_object,
    optional_text,
    required_object,
    text,
    within,
)

_TOKEN_HEADER = "Connector-Token"  # noqa: S105 - a name, not a token


class ConnectorClient:
    """Calls the Connector over `transport`.

    Every method raises any CompassError; InvalidAnswer names the field ("configuration.token.token"). `request_id` is
    sent as x-request-id.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def configuration(self, url: str, *, token: str | None = None, request_id: str) -> Configuration:
        """What to put into a signing request, and where Director and Connector are.

        With `token`, the answer must hold the next token, which is the one to sign with. The URLs may be None: whether
        that is an error depends on what they are needed for.
        """
        answer = self._call(url, CONFIGURATION, {}, token=token, request_id=request_id)
        with numbered(request_id):
            result = required_object(answer, CONFIGURATION.name)
            with within(CONFIGURATION.name):
                return _configuration(result, token_wanted=token is not None)

    def sign(self, url: str, csr_pem: bytes, *, token: str | None = None, request_id: str) -> SignedCertificate:
        """Have a request signed. The certificate is checked to be for the very key that signed the request."""
        answer = self._call(url, SIGN, {"csr": base64.b64encode(csr_pem).decode()}, token=token, request_id=request_id)
        with numbered(request_id):
            result = required_object(answer, SIGN.name)
            with within(SIGN.name):
                return _signed(result, csr_pem)

    def revoke(self, url: str, *, request_id: str) -> None:
        """Revoke the certificate of the transport. Raises InvalidAnswer when the Connector does not confirm it."""
        answer = self._call(url, REVOKE, {}, token=None, request_id=request_id)
        if answer.get(REVOKE.name) is not True:
            with numbered(request_id):
                raise InvalidAnswer("is not true: not revoked", path=REVOKE.name)

    def _call(
        self, url: str, operation: Operation, variables: Mapping[str, Any], *, token: str | None, request_id: str
    ) -> dict[str, Any]:
        headers = {} if token is None else {_TOKEN_HEADER: token}
        answer = self._transport.execute(
            url,
            operation,
            variables,
            headers=headers,
            request_id=request_id,
            may_be_abandoned=token is None,  # a call with a token uses it
        )
        return answer.whole()


def _configuration(result: dict[str, Any], *, token_wanted: bool) -> Configuration:
    token = None
    if token_wanted:
        holder = required_object(result, "token")
        with within("token"):
            token = filled_text(holder, "token")
    request = required_object(result, "certificateSigningRequestInfo")
    with within("certificateSigningRequestInfo"):
        subject = filled_text(request, "subject")
        parse_subject(subject)
        key_algorithm = text(request, "keyAlgorithm")
    urls = optional_object(result, "managementPlaneInfo") or {}
    with within("managementPlaneInfo"):
        director_url = optional_text(urls, "directorURL")
        connector_url = optional_text(urls, "certificateSecuredConnectorURL")
    return Configuration(
        subject=subject,
        key_algorithm=key_algorithm,
        token=token,
        director_url=director_url or None,
        connector_url=connector_url or None,
    )


def _signed(result: dict[str, Any], csr_pem: bytes) -> SignedCertificate:
    chain = _certificates(result, "certificateChain")
    authorities = _certificates(result, "caCertificate")
    client = _certificates(result, "clientCertificate")
    if client[0] != chain[0]:
        raise InvalidAnswer("does not begin with the client certificate", path="certificateChain")
    if not belongs_to(client[0], csr_public_key(csr_pem)):
        raise InvalidAnswer("is not for the key that was sent", path="clientCertificate")
    return SignedCertificate(
        certificate_pem=chain_to_pem(client[:1]),
        chain_pem=chain_to_pem(chain),
        ca_pem=chain_to_pem(authorities),
        leaf=describe(client[0]),
    )


def _certificates(result: dict[str, Any], field: str) -> tuple[x509.Certificate, ...]:
    try:
        pem = base64.b64decode("".join(filled_text(result, field).split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidAnswer("is not base64", path=field) from None
    with within(field):
        return parse_chain(pem)
