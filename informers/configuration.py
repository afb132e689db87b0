"""Where the API server is, and who we are there: kubeconfig files and the service account of a Pod."""

import logging
import os
import pwd
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from kubernetes.client.configuration import Configuration

from informers.credentials import DEFAULT_NAMESPACE, Credentials, TokenFile
from informers.errors import ConfigurationError
from informers.transport.proxies import InvalidProxy, from_environment, of_url
from workqueue.clock import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def load(
    kubeconfig: str | None = None,
    *,
    context: str | None = None,
    clock: Clock = REAL_CLOCK,
    environ: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT_DIRECTORY,
) -> tuple[Configuration, Credentials]:
    """The configuration from the first of these that exists: `kubeconfig`, $KUBECONFIG, the Pod's service account,
    ~/.kube/config.

    The order is that of controller-runtime. `kubeconfig` is one file. $KUBECONFIG may contain several, separated by
    colons. context: one of a kubeconfig, None for the current one; with it, the service account is not used. Raises
    ConfigurationError, whose text names the file or lists the places.
    """
    environ = os.environ if environ is None else environ
    configuration, credentials = _load(kubeconfig, context, clock, environ, service_account)
    _use_proxy(configuration, environ)
    return configuration, credentials


def _use_proxy(configuration: Configuration, environ: Mapping[str, str]) -> None:
    """Use the proxy of the kubeconfig, which is for every host, or else that of the environment."""
    named = configuration.proxy
    try:
        proxy = of_url(str(named)) if named else from_environment(configuration.host, environ)
    except InvalidProxy as error:
        raise ConfigurationError(f"the API server cannot be reached through its proxy: {error}") from error
    configuration.proxy = proxy.url if proxy else None
    configuration.no_proxy = None
    if proxy and proxy.authorization:
        configuration.proxy_headers = {"Proxy-Authorization": proxy.authorization}


def _load(
    kubeconfig: str | None, context: str | None, clock: Clock, environ: Mapping[str, str], service_account: Path
) -> tuple[Configuration, Credentials]:
    """The proxy is that of the kubeconfig, or None."""
    named = [kubeconfig] if kubeconfig else [part for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        files = [Path(part) for part in named]
        if not any(os.path.lexists(file) for file in files):
            raise ConfigurationError(f"kubeconfig {', '.join(named)} does not exist")
        return _from_kubeconfig(files, context, clock)
    if not context and _is_pod(environ, service_account):
        return _in_cluster(environ, service_account, clock)
    default = _default_kubeconfig(environ)
    if default is not None and default.exists():
        return _from_kubeconfig([default], context, clock)
    raise ConfigurationError(
        "no API server is configured: no kubeconfig was given, KUBECONFIG is not set, "
        f"{service_account} holds no service account token, and {default or 'a home directory'} does not exist"
    )


def _default_kubeconfig(environ: Mapping[str, str]) -> Path | None:
    """~/.kube/config; None without a home directory."""
    home = environ.get("HOME")
    if home is None:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:  # a Pod may have any user id
            return None
    return Path(home, ".kube", "config") if home else None


def _from_kubeconfig(files: list[Path], context: str | None, clock: Clock) -> tuple[Configuration, Credentials]:
    # Imported only if it is used: a Pod has no kubeconfig, and saves the memory of YAML.
    from informers.kubeconfig import load as load_kubeconfig  # noqa: PLC0415

    return load_kubeconfig(files, context=context, clock=clock)


def _is_pod(environ: Mapping[str, str], service_account: Path) -> bool:
    variables = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    return all(environ.get(variable) for variable in variables) and (service_account / "token").is_file()


def _in_cluster(environ: Mapping[str, str], service_account: Path, clock: Clock) -> tuple[Configuration, Credentials]:
    """The account of a Pod (client-go rest/config.go, InClusterConfig)."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    configuration = Configuration(host=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
    configuration.proxy = None
    token = TokenFile(service_account / "token", clock)
    try:
        token.token()
    except ConfigurationError as error:
        raise ConfigurationError(f"the service account of this Pod cannot be used: {error}") from error
    credentials = partial(
        Credentials,
        configuration,
        token,
        namespace=environ.get("POD_NAMESPACE") or _text(service_account / "namespace") or DEFAULT_NAMESPACE,
        clock=clock,
    )
    try:
        return configuration, credentials(ca=service_account / "ca.crt")
    except ConfigurationError as error:
        log.warning(
            "The service account has no usable ca.crt, the authorities of the system are trusted",
            extra={"error": str(error)},
        )
        return configuration, credentials()


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeError):
        return ""
