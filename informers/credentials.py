"""The authentication of requests to the API server: tokens, client certificates, impersonation, and their rotation."""

import base64
import logging
import threading
from dataclasses import replace
from pathlib import Path

from kubernetes.client.configuration import Configuration

from informers.errors import ConfigurationError, NoCredentials
from informers.transport.tls import TLSMaterial, client_context
from workqueue.clock import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

# client-go transport/token_source.go: a token file is read every minute, minus ten seconds.
_TOKEN_PERIOD = 60.0
_TOKEN_LEEWAY = 10.0
# client-go transport/transport.go, cachingCertificateLoader: certificate files are read again after a second.
CERTIFICATE_PERIOD = 1.0

DEFAULT_NAMESPACE = "default"

Headers = tuple[tuple[str, str], ...]

Pem = bytes | Path | None
"""PEM in memory, or the file that holds it and is looked at again."""

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class Authorizer:
    """A source of the Authorization header. This one, the base of the others, has none."""

    def authorization(self, *, timeout: float, stop: threading.Event | None) -> str | None:  # noqa: ARG002
        """The header's value, or None. Raises ConfigurationError; see Credentials.authorization."""
        return None

    def certificate(self) -> bytes | None:
        """PEM of the client certificate that belongs to the last authorization(), with its key; None without."""
        return None

    def refused(self, *, sent_at: float) -> None:
        """The server answered with 401 to a request that was sent at this monotonic time."""

    def close(self) -> None:
        """End what runs for authorization()."""


class FixedAuthorization(Authorizer):
    """A header that does not change: a token, or user and password, of a kubeconfig."""

    def __init__(self, value: str) -> None:
        self._value = value

    def authorization(self, *, timeout: float, stop: threading.Event | None) -> str | None:  # noqa: ARG002
        return self._value


