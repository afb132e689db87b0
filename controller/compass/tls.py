"""TLS contexts for Compass.

* The system's roots verify the server (OpenSSL's default paths, SSL_CERT_FILE and SSL_CERT_DIR included); the file of
  a private CA is added to them. No other roots are used.
* TLS 1.2 or newer.
* OpenSSL reads the client key from an anonymous file in memory. The key is never on a disk.
"""

import os
import ssl
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from controller.compass.certificates import Credentials, chain_to_pem
from controller.compass.errors import InvalidCredentials, InvalidRequest


def client_context(
    credentials: Credentials | None = None, *, ca_file: Path | None = None, skip_verify: bool = False
) -> ssl.SSLContext:
    """A context for calls to Compass, with the client certificate if there are credentials.

    Raises InvalidRequest if `ca_file` cannot be read, and InvalidCredentials if OpenSSL rejects key and certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 sets this flag by default. It refuses a private CA whose certificates have no key identifiers, as
    # `openssl x509 -req` makes them; Go and older Pythons accept those.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=str(ca_file))
        except OSError as error:  # ssl.SSLError is one
            raise InvalidRequest(f"the CA file {ca_file} cannot be read: {error.strerror or error}") from error
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if credentials is not None:
        _present(context, credentials)
    return context


def _present(context: ssl.SSLContext, credentials: Credentials) -> None:
    key = credentials.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.memfd_create("compass-client", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(chain_to_pem(credentials.chain) + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise InvalidCredentials(f"OpenSSL does not take key and certificate: {error.reason}", part="pair") from error
    finally:
        os.close(descriptor)
