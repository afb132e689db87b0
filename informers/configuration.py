"""URL and authentication of the API server: kubeconfig files and the service account of a Pod.

The official client reads kubeconfig files (clusters, users, OIDC) and knows the layout of a Pod. This module adds token
files that change while the process runs, plugin credentials that expire or are refused, and impersonation.
"""

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes.client.configuration import Configuration
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import InClusterConfigLoader

from informers.errors import ConfigurationError
from informers.transport.proxies import InvalidProxy, from_environment, of_url
from workqueue.clock import Clock

if TYPE_CHECKING:
    from informers.exec_plugin import ExecPlugin

log = logging.getLogger(__name__)

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG = Path("~/.kube/config")

# client-go transport/token_source.go: a token file is read every minute, minus ten seconds.
_TOKEN_PERIOD = 60.0
_TOKEN_LEEWAY = 10.0

Headers = tuple[tuple[str, str], ...]

Certificate = tuple[str, str]
"""Paths of a client certificate and its key."""


class TokenFile:
    """A bearer token in a file that is rotated (client-go: cachingTokenSource over fileTokenSource).

    Thread-safe. The file is read again when the token is older than 50 s, or was dropped. If the file cannot be read,
    the old token is used, unless the server has refused it.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._read_at = 0.0

    def token(self) -> str:
        """The token. Raises ConfigurationError if there is none."""
        with self._lock:
            now = self._clock.monotonic()
            if self._token is not None and now - self._read_at < _TOKEN_PERIOD - _TOKEN_LEEWAY:
                return self._token
            try:
                token = self._read()
            except (OSError, UnicodeError, ConfigurationError) as error:
                if self._token is None:
                    raise ConfigurationError(f"cannot read a token from {self._path}: {_cause(error)}") from error
                log.warning("Cannot read the token file, keeping the old token", extra={"path": str(self._path)})
                return self._token
            self._token = token
            self._read_at = now
            return token

    def _read(self) -> str:
        token = self._path.read_text(encoding="ascii").strip()
        if not token:
            raise ConfigurationError("the file is empty")
        return token

    def drop(self, *, older_than: float) -> None:
        """Drop a token that was read before `older_than` (monotonic seconds), because the server has refused it."""
        with self._lock:
            if self._token is not None and self._read_at < older_than:
                self._token = None


class Credentials:
    """The authentication of each request.

    It uses a token file or a plugin if there is one, otherwise the official client's reading of the kubeconfig. Client
    certificates belong to the connection; only those of a plugin are here, because they may change. impersonation:
    headers for impersonation.
    """

    def __init__(
        self,
        configuration: Configuration,
        token_file: TokenFile | None = None,
        *,
        plugin: "ExecPlugin | None" = None,
        impersonation: Headers = (),
    ) -> None:
        self._configuration = configuration
        self._token_file = token_file
        self._plugin = plugin
        self.impersonation = impersonation
        # So that the official client renews a token, for example with OIDC, once, and not once for each thread.
        self._lock = threading.Lock()

    def authorization(self) -> str | None:
        """The value of the Authorization header, or None. Raises ConfigurationError."""
        if self._token_file is not None:
            return f"Bearer {self._token_file.token()}"
        if self._plugin is not None:
            token = self._plugin.credentials().token
            return None if token is None else f"Bearer {token}"
        with self._lock:
            setting = self._configuration.auth_settings().get("BearerToken")
        return None if setting is None else str(setting["value"])

    def certificate(self) -> Certificate | None:
        """The client certificate of the plugin, or None. Raises ConfigurationError."""
        return None if self._plugin is None else self._plugin.credentials().certificate

    def refused(self, *, sent_at: float) -> None:
        """The server answered with 401 to a request that was sent at this monotonic time."""
        if self._token_file is not None:
            self._token_file.drop(older_than=sent_at)
        if self._plugin is not None:
            self._plugin.drop(older_than=sent_at)


def load(
    kubeconfig: str | None,
    *,
    clock: Clock,
    environ: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT_DIRECTORY,
) -> tuple[Configuration, Credentials]:
    """The configuration from the first of these that exists: `kubeconfig`, $KUBECONFIG, the Pod's service account,
    ~/.kube/config.

    The order is that of controller-runtime. $KUBECONFIG may contain several files, separated by colons. Raises
    ConfigurationError, whose text lists the places.
    """
    environ = os.environ if environ is None else environ
    configuration, credentials = _load(kubeconfig, clock, environ, service_account)
    _use_proxy(configuration, environ)
    return configuration, credentials


def new_configuration() -> Configuration:
    """A configuration without the proxy of the environment, which the official client chooses differently."""
    configuration = Configuration()
    configuration.proxy = configuration.no_proxy = None
    return configuration


def _use_proxy(configuration: Configuration, environ: Mapping[str, str]) -> None:
    """Use the proxy of the kubeconfig, which is for every host, or else that of the environment."""
    named = configuration.proxy
    try:
        proxy = of_url(str(named)) if named else from_environment(configuration.host, environ)
    except InvalidProxy as error:
        raise ConfigurationError(f"the API server cannot be reached through its proxy: {error}") from error
    configuration.proxy = proxy.url if proxy else None
    if proxy and proxy.authorization:
        configuration.proxy_headers = {"Proxy-Authorization": proxy.authorization}


def _load(
    kubeconfig: str | None, clock: Clock, environ: Mapping[str, str], service_account: Path
) -> tuple[Configuration, Credentials]:
    named = kubeconfig or environ.get("KUBECONFIG")
    if named:
        return _from_kubeconfig(named, clock)
    if environ.get("KUBERNETES_SERVICE_HOST") and (service_account / "token").exists():
        return _in_cluster(environ, service_account, clock)
    default = DEFAULT_KUBECONFIG.expanduser()
    if default.exists():
        return _from_kubeconfig(str(default), clock)
    raise ConfigurationError(
        "no API server is configured: no kubeconfig was given, KUBECONFIG is not set, "
        f"{service_account} holds no service account token, and {default} does not exist"
    )


def _from_kubeconfig(path: str, clock: Clock) -> tuple[Configuration, Credentials]:
    # Imported only if it is used: kubeconfig files need OAuth and YAML, 10 MiB that a Pod does not need.
    from informers.kubeconfig import load as load_kubeconfig  # noqa: PLC0415

    return load_kubeconfig(path, clock)


def _in_cluster(environ: Mapping[str, str], service_account: Path, clock: Clock) -> tuple[Configuration, Credentials]:
    configuration = new_configuration()
    token_path = service_account / "token"
    try:
        InClusterConfigLoader(
            token_filename=str(token_path),
            cert_filename=str(service_account / "ca.crt"),
            try_refresh_token=False,
            environ=environ,
        ).load_and_set(configuration)
    except (ConfigException, OSError, ValueError) as error:
        raise ConfigurationError(f"the service account of this Pod cannot be used: {_cause(error)}") from error
    return configuration, Credentials(configuration, TokenFile(token_path, clock))


def _cause(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
