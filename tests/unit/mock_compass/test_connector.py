"""How the Connector answers, request by request over real TLS."""

import base64

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ExtendedKeyUsage
from cryptography.x509.oid import ExtendedKeyUsageOID

from e2e.mock_compass import MockCompass
from tests.support.compass_client import CONFIGURATION, REVOKE, SIGN, Client, Clock, certificates, csr

PREFIX = "Error while signing Certificate Signing Request: "


def test_configuration_announces_subject_and_urls(client: Client, compass: MockCompass) -> None:
    """`configuration` gives a fresh token, the subject in the Connector's order, and both URLs."""
    token = compass.issue_token()
    answer = client.configuration(token)
    subject = answer["certificateSigningRequestInfo"]["subject"]
    assert subject.startswith("O=Org,OU=OrgUnit,L=locality,ST=province,C=DE,CN=")
    assert answer["certificateSigningRequestInfo"]["keyAlgorithm"] == "rsa2048"
    assert answer["token"]["token"] not in ("", token)
    assert answer["managementPlaneInfo"] == {
        "directorURL": compass.director_url,
        "certificateSecuredConnectorURL": compass.secured_connector_url,
    }


def test_signing_gives_chain_leaf_and_ca(client: Client, compass: MockCompass, key: rsa.RSAPrivateKey) -> None:
    """The chain holds leaf and CA, the other fields one certificate each; the leaf carries the key of the CSR."""
    first = client.configuration(compass.issue_token())
    subject = first["certificateSigningRequestInfo"]["subject"]
    answer = client.sign(csr(subject, key), first["token"]["token"]).json()["data"]["signCertificateSigningRequest"]
    leaf, authority = certificates(answer["certificateChain"])
    assert [leaf] == certificates(answer["clientCertificate"])
    assert [authority] == certificates(answer["caCertificate"])
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(authority)
    usage = leaf.extensions.get_extension_for_class(ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_all_certificates_have_serial_number_2(client: Client, compass: MockCompass) -> None:
    """Only the fingerprint tells certificates apart."""
    first, second = client.pair(), client.pair()
    assert first.cert_file != second.cert_file
    for certificate in (first, second):
        assert certificate.cert_file is not None
    issued = compass.state.certificates(compass.runtime_id)
    assert len({certificate.fingerprint for certificate in issued}) == 2
    for paired in (first, second):
        assert paired.cert_file is not None
        pem = base64.b64encode(paired.cert_file.read_bytes()).decode()
        assert certificates(pem)[0].serial_number == 2


def test_each_token_means_another_common_name(client: Client, compass: MockCompass) -> None:
    """The CN is the id of a system auth, made with each token of the Director, and never the Runtime's id."""
    names = {client.pair().common_name, client.pair().common_name, compass.runtime_id}
    assert len(names) == 3


def test_renewal_needs_no_token_and_keeps_the_common_name(paired: Client, clock: Clock) -> None:
    """Over mTLS the old certificate proves who asks, and works on beside the new one."""
    clock.advance(1)  # the same key in the same second would give the same certificate
    subject = paired.configuration()["certificateSigningRequestInfo"]["subject"]
    answer = paired.sign(csr(subject, paired.key)).json()["data"]["signCertificateSigningRequest"]
    renewed = paired.with_certificate(answer["certificateChain"])
    assert renewed.common_name == paired.common_name
    assert renewed.cert_file != paired.cert_file
    assert renewed.configuration()
    assert paired.configuration()


@pytest.mark.parametrize("case", ["missing", "unknown", "spent", "expired"])
@pytest.mark.parametrize("query", [CONFIGURATION, SIGN, "no graphql"], ids=["configuration", "sign", "nonsense"])
def test_a_token_that_does_not_work_gets_an_empty_400(
    client: Client, compass: MockCompass, clock: Clock, case: str, query: str
) -> None:
    """Whatever is asked for: no GraphQL error, nothing in the body."""
    token = "unknown"
    if case in ("spent", "expired"):
        token = compass.issue_token(lifetime=60)
    if case == "spent":
        client.configuration(token)
    if case == "expired":
        clock.advance(60)
    headers = {} if case == "missing" else {"Connector-Token": token}
    answer = client.post(compass.connector_url, query, {"csr": ""}, headers=headers)
    assert (answer.status_code, answer.content) == (400, b"")


def test_a_token_works_until_it_expires(client: Client, compass: MockCompass, clock: Clock) -> None:
    """Expiry is by the injected clock, to the second."""
    token = compass.issue_token(lifetime=60)
    clock.advance(59)
    assert client.configuration(token)


def test_a_token_is_spent_even_when_signing_fails(client: Client, compass: MockCompass) -> None:
    """The first use counts, not its success."""
    token = compass.issue_token()
    assert client.sign("%%%", token).json()["errors"]
    answer = client.sign("%%%", token)
    assert (answer.status_code, answer.content) == (400, b"")


def test_a_token_of_the_director_may_sign_at_once(client: Client, compass: MockCompass) -> None:
    """The token is accepted on the sign call; there it fails only for the unknown CN."""
    answer = client.sign(
        csr("O=Org,OU=OrgUnit,L=locality,ST=province,C=DE,CN=guess", client.key), compass.issue_token()
    )
    assert answer.json()["errors"][0]["message"] == f"{PREFIX}CSR: Invalid common name provided."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CN": "someone"}, f"{PREFIX}CSR: Invalid common name provided."),
        ({"O": "Other"}, f"{PREFIX}CSR: Invalid organization provided."),
        ({"OU": "Other"}, f"{PREFIX}CSR: Invalid organizational unit provided."),
        ({"L": "Other"}, f"{PREFIX}CSR: Invalid location provided."),
        ({"ST": "Other"}, f"{PREFIX}CSR: Invalid province provided."),
        ({"C": "FR"}, f"{PREFIX}CSR: Invalid country provided."),
    ],
)
def test_a_wrong_subject_is_refused_by_name(paired: Client, changes: dict[str, str], message: str) -> None:
    """All six attributes must be those announced; the error is HTTP 200 without extensions."""
    subject = paired.configuration()["certificateSigningRequestInfo"]["subject"]
    answer = paired.sign(csr(subject, paired.key, **changes))
    assert answer.status_code == 200
    assert answer.json() == {
        "errors": [{"message": message, "path": ["signCertificateSigningRequest"]}],
        "data": None,
    }


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ("%%%", "Error while decoding Certificate Signing Request: Error while parsing base64 content."),
        (base64.b64encode(b"no pem").decode(), "Error while decoding pem block."),
    ],
)
def test_what_is_no_csr_is_refused(paired: Client, request_text: str, message: str) -> None:
    """Base64 and PEM are checked in turn."""
    assert paired.sign(request_text).json()["errors"][0]["message"].startswith(message)


