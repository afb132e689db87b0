"""Keys, signing requests, certificates and the subject that the Connector announces."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from controller.compass import certificates
from controller.compass.errors import InvalidAnswer, InvalidCredentials, InvalidRequest
from controller.compass.tls import client_context
from tests.unit.compass.https_server import Authority, pem

SUBJECT = "O=Org,OU=OrgUnit,L=locality,ST=province,C=DE,CN=5c1f0d2e-3b7a-4e0e-9d55-2f1f6f1f9a10"

PRINTABLE, UTF8 = 0x13, 0x0C


def subject_der(csr_pem: bytes) -> list[tuple[str, int, bytes]]:
    """(dotted OID, string tag, value) of each attribute, read from the DER itself."""
    name = x509.load_pem_x509_csr(csr_pem).subject.public_bytes()
    attributes, position = [], 2 if name[1] < 0x80 else 3
    while position < len(name):
        # SET { SEQUENCE { OID (3 bytes long for all six), string } }
        sequence = position + 2
        oid = name[sequence + 4 : sequence + 7]
        tag, length = name[sequence + 7], name[sequence + 8]
        value = name[sequence + 9 : sequence + 9 + length]
        attributes.append((f"2.5.4.{oid[2]}", tag, value))
        position += 2 + name[position + 1]
    return attributes


def test_a_request_is_what_the_connector_compares(client_key: rsa.RSAPrivateKey) -> None:
    """Order C, ST, L, O, OU, CN as printable strings; RSA with SHA-256; nothing but the subject."""
    encoded = certificates.build_csr(SUBJECT, client_key)
    assert encoded.startswith(b"-----BEGIN CERTIFICATE REQUEST-----\n")
    assert subject_der(encoded) == [
        ("2.5.4.6", PRINTABLE, b"DE"),
        ("2.5.4.8", PRINTABLE, b"province"),
        ("2.5.4.7", PRINTABLE, b"locality"),
        ("2.5.4.10", PRINTABLE, b"Org"),
        ("2.5.4.11", PRINTABLE, b"OrgUnit"),
        ("2.5.4.3", PRINTABLE, b"5c1f0d2e-3b7a-4e0e-9d55-2f1f6f1f9a10"),
    ]
    csr = x509.load_pem_x509_csr(encoded)
    assert isinstance(csr.signature_hash_algorithm, hashes.SHA256)
    assert list(csr.extensions) == []
    assert len(csr.attributes) == 0
    client_key.public_key().verify(csr.signature, csr.tbs_certrequest_bytes, padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(
    ("announced", "bits"),
    [
        *(("rsa2048", 2048), ("rsa4096", 4096), ("RSA-3072", 3072), ("rsa1024", 2048), ("rsa16384", 4096)),
        *(("ed25519", 4096), ("", 4096), ("rsa", 4096), ("rsa2048x", 4096)),
    ],
)
def test_the_key_has_the_size_that_the_connector_announces(announced: str, bits: int) -> None:
    """Never less than 2048 bits, and 4096 for what is not understood."""
    assert certificates.key_bits(announced) == bits


def test_missing_attributes_are_empty_but_for_the_common_name(client_key: rsa.RSAPrivateKey) -> None:
    """As the Go agent does."""
    attributes = subject_der(certificates.build_csr("C=DE", client_key))
    assert [oid for oid, _, _ in attributes] == ["2.5.4.6", "2.5.4.8", "2.5.4.7", "2.5.4.10", "2.5.4.11"]
    assert [value for _, _, value in attributes] == [b"DE", b"", b"", b"", b""]


@pytest.mark.parametrize("subject", ["C=Germany,CN=x", "O=o,CN=x", f"C=DE,CN={'x' * 65}"])
def test_a_subject_that_no_request_can_hold_is_an_invalid_answer(client_key: rsa.RSAPrivateKey, subject: str) -> None:
    """X.520 limits: a country has two letters, a common name up to 64."""
    with pytest.raises(InvalidAnswer) as caught:
        certificates.build_csr(subject, client_key)
    assert caught.value.path == "subject"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (SUBJECT, {"O": "Org", "OU": "OrgUnit", "L": "locality", "ST": "province", "C": "DE", "CN": SUBJECT[-36:]}),
        (" cn = a , O= b ", {"CN": "a", "O": "b"}),
        ("CN=a,CN=b", {"CN": "b"}),
        ("CN=a=b", {"CN": "a=b"}),
        ("CN=", {"CN": ""}),
        (r"O=Rhythm+Blues\,CN=c", {"O": "Rhythm+Blues\\", "CN": "c"}),
        ("SERIALNUMBER=1,CN=c,2.5.4.15=x", {"CN": "c"}),
    ],
)
def test_a_subject_is_read_as_the_connector_writes_it(text: str, values: dict[str, str]) -> None:
    """Nothing is escaped; spaces and the case of names do not matter; the last of equal attributes wins."""
    assert certificates.parse_subject(text) == values


def test_a_stored_key_is_pkcs1(client_key: rsa.RSAPrivateKey) -> None:
    """The form that the Go agent reads at its restart."""
    assert certificates.key_to_pem(client_key).startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    assert certificates.load_key(certificates.key_to_pem(client_key)).private_numbers() == client_key.private_numbers()  # type: ignore[union-attr]


def test_a_stored_pair_is_checked(client_key: rsa.RSAPrivateKey, authority: Authority) -> None:
    """Each part that can be wrong is named; the pair is not printed."""
    key = certificates.key_to_pem(client_key)
    leaf = authority.issue("client", client_key.public_key(), days=90)
    other = authority.issue("other", ec.generate_private_key(ec.SECP256R1()).public_key())
    chain = pem(leaf) + pem(authority.certificate)
    pair = certificates.load_credentials(key, chain)
    assert pair.leaf.fingerprint == leaf.fingerprint(hashes.SHA256()).hex()
    assert pair.leaf.not_after - pair.leaf.not_before == datetime.timedelta(days=90, minutes=5)
    assert certificates.chain_to_pem(pair.chain) == chain
    assert "PRIVATE" not in repr(pair)
    for bad_key, bad_chain, part in [
        (b"", chain, "the private key is not"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", chain, "the private key is not"),
        (chain, chain, "the private key is not"),
        (key, b"", "the certificate chain: "),
        (key, key, "the certificate chain: "),
        (key, chain[:200], "the certificate chain: "),
        (key, pem(leaf) + chain[:200], "the certificate chain: "),
        (key, pem(other), "does not belong"),
        (key, pem(authority.certificate) + pem(leaf), "does not belong"),
    ]:
        with pytest.raises(InvalidCredentials) as caught:
            certificates.load_credentials(bad_key, bad_chain)
        assert part in str(caught.value)


def test_openssl_refuses_a_pair_that_does_not_match(client_key: rsa.RSAPrivateKey, authority: Authority) -> None:
    """A pair that was not checked before is refused as such."""
    other = authority.issue("other", ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(InvalidCredentials) as caught:
        client_context(certificates.Credentials(client_key, (other,)))
    assert "does not belong" in str(caught.value)


def test_an_unusable_ca_file_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Absent or not PEM."""
    for path in (tmp_path / "absent.pem", tmp_path / "empty.pem"):
        (tmp_path / "empty.pem").write_text("")
        with pytest.raises(InvalidRequest, match=path.name):
            client_context(ca_file=path)
