"""Where the API server is and how to sign in: kubeconfig files and the service account of a Pod.

The official client reads kubeconfig files (clusters, users, exec plugins, OIDC) and knows the layout of a Pod. What it
leaves out is added here: a token file that changes while the process runs.
"""

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_kube_config
from kubernetes.config.incluster_config import InClusterConfigLoader
from kubernetes.config.kube_config import KubeConfigMerger

from informers.errors import ConfigurationError
from workqueue.clock import Clock

log = logging.getLogger(__name__)

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG = Path("~/.kube/config")

# client-go transport/token_source.go: a token file is read each minute, with ten seconds of leeway.
_TOKEN_PERIOD = 60.0
_TOKEN_LEEWAY = 10.0


class TokenFile:
    """A bearer token in a file that others rotate (client-go: cachingTokenSource over fileTokenSource).

    Thread-safe. The file is read again when the token is older than 50 s, or was dropped. When that fails the old token
    is kept in use, unless it was dropped because the server refused it.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._read_at = 0.0

    def token(self) -> str:
        """The token. Raises ConfigurationError when there is none to use."""
        with self._lock:
            now = self._clock.monotonic()
            if self._token is not None and now - self._read_at < _TOKEN_PERIOD - _TOKEN_LEEWAY:
                return self._token
            try:
                token = self._read()
            except (OSError, UnicodeError, ConfigurationError) as error:
                if self._token is None:
                    raise ConfigurationError(f"cannot read a token from {self._path}: {_cause(error)}") from error
                log.warning("token file cannot be read, keeping the old token", extra={"path": str(self._path)})
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
        """Forget the token if it was read before `older_than` (monotonic seconds): the server has refused it."""
        with self._lock:
            if self._token is not None and self._read_at < older_than:
                self._token = None


class Credentials:
    """The Authorization header of each request.

    A token file, when there is one, otherwise whatever the official client makes of the kubeconfig, exec plugins and
    their expiry included. Client certificates are no business of this class: they belong to the connection.
    """

    def __init__(self, configuration: Configuration, token_file: TokenFile | None = None) -> None:
        self._configuration = configuration
        self._token_file = token_file
        # An exec plugin that is due must run once, not once per thread.
        self._lock = threading.Lock()

    def authorization(self) -> str | None:
        """The value of the header, None for no header. Raises ConfigurationError."""
        if self._token_file is not None:
            return f"Bearer {self._token_file.token()}"
        with self._lock:
            setting = self._configuration.auth_settings().get("BearerToken")
        return None if setting is None else str(setting["value"])

    def refused(self, *, sent_at: float) -> None:
        """The server answered 401 to a request sent at that monotonic time."""
        if self._token_file is not None:
            self._token_file.drop(older_than=sent_at)


def load(
    kubeconfig: str | None,
    *,
    clock: Clock,
    environ: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT_DIRECTORY,
) -> tuple[Configuration, Credentials]:
    """The configuration of the first that there is: `kubeconfig`, $KUBECONFIG, the Pod's account, ~/.kube/config.

    The order is controller-runtime's. $KUBECONFIG may name several files, separated by colons. Raises
    ConfigurationError, which lists what was looked at.
    """
    environ = os.environ if environ is None else environ
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
    if not any(Path(part).expanduser().exists() for part in path.split(os.pathsep) if part):
        raise ConfigurationError(f"kubeconfig {path} does not exist")
    configuration = Configuration()
    try:
        load_kube_config(config_file=path, client_configuration=configuration, persist_config=False)
        token_path = _token_file_of(path)
    except yaml.YAMLError as error:
        # Not chained: the original quotes the line at fault, which may hold a token.
        raise ConfigurationError(f"kubeconfig {path} cannot be used: {_cause(error)}") from None
    except (ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"kubeconfig {path} cannot be used: {_cause(error)}") from error
    return configuration, Credentials(configuration, TokenFile(token_path, clock) if token_path else None)


def _token_file_of(path: str) -> Path | None:
    """The tokenFile of the current context's user; the official client reads it only once."""
    merged: Any = KubeConfigMerger(path).config
    context = merged["contexts"].get_with_name(merged["current-context"])["context"]
    user_name = context.safe_get("user")
    user: Any = merged["users"].get_with_name(user_name, safe=True) if user_name and merged.safe_get("users") else None
    token_file = user["user"].safe_get("tokenFile") if user and user.safe_get("user") else None
    if not token_file:
        return None
    return Path(user.path or path).parent / str(token_file)


def _in_cluster(environ: Mapping[str, str], service_account: Path, clock: Clock) -> tuple[Configuration, Credentials]:
    configuration = Configuration()
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
    """A text without the file's content."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, yaml.MarkedYAMLError):
        where = error.problem_mark
        return f"not valid YAML at line {where.line + 1}, column {where.column + 1}" if where else "not valid YAML"
    if isinstance(error, (ConfigException, ConfigurationError)):
        return str(error)
    return f"not a kubeconfig ({type(error).__name__})"
