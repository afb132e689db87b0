"""What the real Connector and Director answer to whoever reaches them, row by row: the mock answers the same.

The facts were measured on Compass a423d60. They are written out here, not taken from the mock.
"""

import re
import socket
import ssl
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from e2e.mock_compass import MockCompass
from tests.support.compass_client import TIMEOUT, Client

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
NO_SUCH_ID = "00000000-0000-4000-8000-000000000000"
PAGE = """query ($id: ID!, $after: PageCursor) {
  applicationsForRuntime(runtimeID: $id, first: 10, after: $after) { data { id } } }"""
SET_LABEL = """mutation ($id: ID!) { setRuntimeLabel(runtimeID: $id, key: "k", value: "v") { key } }"""


# --- tokens ---


# --- who am I, and who else is there ---


def test_viewer_says_who_the_certificate_is(compass: MockCompass, paired: Client) -> None:
    """The only answer by which a wrong Runtime id can be found."""
    assert paired.ask("{ viewer { id type } }") == {"data": {"viewer": {"id": compass.runtime_id, "type": "RUNTIME"}}}


# --- internal errors ---


@pytest.mark.parametrize(
    ("query", "variables", "reason"),
    [
        (SET_LABEL, {"id": NO_SUCH_ID}, ", reason: input: .*doesn't exist"),
        (PAGE, {"id": "RUNTIME", "after": "nonsense"}, ", reason: input: .*"),
        (PAGE, {"id": "no-uuid"}, ""),
    ],
    ids=["label of an unknown Runtime", "bad cursor", "no UUID"],
)
def test_an_internal_error_has_a_new_id_each_time(
    compass: MockCompass, paired: Client, query: str, variables: dict[str, str], reason: str
) -> None:
    """Code 10; some say the reason."""
    own = {key: compass.runtime_id if value == "RUNTIME" else value for key, value in variables.items()}
    found = set()
    for _ in range(2):
        (error,) = paired.ask(query, own)["errors"]
        assert error["extensions"] == {"error": "InternalError", "error_code": 10}
        match = re.fullmatch(rf"Internal Server Error \[errorID=({UUID}){reason}\]", error["message"])
        assert match, error["message"]
        found.add(match[1])
    assert len(found) == 2


@pytest.mark.parametrize("query", ["{", "{ nothing }", "query ($id: ID!) { runtime(id: $id) { id } }"])
def test_what_is_no_operation_is_a_422_with_code_10(compass: MockCompass, paired: Client, query: str) -> None:
    """Syntax, schema, and variables that are missing."""
    answer = paired.post(compass.director_url, query)
    assert answer.status_code == 422
    for error in answer.json()["errors"]:
        assert error["extensions"]["error_code"] == 10
        assert re.fullmatch(
            rf"Internal Server Error \[errorID={UUID}, reason: input: .*\]", error["message"], re.DOTALL
        )


# --- TLS ---


def foreign(paired: Client, issuer: x509.Name) -> Path:
    """Key, certificate and chain from an authority that Compass does not know, under the name of an issuer."""
    assert paired.cert_file is not None
    own = x509.load_pem_x509_certificates(paired.cert_file.read_bytes())[0]
    authority_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = datetime.now(UTC)

    def builder(subject: x509.Name, key: rsa.RSAPublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(2)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    authority = (
        builder(issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = builder(own.subject, paired.key.public_key()).sign(authority_key, hashes.SHA256())
    key = paired.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = paired.directory / f"foreign-{uuid.uuid4()}.pem"
    path.write_bytes(key + b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (leaf, authority)))
    return path


def certificate_of(case: str, compass: MockCompass, unpaired: Client) -> Path:
    if case == "expired":
        settings = compass.settings
        before = settings.certificate_backdate, settings.certificate_validity
        settings.certificate_backdate, settings.certificate_validity = 100, -50
        expired = unpaired.pair()
        settings.certificate_backdate, settings.certificate_validity = before
        assert expired.cert_file is not None
        return expired.cert_file
    name = x509.load_pem_x509_certificate(compass.client_ca_pem.encode()).subject
    if case == "of another authority":
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Another CA")])
    return foreign(unpaired.pair(), name)


@pytest.mark.parametrize(
    ("case", "alert"),
    [
        ("expired", "CERTIFICATE_EXPIRED"),
        ("of another authority", "UNKNOWN_CA"),
        ("of another authority of the same name", "DECRYPT_ERROR"),
    ],
)
def test_a_certificate_is_refused_by_an_alert_after_the_handshake(
    compass: MockCompass, unpaired: Client, case: str, alert: str
) -> None:
    """TLS 1.3: the client is connected and sends; even when that fails, the alert can be read, each time."""
    context = ssl.create_default_context(cafile=str(unpaired.ca_file))
    context.load_cert_chain(certificate_of(case, compass, unpaired))
    port = urlsplit(compass.director_url).port
    head = b"POST /director/graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    for _ in range(25):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            assert connection.version() == "TLSv1.3"
            try:
                connection.sendall(head)
                connection.sendall(b" " * 1_000_000)
            except (ssl.SSLEOFError, ConnectionError):
                pass  # the server has closed already
            with pytest.raises(ssl.SSLError) as refused:
                connection.recv(1)
            assert alert in str(refused.value.reason)
