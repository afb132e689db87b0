"""TLS contexts for Compass.

* The system's roots verify the server (OpenSSL's default paths, SSL_CERT_FILE and SSL_CERT_DIR included); the file of
  a private CA is added to them. No other roots are used.
* TLS 1.2 or newer.
* The client key is never on a disk.
"""

import ssl
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from controller.compass.certificates import Credentials, chain_to_pem
from controller.compass.errors import InvalidCredentials, InvalidRequest
from informers.transport.tls import TLSMaterial, load_certificate
from informers.transport.tls import client_context as context_of


def client_context(
    credentials: Credentials | None = None, *, ca_file: Path | None = None, skip_verify: bool = False
) -> ssl.SSLContext:
    """A context for calls to Compass, with the client certificate if there are credentials.

    Raises InvalidRequest if `ca_file` cannot be read, and InvalidCredentials if OpenSSL rejects key and certificate.
    """
    try:
        trusted = TLSMaterial(ca=None if ca_file is None else ca_file.read_bytes(), verify=not skip_verify)
        context = context_of(trusted, with_system=True)
    except OSError as error:
        raise InvalidRequest(f"the CA file {ca_file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InvalidRequest(f"the CA file {ca_file} cannot be read: {error}") from error
    if credentials is not None:
        key = credentials.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            load_certificate(context, chain_to_pem(credentials.chain) + key)
        except ValueError as error:
            raise InvalidCredentials(f"OpenSSL does not take key and certificate: {error}") from error
    return context