def basic_authorization(user: str, password: str) -> str:
    """The header of HTTP basic authentication."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class TokenFile(Authorizer):
    """A bearer token in a file that is rotated (client-go: cachingTokenSource over fileTokenSource).

    Thread-safe. The file is read again when the token is older than 50 s, or was refused. If the file cannot be read,
    the old token is used, unless the server has refused it, and then `otherwise`, if there is one.
    """

    def __init__(self, path: Path, clock: Clock, *, otherwise: str | None = None) -> None:
        self._path = path
        self._clock = clock
        self._otherwise = otherwise
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._token: str | None = None
        self._read_at = 0.0
        self._warned = False

    def authorization(self, *, timeout: float, stop: threading.Event | None) -> str | None:  # noqa: ARG002
        return f"Bearer {self.token()}"

    def token(self) -> str:
        """The token. Raises ConfigurationError if there is none."""
        with self._lock:
            now = self._clock.monotonic()
            if self._token is not None and now - self._read_at < _TOKEN_PERIOD - _TOKEN_LEEWAY:
                return self._token
            try:
                token = self._read()
            except (OSError, UnicodeError, ConfigurationError) as error:
                usable = self._token or self._otherwise
                if usable is None:
                    raise ConfigurationError(f"cannot read a token from {self._path}: {cause_of(error)}") from error
                if not self._warned:
                    log.warning("Cannot read the token file, keeping the old token", extra={"path": str(self._path)})
                self._warned = True
                return usable
            self._token, self._read_at, self._warned = token, now, False
            return token

    def _read(self) -> str:
        token = self._path.read_text(encoding="ascii").strip()
        if not token:
            raise ConfigurationError("the file is empty")
        if not token.isprintable():
            raise ConfigurationError("the token is not one line of printable characters")
        return token

    def refused(self, *, sent_at: float) -> None:
        """Drop a token that was read before the refused request was sent."""
        with self._lock:
            if self._token is not None and self._read_at < sent_at:
                self._token = None


class Credentials:
    """The authentication of each request, and the TLS material of each connection. Thread-safe.

    namespace: that of the context of the kubeconfig, or of the Pod. impersonation: headers of each request.

    Certificate files are looked at again after CERTIFICATE_PERIOD (client-go transport/cert_rotation.go). Files that do
    not fit together, because they are just being written, change nothing.
    """

    def __init__(
        self,
        configuration: Configuration,
        authorizer: Authorizer | None = None,
        *,
        ca: Pem = None,
        certificate: Pem = None,
        key: Pem = None,
        impersonation: Headers = (),
        namespace: str = DEFAULT_NAMESPACE,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        """configuration: whether to verify, and the name of the server. Raises ConfigurationError for PEM that cannot
        be used.
        """
        self.impersonation = impersonation
        self.namespace = namespace
        self._authorizer = authorizer or Authorizer()
        self._server_name: str | None = configuration.tls_server_name
        self._verify: bool = configuration.verify_ssl
        self._sources = (ca, certificate, key)
        self._rotates = any(isinstance(source, Path) for source in self._sources)
        self._clock = clock
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._next_look = clock.monotonic() + CERTIFICATE_PERIOD
        self._warned = False
        try:
            self._contents = self._read()
            self._material = self._checked(*self._contents)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def authorization(self, *, timeout: float, stop: threading.Event | None) -> str | None:
        """The value of the Authorization header, or None. It may run a program, for `timeout` seconds and until `stop`
        is set at most. Raises NoCredentials if there are none, or not in time.
        """
        try:
            return self._authorizer.authorization(timeout=timeout, stop=stop)
        except ConfigurationError as error:
            raise NoCredentials(str(error)) from error

    def tls(self) -> TLSMaterial:
        """The material for connections that are opened or used now.

        Call it after authorization(), which may obtain the certificate.
        """
        with self._lock:
            if self._rotates and self._clock.monotonic() >= self._next_look:
                self._next_look = self._clock.monotonic() + CERTIFICATE_PERIOD
                self._refresh_locked()
            material = self._material
        if material.certificate is None and (own := self._authorizer.certificate()) is not None:
            material = replace(material, certificate=own)
        return material

    def refused(self, *, sent_at: float) -> None:
        """As of an Authorizer. Certificate files are read at the next tls()."""
        self._authorizer.refused(sent_at=sent_at)
        with self._lock:
            self._next_look = self._clock.monotonic()

    def close(self) -> None:
        """End a program that runs for authorization()."""
        self._authorizer.close()

    def _refresh_locked(self) -> None:
        try:
            contents = self._read()
            if contents != self._contents:
                self._material = self._checked(*contents)
                self._contents = contents
                log.info("Certificate files have changed; new connections use them")
            self._warned = False
        except ValueError as error:
            if not self._warned:
                log.warning("Certificate files cannot be used, keeping the old content", extra={"error": str(error)})
            self._warned = True

    def _read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        ca, certificate, key = (_content(source) for source in self._sources)
        return ca, certificate, key

    def _checked(self, ca: bytes | None, certificate: bytes | None, key: bytes | None) -> TLSMaterial:
        return TLSMaterial(
            ca=None if ca is None else _authorities(ca),
            certificate=None if certificate is None or key is None else pair(certificate, key),
            server_name=self._server_name,
            verify=self._verify,
        )


def pair(certificate: bytes, key: bytes) -> bytes:
    """A certificate with its chain, followed by its key, as in TLSMaterial. Raises ValueError if they do not fit."""
    both = certificate.rstrip() + b"\n" + key
    client_context(TLSMaterial(certificate=both, verify=False))
    return both


def _authorities(pem: bytes) -> bytes:
    """The certificates among PEM with texts of people. Raises ValueError if there is none, or one is broken."""
    bodies = [body for body, end, _ in (part.partition(_END) for part in pem.split(_BEGIN)[1:]) if end]
    if not bodies:
        raise ValueError("the certificate authority holds no certificate in PEM format")
    authorities = b"".join(_BEGIN + body + _END + b"\n" for body in bodies)
    client_context(TLSMaterial(ca=authorities))
    return authorities


def _content(source: Pem) -> bytes | None:
    """Raises ValueError if the file cannot be read."""
    if not isinstance(source, Path):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {source}: {cause_of(error)}") from None


def cause_of(error: Exception) -> str:
    """The cause in words, without the name of a file."""
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
