"""Keys, certificate signing requests and certificates in the formats of the Connector."""

import hashlib
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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

#: A plus sign only separates attributes when one follows: the Connector does not escape it inside values.
_ATTRIBUTE_FOLLOWS = re.compile(r"\s*(C|ST|L|O|OU|CN)\s*=", re.IGNORECASE)

#: An escape of RFC 4514: a run of hex pairs (UTF-8 bytes), or any single character.
_ESCAPE = re.compile(r"((?:\\[0-9A-Fa-f]{2})+)|\\(.)", re.DOTALL)


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


class _OwnKeys:
    """The digests of the keys that this process has written. Thread-safe."""

    _MOST = 8  # a renewal has two at a time: the one in use, and the next one

    def __init__(self) -> None:
        self._digests: deque[bytes] = deque(maxlen=self._MOST)

    def add(self, pem: bytes) -> None:
        self._digests.append(hashlib.sha256(pem).digest())

    def holds(self, pem: bytes) -> bool:
        return hashlib.sha256(pem).digest() in self._digests.copy()


_own_keys = _OwnKeys()


def key_bits(key_algorithm: str) -> int:
    """The size of the RSA key that the Connector announces ("rsa2048"), within the bounds of this module."""
    announced = _KEY_ALGORITHM.fullmatch(key_algorithm)
    return min(max(int(announced[1]), MIN_KEY_BITS), MAX_KEY_BITS) if announced else MAX_KEY_BITS


def new_key(bits: int) -> rsa.RSAPrivateKey:
    """A new RSA key. 2048 bits take about 0.1 s, 4096 bits up to two seconds."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def key_to_pem(key: rsa.RSAPrivateKey) -> bytes:
    """PEM without encryption, PKCS#1 ("RSA PRIVATE KEY"): the only form that the Go agent reads back."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    _own_keys.add(pem)
    return pem


def load_key(pem: bytes) -> PrivateKeyTypes:
    """Read a private key in any unencrypted PEM form. Raises InvalidCredentials.

    OpenSSL needs a quarter of a second to validate a key. A key that this process has written is not validated again.
    """
    try:
        return serialization.load_pem_private_key(
            pem, password=None, unsafe_skip_rsa_key_validation=_own_keys.holds(pem)
        )
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
    """Read a distinguished name leniently: RFC 4514 with escapes and quotes, spaces around names and values, names in
    any case. The last of several equal attributes wins; others than C, ST, L, O, OU and CN are
    passed over. Raises InvalidAnswer when a part has no `=` or nothing usable is left.
    """
    values: dict[str, str] = {}
    known = {name for name, _ in _ATTRIBUTES}
    for part in _split(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise InvalidAnswer("a part of the distinguished name has no '='", path="subject")
        if name.strip().upper() in known:
            values[name.strip().upper()] = _unescape(value)
    if not values:
        raise InvalidAnswer("the distinguished name has no attribute that a signing request needs", path="subject")
    return values


def _split(text: str) -> list[str]:
    """The parts between separators that are neither escaped nor quoted."""
    parts, current, quoted, escaped = [], "", False, False
    for position, character in enumerate(text):
        separates = character == "," or (character == "+" and _ATTRIBUTE_FOLLOWS.match(text, position + 1))
        if separates and not quoted and not escaped:
            parts.append(current)
            current = ""
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        current += character
    return [*parts, current]


def _unescape(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = value[1:-1]

    def plain(match: re.Match[str]) -> str:
        if match[1]:
            return bytes.fromhex(match[1].replace("\\", "")).decode("utf-8", errors="replace")
        return match[2]

    return _ESCAPE.sub(plain, value)


def _string_type(value: str) -> _ASN1Type:
    return _ASN1Type.PrintableString if _PRINTABLE.fullmatch(value) else _ASN1Type.UTF8String
