"""What the Connector's answers become."""

import base64
import itertools
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from controller.compass.certificates import build_csr
from controller.compass.connector import ConnectorClient
from controller.compass.errors import InvalidAnswer
from controller.compass.graphql import Transport
from controller.compass.types import SigningOffer
from tests.unit.compass.https_server import SECRET_TOKEN, Authority, Server, http, pem

SUBJECT = "O=Org,OU=OrgUnit,L=locality,ST=province,C=DE,CN=abc"


def configuration(**changes: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "token": {"token": "second-token"},
        "certificateSigningRequestInfo": {"subject": SUBJECT, "keyAlgorithm": "rsa2048"},
        "managementPlaneInfo": {
            "directorURL": "https://director/graphql",
            "certificateSecuredConnectorURL": "https://connector/graphql",
        },
    }
    for path, value in changes.items():
        *outer, last = path.split("__")
        holder = result
        for step in outer:
            holder = holder[step]
        holder[last] = value
    return {"data": {"configuration": result}}


@pytest.fixture
def connector(transport: Transport) -> ConnectorClient:
    return ConnectorClient(transport)


def test_configuration_with_a_token_gives_the_next_one(connector: ConnectorClient, server: Server) -> None:
    """The configured token goes into the header, and the answer's is the one to sign with."""
    server.answer = lambda _: http(configuration())
    result = connector.configuration(server.url, token=SECRET_TOKEN, request_id="r_1")
    assert result == SigningOffer(
        subject=SUBJECT,
        key_algorithm="rsa2048",
        token="second-token",
        director_url="https://director/graphql",
        connector_url="https://connector/graphql",
    )
    assert server.requests[0].headers["connector-token"] == SECRET_TOKEN
    assert server.requests[0].headers["x-request-id"] == "r_1"
    assert "second-token" not in repr(result)


def test_configuration_over_mtls_needs_no_token(connector: ConnectorClient, server: Server) -> None:
    """No header is sent, and no token expected."""
    server.answer = lambda _: http(configuration(token=None))
    assert connector.configuration(server.url, request_id="r").token is None
    assert "connector-token" not in server.requests[0].headers


BROKEN: list[tuple[str, Any]] = [
    ("token", None),
    ("token", "x"),
    ("token__token", None),
    ("token__token", ""),
    ("token__token", 7),
    ("certificateSigningRequestInfo", None),
    ("certificateSigningRequestInfo__subject", None),
    ("certificateSigningRequestInfo__subject", "no subject"),
    ("certificateSigningRequestInfo__keyAlgorithm", []),
    ("managementPlaneInfo", []),
    ("managementPlaneInfo__directorURL", 1),
]
BROKEN_DOCUMENTS = [
    ({"data": {"configuration": None}}, "configuration"),
    ({"data": {}}, "configuration"),
    *((configuration(**{field: value}), f"configuration.{field.replace('__', '.')}") for field, value in BROKEN),
]


@pytest.mark.parametrize(("document", "path"), BROKEN_DOCUMENTS, ids=[row[1] for row in BROKEN_DOCUMENTS])
def test_a_configuration_without_what_is_needed_names_the_field(
    connector: ConnectorClient, server: Server, document: dict[str, Any], path: str
) -> None:
    """null, absent and wrongly typed alike."""
    server.answer = lambda _: http(document)
    with pytest.raises(InvalidAnswer) as caught:
        connector.configuration(server.url, token=SECRET_TOKEN, request_id="r_1")
    assert caught.value.path == path
    assert caught.value.request_id == "r_1"
    assert str(caught.value).startswith(f"{path}: ")


def encoded(*certificates: x509.Certificate) -> str:
    return base64.b64encode(b"".join(map(pem, certificates))).decode()


@pytest.fixture
def signed(client_key: rsa.RSAPrivateKey, authority: Authority) -> dict[str, Any]:
    leaf = authority.issue("abc", client_key.public_key())
    return {
        "certificateChain": encoded(leaf, authority.certificate),
        "caCertificate": encoded(authority.certificate),
        "clientCertificate": encoded(leaf),
    }


def sign(connector: ConnectorClient, server: Server, key: rsa.RSAPrivateKey, result: Any) -> Any:
    server.answer = lambda _: http({"data": {"signCertificateSigningRequest": result}})
    return connector.sign(server.url, build_csr(SUBJECT, key), token=SECRET_TOKEN, request_id="r")


@pytest.mark.parametrize("whole", [True, False], ids=["whole chain", "without the CA"])
def test_a_signed_certificate_is_decoded_and_described(
    connector: ConnectorClient,
    server: Server,
    client_key: rsa.RSAPrivateKey,
    authority: Authority,
    signed: dict[str, Any],
    whole: bool,
) -> None:
    """The request goes out as base64 of PEM; the certificates come back re-encoded. A chain without the CA gets it from
    the other field: the Secret of the gateway is made from the chain.
    """
    if not whole:
        signed["certificateChain"] = signed["clientCertificate"]
    result = sign(connector, server, client_key, signed)
    leaf = x509.load_pem_x509_certificate(result.chain_pem)
    assert result.chain_pem == pem(leaf) + pem(authority.certificate)
    assert result.leaf.not_after == leaf.not_valid_after_utc
    assert result.leaf.fingerprint == leaf.fingerprint(hashes.SHA256()).hex()
    sent = server.requests[0].variables["csr"]
    assert base64.b64decode(sent, validate=True).startswith(b"-----BEGIN CERTIFICATE REQUEST-----")
    assert server.requests[0].headers["connector-token"] == SECRET_TOKEN


def test_a_certificate_for_another_key_is_refused(
    connector: ConnectorClient, server: Server, client_key: rsa.RSAPrivateKey, authority: Authority
) -> None:
    """It would be stored and never work."""
    leaf = authority.issue("abc", ec.generate_private_key(ec.SECP256R1()).public_key())
    result = {"certificateChain": encoded(leaf), "caCertificate": encoded(leaf), "clientCertificate": encoded(leaf)}
    with pytest.raises(InvalidAnswer, match="not for the key") as caught:
        sign(connector, server, client_key, result)
    assert caught.value.path == "signCertificateSigningRequest.clientCertificate"


UNUSABLE = [
    *itertools.product(
        ("certificateChain", "caCertificate", "clientCertificate"),
        (None, "", "no base64!", base64.b64encode(b"no PEM").decode(), 7),
    ),
    ("certificateChain", "caCertificate"),  # it has to begin with the client certificate
]


@pytest.mark.parametrize(("field", "value"), UNUSABLE)
def test_an_unusable_certificate_names_the_field(
    connector: ConnectorClient,
    server: Server,
    client_key: rsa.RSAPrivateKey,
    signed: dict[str, Any],
    field: str,
    value: Any,
) -> None:
    """All three must be readable before anything is stored. `value` may be that of another field."""
    with pytest.raises(InvalidAnswer) as caught:
        sign(connector, server, client_key, signed | {field: signed.get(value, value)})
    assert caught.value.path == f"signCertificateSigningRequest.{field}"


def test_revoking_must_be_confirmed(connector: ConnectorClient, server: Server) -> None:
    """Only `true` is a success."""
    server.answer = lambda _: http({"data": {"revokeCertificate": True}})
    connector.revoke(server.url, request_id="r")
    for value in (False, None, "true", 1):
        server.answer = lambda _, value=value: http({"data": {"revokeCertificate": value}})  # type: ignore[misc]
        with pytest.raises(InvalidAnswer):
            connector.revoke(server.url, request_id="r")
