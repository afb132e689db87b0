"""Keys and certificates of the mock: what its TLS servers show, and what the Connector signs.

Two authorities, as in the real thing: the one that browsers would trust signs the servers, the Connector's own signs
clients. A client that mixes them up fails here too.
"""

import datetime
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.mock_compass.state import IssuedCertificate
from e2e.pki import Authority

_CLIENT_CA_BITS = 2048
CLIENT_SERIAL = 2  # the real Connector gives every certificate this serial number

_CLIENT_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=True,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)

SUBJECT = {
    NameOID.ORGANIZATION_NAME: "Org",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OrgUnit",
    NameOID.LOCALITY_NAME: "locality",
    NameOID.STATE_OR_PROVINCE_NAME: "province",
    NameOID.COUNTRY_NAME: "DE",
}
"""What every client certificate says besides its CN."""

_MISMATCH = {
    NameOID.COMMON_NAME: "common name",
    NameOID.COUNTRY_NAME: "country",
    NameOID.ORGANIZATION_NAME: "organization",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "organizational unit",
    NameOID.LOCALITY_NAME: "location",
    NameOID.STATE_OR_PROVINCE_NAME: "province",
}


class SigningError(Exception):
    """The request cannot be signed; the text is the Connector's answer."""


def subject_of(client_id: str) -> str:
    """The subject that the Connector announces, in its own order."""
    return f"O=Org,OU=OrgUnit,L=locality,ST=province,C=DE,CN={client_id}"


class _AlertingTLS(ssl.SSLObject):
    """Refuses a client as Envoy does: an alert that says why, then the connection is closed.

    In TLS 1.3 the client has finished its handshake by then and is sending its request; that may fail before it reads
    the alert. asyncio drops the alert of a failed handshake together with the connection, so it hears first that more
    input is needed, whereupon it sends what is pending, and of the failure when that input comes.
    """

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._failure = error
            raise ssl.SSLWantReadError from error


class Pki:
    """Both authorities and the server certificate; kept in `directory` when one is given."""

    def __init__(self, host_name: str = "localhost", *, directory: Path | None = None) -> None:
        kept = (directory / "client-ca.pem", directory / "server-ca.pem") if directory else (None, None)
        self.client_authority = Authority("Mock Compass Connector CA", rsa_bits=_CLIENT_CA_BITS, file=kept[0])
        self.server_authority = Authority("Mock Compass Server CA", file=kept[1])
        self._server = self.server_authority.serving(
            "mock-compass", dns_names=["localhost", host_name], addresses=["127.0.0.1", "::1"]
        )

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        """The TLS side of a listener. With `mutual` a client without our certificate is refused by TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslobject_class = _AlertingTLS
        with tempfile.NamedTemporaryFile() as file:  # ssl reads keys from files only
            file.write(self._server.key_pem + self._server.certificate_pem)
            file.flush()
            context.load_cert_chain(file.name)
        if mutual:
            context.load_verify_locations(cadata=self.client_authority.certificate_pem.decode())
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def sign(self, csr_pem: bytes, *, client_id: str, now: float, validity: float) -> tuple[str, IssuedCertificate]:
        """Signs a PEM request for the client. Seconds throughout. Raises SigningError with the Connector's text.

        Gives the PEM of the certificate, and what is to be recorded of it.

        The certificate does not say which key of its issuer has signed it: one from another authority of the same name
        is refused for its signature, not as one of an unknown authority.
        """
        csr = _checked(csr_pem, client_id)
        not_before = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
        not_after = datetime.datetime.fromtimestamp(int(now + validity), datetime.UTC)
        authority = self.client_authority
        certificate = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(authority.name)
            .public_key(csr.public_key())
            .serial_number(CLIENT_SERIAL)
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(_CLIENT_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(authority.key, hashes.SHA256())
        )
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        issued = IssuedCertificate(fingerprint, client_id, not_before.timestamp(), not_after.timestamp())
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), issued


def _checked(csr_pem: bytes, client_id: str) -> x509.CertificateSigningRequest:
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in csr_pem:
        raise SigningError("Error while decoding pem block.")
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
    except ValueError as error:
        raise SigningError(f"Error while parsing Certificate Signing Request: {error}") from error
    prefix = "Error while signing Certificate Signing Request: "
    expected = {NameOID.COMMON_NAME: client_id, **SUBJECT}
    for oid, words in _MISMATCH.items():
        if [attribute.value for attribute in csr.subject.get_attributes_for_oid(oid)] != [expected[oid]]:
            raise SigningError(f"{prefix}CSR: Invalid {words} provided.")
    if not csr.is_signature_valid:
        raise SigningError(f"{prefix}CSR: Invalid signature provided.")
    if not isinstance(csr.public_key(), rsa.RSAPublicKey):
        raise SigningError(f"{prefix}x509: requested SignatureAlgorithm does not match private key type")
    return csr
