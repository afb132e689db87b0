"""What a TLS connection needs besides the address, and the context of the `ssl` module for it."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# OpenSSL's words for a pair that does not belong together; the last one is for keys of two algorithms.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True, slots=True)
class TLSMaterial:
    """The certificates of one kind of connection.

    ca: PEM of the authorities to trust, None for the system's. certificate: PEM of the client's certificate, its chain
    and its key, None without. server_name: the name in the server's certificate and the SNI, None for the host of the
    URL. verify: whether the server's certificate is checked.
    """

    ca: bytes | None = None
    certificate: bytes | None = field(default=None, repr=False)  # with the private key
    server_name: str | None = None
    verify: bool = True


def client_context(material: TLSMaterial, *, with_system: bool = False) -> ssl.SSLContext:
    """A new context for connections with this material. Raises ValueError without its content if it is unusable.

    with_system: the system's authorities are trusted beside `ca`.

    Without VERIFY_X509_STRICT, which Python 3.13 sets: it refuses certificates without key identifiers, which some
    clusters have, and which client-go and older Pythons accept.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not material.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if material.verify and (material.ca is None or with_system):
        context.load_default_certs()
    if material.verify and material.ca is not None:
        try:
            context.load_verify_locations(cadata=material.ca.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise ValueError("the certificate authority is no certificate in PEM format") from None
    if material.certificate is not None:
        load_certificate(context, material.certificate)
    return context


def load_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    """Present this certificate, whose PEM has its chain and its key. Raises ValueError."""
    with _path_of(pem) as path:
        try:
            # Without a password, OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(path, password="")
        except (ssl.SSLError, ValueError) as error:
            if isinstance(error, ssl.SSLError) and error.reason in _MISMATCHES:
                raise ValueError("the private key does not belong to the client certificate") from None
            raise ValueError("client certificate and key are not readable, unencrypted PEM") from None


@contextmanager
def _path_of(content: bytes) -> Iterator[str]:
    """A path from which OpenSSL can read `content`, which never reaches a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:  # not Linux, so not in a Pod: a file that only this user can read, for the moment of reading
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
