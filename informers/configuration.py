"""Where the API server is and how to sign in: kubeconfig files and the service account of a Pod.

The official client reads kubeconfig files (clusters, users, OIDC) and knows the layout of a Pod. What it leaves out is
added here: a token file that changes while the process runs, credentials of plugins that expire or are refused, and
acting as somebody else.
"""

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException
from kubernetes.config.incluster_config import InClusterConfigLoader
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from informers.errors import ConfigurationError
from informers.exec_plugin import Certificate, ExecPlugin
from workqueue.clock import Clock

log = logging.getLogger(__name__)

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG = Path("~/.kube/config")

# client-go transport/token_source.go: a token file is read each minute, with ten seconds of leeway.
_TOKEN_PERIOD = 60.0
_TOKEN_LEEWAY = 10.0

Headers = tuple[tuple[str, str], ...]


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
    """What each request carries to say who sends it.

    A token file or a plugin, when there is one, otherwise whatever the official client makes of the kubeconfig. Client
    certificates belong to the connection; only those of a plugin, which may change, are told here.
    impersonation: headers for acting as somebody else.
    """

    def __init__(
        self,
        configuration: Configuration,
        token_file: TokenFile | None = None,
        *,
        plugin: ExecPlugin | None = None,
        impersonation: Headers = (),
    ) -> None:
        self._configuration = configuration
        self._token_file = token_file
        self._plugin = plugin
        self.impersonation = impersonation
        # Tokens that the official client renews, OIDC for one, are to be renewed once, not once per thread.
        self._lock = threading.Lock()

    def authorization(self) -> str | None:
        """The value of the header Authorization, None for none. Raises ConfigurationError."""
        if self._token_file is not None:
            return f"Bearer {self._token_file.token()}"
        if self._plugin is not None:
            token = self._plugin.credentials().token
            return None if token is None else f"Bearer {token}"
        with self._lock:
            setting = self._configuration.auth_settings().get("BearerToken")
        return None if setting is None else str(setting["value"])

    def certificate(self) -> Certificate | None:
        """The client certificate of the plugin, None without. Raises ConfigurationError."""
        return None if self._plugin is None else self._plugin.credentials().certificate

    def refused(self, *, sent_at: float) -> None:
        """The server answered 401 to a request sent at that monotonic time."""
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
        merged: Any = KubeConfigMerger(path).config
        user = _User(merged, path)
        # The official client would sign in without credentials when the plugin fails, and never ask it again.
        plugin_config = user.pop_exec()
        KubeConfigLoader(merged, config_base_path=None).load_and_set(configuration)
        plugin = None
        if plugin_config is not None and not configuration.api_key:
            plugin = ExecPlugin.of_kubeconfig(
                plugin_config, directory=user.directory, cluster=user.cluster(), clock=clock
            )
        impersonation = user.impersonation()
    except yaml.YAMLError as error:
        # Not chained: the original quotes the line at fault, which may hold a token.
        raise ConfigurationError(f"kubeconfig {path} cannot be used: {_cause(error)}") from None
    except (ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"kubeconfig {path} cannot be used: {_cause(error)}") from error
    token_file = TokenFile(user.token_path, clock) if user.token_path else None
    return configuration, Credentials(configuration, token_file, plugin=plugin, impersonation=impersonation)


class _User:
    """The user of the current context of a merged kubeconfig, as far as the official client leaves it out."""

    def __init__(self, merged: Any, path: str) -> None:
        self._merged = merged
        self._context = merged["contexts"].get_with_name(merged["current-context"])["context"]
        name = self._context.safe_get("user")
        entry: Any = merged["users"].get_with_name(name, safe=True) if name and merged.safe_get("users") else None
        self._user: Any = entry["user"] if entry and entry.safe_get("user") else None
        self.directory = str(Path((entry.path if entry else None) or path).parent)

    @property
    def token_path(self) -> Path | None:
        """The tokenFile, which the official client reads only once."""
        token_file = self._get("tokenFile")
        return Path(self.directory) / str(token_file) if token_file else None

    def pop_exec(self) -> Any:
        """The node `exec`, taken out of the user; None without."""
        if not self._get("exec"):
            return None
        node = self._user["exec"]
        del self._user.value["exec"]
        return node

    def cluster(self) -> Any:
        return self._merged["clusters"].get_with_name(self._context["cluster"])["cluster"]

    def impersonation(self) -> Headers:
        """Headers for `as` and what belongs to it (client-go transport/round_trippers.go). Raises ConfigException."""
        headers: list[tuple[str, str]] = []
        for key, header in (("as", "Impersonate-User"), ("as-uid", "Impersonate-Uid")):
            headers += [(header, value) for value in _texts(key, self._get(key))]
        headers += [("Impersonate-Group", value) for value in _texts("as-groups", self._get("as-groups"))]
        for extra, values in (self._get("as-user-extra") or {}).items():
            header = f"Impersonate-Extra-{quote(str(extra), safe='')}"
            headers += [(header, value) for value in _texts("as-user-extra", values)]
        if headers and headers[0][0] != "Impersonate-User":
            raise ConfigException("as-uid, as-groups or as-user-extra is set, but not as: whom to act as")
        return tuple(headers)

    def _get(self, key: str) -> Any:
        return self._user.safe_get(key) if self._user is not None else None


def _texts(key: str, value: Any) -> list[str]:
    """One text or several, as they can stand in a header."""
    values = [] if value in (None, "") else value if isinstance(value, list) else [value]
    for each in values:
        if not isinstance(each, str) or not each or not each.isprintable():
            raise ConfigException(f"{key} is not a text, or a list of texts, on one line")
    return list(values)


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
