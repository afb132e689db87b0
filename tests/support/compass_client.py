"""A client that speaks to the mock Compass as a Runtime does: requests, real TLS, real certificates."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from e2e.mock_compass import MockCompass

TIMEOUT = 10.0  # seconds; only a broken mock ever waits that long

CONFIGURATION = """query { configuration {
  token { token }
  certificateSigningRequestInfo { subject keyAlgorithm }
  managementPlaneInfo { directorURL certificateSecuredConnectorURL }
} }"""
SIGN = """mutation ($csr: String!) { signCertificateSigningRequest(csr: $csr) {
  certificateChain caCertificate clientCertificate
} }"""
REVOKE = "mutation { revokeCertificate }"

_OIDS = {
    "CN": NameOID.COMMON_NAME,
    "C": NameOID.COUNTRY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
}

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def csr(subject: str, key: Key, **changes: str) -> str:
    """A request as the Connector wants it: base64 of PEM, the subject as announced but for the changes."""
    parts = dict(part.split("=") for part in subject.split(",")) | changes
    name = x509.Name([x509.NameAttribute(_OIDS[attribute], value) for attribute, value in parts.items()])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


@dataclass
class Client:
    """A Runtime before and after pairing. `post` gives the raw HTTP answer, `ask` the decoded GraphQL answer."""

    compass: MockCompass
    directory: Path
    ca_file: Path
    key: rsa.RSAPrivateKey
    cert_file: Path | None = None

    def post(
        self,
        url: str,
        query: str,
        variables: dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        return requests.post(
            url,
            json={"query": query, "variables": variables},
            headers=headers,
            verify=str(self.ca_file),
            cert=str(self.cert_file) if self.cert_file else None,
            timeout=TIMEOUT,
        )

    def ask(
        self, query: str, variables: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The Director's answer."""
        answer = self.post(self.compass.director_url, query, variables, headers=headers)
        assert answer.status_code == 200, answer.text
        decoded: dict[str, Any] = answer.json()
        return decoded

    def configuration(self, token: str | None = None) -> dict[str, Any]:
        """With a token at the token endpoint, else with the certificate."""
        url = self.compass.connector_url if token else self.compass.secured_connector_url
        answer = self.post(url, CONFIGURATION, headers={"Connector-Token": token} if token else None)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["data"]["configuration"]
        return found

    def sign(self, request: str, token: str | None = None) -> requests.Response:
        url = self.compass.connector_url if token else self.compass.secured_connector_url
        return self.post(url, SIGN, {"csr": request}, headers={"Connector-Token": token} if token else None)

    def pair(self) -> "Client":
        """A new Client with a certificate; this one stays as it is."""
        first = self.configuration(self.compass.issue_token())
        subject = first["certificateSigningRequestInfo"]["subject"]
        answer = self.sign(csr(subject, self.key), first["token"]["token"]).json()
        pem = base64.b64decode(answer["data"]["signCertificateSigningRequest"]["certificateChain"])
        leaf = x509.load_pem_x509_certificates(pem)[0]
        path = self.directory / f"{leaf.fingerprint(hashes.SHA256()).hex()}.pem"
        key_pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(key_pem + pem)
        return Client(self.compass, self.directory, self.ca_file, self.key, path)
