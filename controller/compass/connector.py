"""The Connector: configuration, signing and revoking of the client certificate.

Over plain TLS a call is authorised by a one-time token, over mTLS by the certificate of the transport.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, TypeVar

from cryptography import x509

from controller.compass.certificates import (
    belongs_to,
    chain_to_pem,
    csr_public_key,
    describe,
    parse_chain,
    parse_subject,
)
from controller.compass.errors import InvalidAnswer, identified_by, within
from controller.compass.graphql import Transport
from controller.compass.queries import CONFIGURATION, REVOKE, SIGN, Operation
from controller.compass.types import ConnectorConfiguration, Signed, SignedCertificate, SigningOffer

T = TypeVar("T")

_TOKEN_HEADER = "Connector-Token"  # noqa: S105 - a name, not a token


class ConnectorClient:
    """Calls the Connector over `transport`.

    Every method raises any CompassError; InvalidAnswer names the field ("configuration.token.token"). `request_id` is
    sent as x-request-id.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def configuration(self, url: str, *, token: str | None = None, request_id: str) -> SigningOffer:
        """What to put into a signing request, and where Director and Connector are.

        With `token`, the answer must hold the next token, which is the one to sign with. The URLs may be None: whether
        that is an error depends on what they are needed for.
        """
        with identified_by(request_id):
            answer = self._call(url, CONFIGURATION, {}, token=token, request_id=request_id)
            with within(CONFIGURATION.name):
                return _configuration(answer.configuration, token_wanted=token is not None)

    def sign(self, url: str, csr_pem: bytes, *, token: str | None = None, request_id: str) -> SignedCertificate:
        """Have a request signed. The certificate is checked to be for the very key that signed the request."""
        variables = {"csr": base64.b64encode(csr_pem).decode()}
        with identified_by(request_id):
            answer = self._call(url, SIGN, variables, token=token, request_id=request_id)
            with within(SIGN.name):
                return _signed(answer.signCertificateSigningRequest, csr_pem)

    def revoke(self, url: str, *, request_id: str) -> None:
        """Revoke the certificate of the transport. Raises InvalidAnswer when the Connector does not confirm it."""
        with identified_by(request_id):
            answer = self._call(url, REVOKE, {}, token=None, request_id=request_id)
            if not answer.revokeCertificate:
                raise InvalidAnswer("is not true: not revoked", path=REVOKE.name)

    def _call(
        self, url: str, operation: Operation[T], variables: Mapping[str, Any], *, token: str | None, request_id: str
    ) -> T:
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


def _configuration(result: ConnectorConfiguration, *, token_wanted: bool) -> SigningOffer:
    if token_wanted and result.token is None:
        raise InvalidAnswer("is null or absent instead of an object", path="token")
    request, urls = result.certificateSigningRequestInfo, result.managementPlaneInfo
    with within("certificateSigningRequestInfo"):
        parse_subject(request.subject)
    return SigningOffer(
        subject=request.subject,
        key_algorithm=request.keyAlgorithm,
        token=result.token.token if token_wanted and result.token is not None else None,
        director_url=(urls.directorURL if urls is not None else None) or None,
        connector_url=(urls.certificateSecuredConnectorURL if urls is not None else None) or None,
    )


def _signed(result: Signed, csr_pem: bytes) -> SignedCertificate:
    chain = _certificates(result.certificateChain, "certificateChain")
    authorities = _certificates(result.caCertificate, "caCertificate")
    client = _certificates(result.clientCertificate, "clientCertificate")
    if client[0] != chain[0]:
        raise InvalidAnswer("does not begin with the client certificate", path="certificateChain")
    if not belongs_to(client[0], csr_public_key(csr_pem)):
        raise InvalidAnswer("is not for the key that was sent", path="clientCertificate")
    return SignedCertificate(
        chain_pem=chain_to_pem(chain if len(chain) > 1 else (*chain, *authorities)),
        leaf=describe(client[0]),
    )


def _certificates(text: str, field: str) -> tuple[x509.Certificate, ...]:
    try:
        pem = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidAnswer("is not base64", path=field) from None
    with within(field):
        return parse_chain(pem)