def test_a_key_that_is_not_rsa_cannot_be_signed(paired: Client) -> None:
    """The authority is RSA and signs nothing else."""
    subject = paired.configuration()["certificateSigningRequestInfo"]["subject"]
    answer = paired.sign(csr(subject, ec.generate_private_key(ec.SECP256R1())))
    assert answer.json()["errors"][0]["message"].startswith(PREFIX)


def test_validity_and_backdate_are_chosen_by_the_second(client: Client, compass: MockCompass, clock: Clock) -> None:
    """notBefore lies `certificate_backdate` in the past, notAfter `certificate_validity` in the future."""
    compass.settings.certificate_validity = 7
    compass.settings.certificate_backdate = 3
    client.pair()
    (issued,) = compass.state.certificates()
    assert (issued.not_before, issued.not_after) == (clock() - 3, clock() + 7)


def test_certificates_live_ninety_days_by_default(client: Client, compass: MockCompass, clock: Clock) -> None:
    """As the real Connector issues them."""
    client.pair()
    assert compass.state.certificates()[0].not_after == clock() + 90 * 24 * 3600


def test_an_expired_certificate_is_refused(paired: Client, compass: MockCompass, clock: Clock) -> None:
    """By the injected clock, at the Connector with an empty 400."""
    clock.advance(90 * 24 * 3600 + 1)
    answer = paired.post(compass.secured_connector_url, CONFIGURATION)
    assert (answer.status_code, answer.content) == (400, b"")


def test_revocation_is_per_certificate(paired: Client, client: Client, compass: MockCompass) -> None:
    """Revoking takes effect at once, for that certificate and no other of the same Runtime."""
    other = client.pair()
    assert paired.post(compass.secured_connector_url, REVOKE).json() == {"data": {"revokeCertificate": True}}
    answer = paired.post(compass.secured_connector_url, CONFIGURATION)
    assert (answer.status_code, answer.content) == (400, b"")
    assert other.configuration()


def test_without_a_client_certificate_tls_fails(client: Client, compass: MockCompass) -> None:
    """Both endpoints behind mTLS refuse before any HTTP, by an alert that says so."""
    for url in (compass.secured_connector_url, compass.director_url):
        with pytest.raises(requests.exceptions.SSLError, match=r"(?i)certificate.required"):
            client.post(url, CONFIGURATION)


def test_a_certificate_of_another_authority_fails_in_tls(paired: Client) -> None:
    """A second mock has authorities of its own."""
    with MockCompass() as other:
        paired.ca_file.write_text(other.ca_pem)
        with pytest.raises(requests.exceptions.SSLError, match=r"(?i)alert"):
            paired.post(other.director_url, "{ viewer { id } }")


def test_server_certificates_are_not_signed_by_the_client_authority(client: Client, compass: MockCompass) -> None:
    """Trusting what the Connector returned is not trusting its server."""
    client.ca_file.write_text(compass.client_ca_pem)
    with pytest.raises(requests.exceptions.SSLError):
        client.post(compass.connector_url, CONFIGURATION)


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ((None, None), None),
        (("https://d", None), {"directorURL": "https://d", "certificateSecuredConnectorURL": None}),
        ((None, "https://c"), {"directorURL": None, "certificateSecuredConnectorURL": "https://c"}),
    ],
)
def test_advertised_urls_may_be_null(
    paired: Client, compass: MockCompass, urls: tuple[str | None, str | None], expected: object
) -> None:
    """No URL at all means no managementPlaneInfo."""
    compass.settings.director_url, compass.settings.secured_connector_url = urls
    assert paired.configuration()["managementPlaneInfo"] == expected


def test_the_authorities_survive_in_the_state_directory(client: Client) -> None:
    """A process that is started again still trusts what it has signed."""
    directory = client.directory / "state"
    first, second = MockCompass(state_directory=directory), MockCompass(state_directory=directory)
    assert first.ca_pem == second.ca_pem
    assert first.client_ca_pem == second.client_ca_pem
    assert all(path.stat().st_mode & 0o077 == 0 for path in directory.glob("*.pem"))
