"""Credentials from a program, the `exec` of a kubeconfig (client-go plugin/pkg/client/auth/exec)."""

import logging
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kubernetes.config.config_exception import ConfigException
from kubernetes.config.exec_provider import ExecProvider

from informers.configuration import Certificate
from informers.errors import ConfigurationError
from workqueue.clock import Clock

log = logging.getLogger(__name__)

# A thread waits for this number of seconds for a program that another thread has started.
PATIENCE = 30.0
_MAX_FOREIGN_TEXT = 200


@dataclass(frozen=True, slots=True)
class ExecCredentials:
    """`token`: None without. `expires`: seconds since 1970, None for never."""

    token: str | None
    certificate: Certificate | None
    expires: float | None


class ExecPlugin:
    """Runs the program if there are no credentials yet, if they have expired, or if the server has refused them.

    Thread-safe. The program runs once for all threads that wait for it.
    """

    def __init__(self, run: Callable[[], Mapping[str, Any]], *, command: str, clock: Clock) -> None:
        """run: runs `command` and returns the status of its ExecCredential."""
        self._run = run
        self._command = command
        self._clock = clock
        self._lock = threading.Lock()
        self._credentials: ExecCredentials | None = None
        self._obtained_at = 0.0
        self._files: _CertificateFiles | None = None

    @classmethod
    def of_kubeconfig(cls, exec_config: Any, *, directory: str, cluster: Any, clock: Clock) -> "ExecPlugin":
        """The plugin for the nodes `exec` and cluster of a kubeconfig in this directory. Raises ConfigException."""
        provider = ExecProvider(exec_config, directory, cluster)
        hint = str(exec_config.safe_get("installHint") or "")

        def run() -> Mapping[str, Any]:
            try:
                status: Any = provider.run()
            except FileNotFoundError as error:
                raise ConfigException(f"it is not installed{f': {hint}' if hint else ''}") from error
            if not isinstance(status, Mapping):
                raise ConfigException("its status is no object")
            return status

        return cls(run, command=str(exec_config["command"]), clock=clock)

    def credentials(self) -> ExecCredentials:
        """The credentials. Raises ConfigurationError if the program fails or takes too long."""
        # The next request tries again. Threads must not accumulate while a program hangs.
        if not self._lock.acquire(timeout=PATIENCE):
            raise ConfigurationError(f"the credential plugin {self._command} did not finish within {PATIENCE:g} s")
        try:
            known = self._credentials
            if known is not None and (known.expires is None or self._clock.time() < known.expires):
                return known
            now = self._clock.monotonic()
            try:
                self._credentials = self._parsed(self._run())
            except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(f"the credential plugin {self._command} failed: {_cause(error)}") from error
            self._obtained_at = now
            log.info("Credential plugin returned credentials", extra={"command": self._command})
            return self._credentials
        finally:
            self._lock.release()

    def drop(self, *, older_than: float) -> None:
        """Drop credentials that were obtained before `older_than` (monotonic seconds), because they were refused."""
        # Without the lock, which is held while the program runs; its result is newer than the refused credentials.
        if self._credentials is not None and self._obtained_at < older_than:
            self._credentials = None

    def _parsed(self, status: Mapping[str, Any]) -> ExecCredentials:
        token = status.get("token") or None
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        if token is not None and not isinstance(token, str):
            raise ConfigException("its token is no text")
        if not token and not certificate:
            raise ConfigException("it printed neither a token nor a client certificate")
        if bool(certificate) != bool(key):
            raise ConfigException("it printed a client certificate without its key, or a key without its certificate")
        expires = status.get("expirationTimestamp")
        files = None
        if certificate:
            if self._files is None:
                self._files = _CertificateFiles()
            files = self._files.written(str(certificate), str(key))
        return ExecCredentials(token, files, datetime.fromisoformat(expires).timestamp() if expires else None)


class _CertificateFiles:
    """Files for a certificate, which can be used only from files. Only this user can read them, and the process removes
    them at its end.
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="informers-"))
        self._cleanup = weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        self._pems = ("", "")
        self._written: list[Certificate] = []

    def written(self, certificate: str, key: str) -> Certificate:
        """The paths for this certificate and key; those of the last call if nothing has changed."""
        if self._pems == (certificate, key):
            return self._written[-1]
        directory = Path(tempfile.mkdtemp(dir=self._directory))
        paths = (directory / "certificate.pem", directory / "key.pem")
        for path, pem in zip(paths, (certificate, key), strict=True):
            path.touch(mode=0o600)
            path.write_text(pem)
        self._pems = (certificate, key)
        self._written.append((str(paths[0]), str(paths[1])))
        if len(self._written) > 2:  # the one before this may just be read for a new connection
            shutil.rmtree(Path(self._written.pop(0)[0]).parent, ignore_errors=True)
        return self._written[-1]


def _cause(error: Exception) -> str:
    """The reason in one short line, without the output of the program, which may contain credentials."""
    if isinstance(error, ConfigException):
        text = str(error)
    elif isinstance(error, OSError):
        text = error.strerror or type(error).__name__
    else:
        text = f"its answer cannot be used ({type(error).__name__})"
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_FOREIGN_TEXT]
