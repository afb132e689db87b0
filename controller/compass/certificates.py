"""Keys, certificate signing requests and certificates in the formats of the Connector."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from controller.compass.errors import InvalidAnswer, InvalidCredentials
from controller.compass.types import CertificateInfo

#: Bits of a client key. The Connector announces rsa2048; the larger size is for announcements that are not understood.
MIN_KEY_BITS, MAX_KEY_BITS = 2048, 4096

_KEY_ALGORITHM = re.compile(r"rsa-?(\d{3,5})", re.IGNORECASE)

#: In the order of the request's subject. The Connector compares all six with what it announced.
_ATTRIBUTES = (
    ("C", NameOID.COUNTRY_NAME),
    ("ST", NameOID.STATE_OR_PROVINCE_NAME),
    ("L", NameOID.LOCALITY_NAME),
    ("O", NameOID.ORGANIZATION_NAME),
    ("OU", NameOID.ORGANIZATIONAL_UNIT_NAME),
    ("CN", NameOID.COMMON_NAME),
)

#: The characters of an ASN.1 PrintableString (X.680, 41.4).
_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")


@dataclass(frozen=True)
class Credentials:
    """A client key and its certificate chain (leaf first). They are checked to belong together."""

    key: PrivateKeyTypes
    chain: tuple[x509.Certificate, ...]

    @cached_property
    def leaf(self) -> CertificateInfo:
        return describe(self.chain[0])

    def __repr__(self) -> str:
        return f"Credentials({self.leaf!r})"


def key_bits(key_algorithm: str) -> int:
    """The size of the RSA key that the Connector announces ("rsa2048"), within the bounds of this module."""
    announced = _KEY_ALGORITHM.fullmatch(key_algorithm)
    return min(max(int(announced[1]), MIN_KEY_BITS), MAX_KEY_BITS) if announced else MAX_KEY_BITS


def new_key(bits: int) -> rsa.RSAPrivateKey:
    """A new RSA key. 2048 bits take about 0.1 s, 4096 bits up to two seconds."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def key_to_pem(key: rsa.RSAPrivateKey) -> bytes:
    """PEM without encryption, PKCS#1 ("RSA PRIVATE KEY"): the only form that the Go agent reads back."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


# OpenSSL needs up to a third of a second to validate a key, and each reconcile reads the stored one.
@lru_cache(maxsize=4)
def load_key(pem: bytes) -> PrivateKeyTypes:
    """Read a private key in any unencrypted PEM form. Raises InvalidCredentials."""
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: the parser's text may quote the material.
        raise InvalidCredentials("the private key is not a readable, unencrypted PEM key") from None


def load_credentials(key_pem: bytes, chain_pem: bytes) -> Credentials:
    """Read a stored pair. Raises InvalidCredentials if it is unreadable, or if they do not belong together."""
    key = load_key(key_pem)
    try:
        chain = parse_chain(chain_pem)
    except InvalidAnswer as error:
        raise InvalidCredentials(f"the certificate chain: {error.problem}") from error
    if not belongs_to(chain[0], key.public_key()):
        raise InvalidCredentials("the private key does not belong to the certificate")
    return Credentials(key, chain)


def parse_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM text, in order. Raises InvalidAnswer when there is none or one is unreadable."""
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidAnswer("no readable PEM certificates") from None
    if pem.count(b"-----BEGIN ") != len(chain):  # the parser passes over a block that is cut off
        raise InvalidAnswer("a PEM block that is no certificate or is cut off")
    return chain


def chain_to_pem(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def describe(certificate: x509.Certificate) -> CertificateInfo:
    """The properties of a certificate that the agent uses."""
    return CertificateInfo(
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def belongs_to(certificate: x509.Certificate, public_key: PublicKeyTypes) -> bool:
    """Whether the certificate was issued for this public key."""
    try:
        return certificate.public_key() == public_key
    except (ValueError, UnsupportedAlgorithm):
        return False


def build_csr(subject: str, key: rsa.RSAPrivateKey) -> bytes:
    """A certificate signing request in PEM: the announced subject and nothing else, SHA-256 with RSA.

    `subject`: the text from the Connector. Missing attributes are empty in the request; a missing common name is left
    out. Raises InvalidAnswer if the subject cannot be used in a request.
    """
    values = parse_subject(subject)
    try:
        name = x509.Name(
            [
                x509.NameAttribute(oid, values.get(attribute, ""), _string_type(values.get(attribute, "")))
                for attribute, oid in _ATTRIBUTES
                if values.get(attribute) or attribute != "CN"
            ]
        )
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    except ValueError as error:
        raise InvalidAnswer(f"cannot be put into a signing request: {error}", path="subject") from error
    return request.public_bytes(serialization.Encoding.PEM)


def csr_public_key(csr_pem: bytes) -> PublicKeyTypes:
    """The public key in one of our certificate signing requests."""
    return x509.load_pem_x509_csr(csr_pem).public_key()


def parse_subject(text: str) -> dict[str, str]:
    """The attributes of a subject as the Connector writes it: "O=Org,OU=OrgUnit,L=locality,ST=province,C=DE,CN=name".

    It escapes nothing, so a value has no comma. Spaces around names and values and the case of names do not matter, the
    last of several equal attributes wins, and others than C, ST, L, O, OU and CN are skipped. Raises InvalidAnswer if a
    part has no "=" or nothing usable is left.
    """
    values: dict[str, str] = {}
    known = {name for name, _ in _ATTRIBUTES}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise InvalidAnswer("a part of the distinguished name has no '='", path="subject")
        if name.strip().upper() in known:
            values[name.strip().upper()] = value.strip()
    if not values:
        raise InvalidAnswer("the distinguished name has no attribute that a signing request needs", path="subject")
    return values


def _string_type(value: str) -> _ASN1Type:
    return _ASN1Type.PrintableString if _PRINTABLE.fullmatch(value) else _ASN1Type.UTF8String
