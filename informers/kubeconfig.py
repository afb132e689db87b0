"""Kubeconfig files by the rules of kubectl (client-go tools/clientcmd: loader.go, client_config.go, validation.go).

- Of several files, the first that names a cluster, user or context defines it, and the first current-context counts.
- What kubectl refuses is refused, with a text that names the file or the entry, and never quotes its content.
- Credentials are for https only. A server without a scheme is an http server without credentials, as for kubectl.
- The files are read once. Token and certificate files that they name are read again; see `credentials`.
"""

import base64
import logging
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import yaml
from kubernetes.client.configuration import Configuration

from informers.credentials import (
    DEFAULT_NAMESPACE,
    Authorizer,
    Credentials,
    FixedAuthorization,
    Headers,
    Pem,
    TokenFile,
    basic_authorization,
)
from informers.errors import ConfigurationError
from informers.exec_plugin import API_VERSIONS, ExecPlugin, is_interactive
from informers.transport.proxies import InvalidProxy, of_url
from workqueue.clock import Clock

log = logging.getLogger(__name__)

Fields = dict[str, Any]

_INTERACTIVE_MODES = ("Never", "IfAvailable", "Always")
# The cluster's extension that is passed on to exec plugins.
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"
# What Go leaves as it is in the name of a header (client-go transport/round_trippers.go, legalHeaderByte).
_LEGAL_IN_HEADERS = "!#$&'*+^`|"


def load(files: Sequence[Path], *, context: str | None, clock: Clock) -> tuple[Configuration, Credentials]:
    """The configuration of `context`, or of the current context. Raises ConfigurationError.

    Files that do not exist are ignored.
    """
    merged = _Merged()
    for file in files:
        try:
            merged.add(_parsed(file.read_bytes()), folder=file.absolute().parent)
        except FileNotFoundError:
            continue
        except (OSError, ConfigurationError) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(f"kubeconfig {file} cannot be used: {cause}") from None
    try:
        return _configuration(merged.choose(context), clock)
    except ConfigurationError as error:
        names = ", ".join(str(file) for file in files)
        raise ConfigurationError(f"kubeconfig {names} cannot be used: {error}") from error.__cause__


# The types of the fields. As in client-go, a field of another type makes the whole file unusable.


def _text(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise ConfigurationError("it is no text; quote it if it looks like a number or a boolean")
    if value and "\0" in value:
        raise ConfigurationError("it has a character that no text has")
    return value or ""


def _boolean(value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError("it is neither true nor false")
    return value or False


def _data(value: object) -> bytes:
    try:
        return base64.b64decode("".join(_text(value).splitlines()), validate=True)
    except ValueError:
        raise ConfigurationError("it is not base64") from None


def _fields(value: object) -> Fields:
    if value is not None and not isinstance(value, dict):
        raise ConfigurationError("it is no object")
    return value or {}


def _items(value: object) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise ConfigurationError("it is no list")
    return value or []


def _texts(value: object) -> list[str]:
    return [_text(item) for item in _items(value)]


def _text_lists(value: object) -> dict[str, list[str]]:
    return {str(name): _texts(item) for name, item in _fields(value).items()}


def _named(value: object, field: str, read: Callable[[object], Any]) -> dict[str, Any]:
    """Items {"name": ..., field: ...} by their names. Raises ConfigurationError for a name that occurs twice."""
    found: dict[str, Any] = {}
    for item in _items(value):
        entry = _fields(item)
        name = _text(entry.get("name"))
        if name in found:
            raise ConfigurationError(f"the name {name!r} occurs twice")
        try:
            found[name] = read(entry.get(field))
        except ConfigurationError as error:
            raise ConfigurationError(f"{name!r}: {error}") from None
    return found


def _extensions(value: object) -> dict[str, Any]:
    return _named(value, "extension", lambda extension: extension)


def _environment(value: object) -> list[tuple[str, str]]:
    variables = [_fields(item) for item in _items(value)]
    return [(_text(variable.get("name")), _text(variable.get("value"))) for variable in variables]


def _object(readers: Mapping[str, Callable[[object], Any]]) -> Callable[[object], Fields]:
    """Reads an object with these fields, all of which are in the result. Others are ignored."""

    def read(value: object) -> Fields:
        given, typed = _fields(value), {}
        for name, read_field in readers.items():
            try:
                typed[name] = read_field(given.get(name))
            except ConfigurationError as error:
                raise ConfigurationError(f"{name}: {error}") from None
        return typed

    return read


def _optional(read: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else read(value)


_CLUSTER = _object(
    {
        "server": _text,
        "tls-server-name": _text,
        "insecure-skip-tls-verify": _boolean,
        "certificate-authority": _text,
        "certificate-authority-data": _data,
        "proxy-url": _text,
        "disable-compression": _boolean,
        "extensions": _extensions,
    }
)
_EXEC = _object(
    {
        "command": _text,
        "args": _texts,
        "env": _environment,
        "apiVersion": _text,
        "installHint": _text,
        "provideClusterInfo": _boolean,
        "interactiveMode": _text,
    }
)
_USER = _object(
    {
        "client-certificate": _text,
        "client-certificate-data": _data,
        "client-key": _text,
        "client-key-data": _data,
        "token": _text,
        "tokenFile": _text,
        "as": _text,
        "as-uid": _text,
        "as-groups": _texts,
        "as-user-extra": _text_lists,
        "username": _text,
        "password": _text,
        "auth-provider": _optional(_object({"name": _text})),
        "exec": _optional(_EXEC),
        "extensions": _extensions,
    }
)
_CONTEXT = _object({"cluster": _text, "user": _text, "namespace": _text, "extensions": _extensions})
_CONFIG = _object(
    {
        "kind": _text,
        "apiVersion": _text,
        "preferences": _fields,
        "extensions": _extensions,
        "current-context": _text,
        "clusters": partial(_named, field="cluster", read=_CLUSTER),
        "users": partial(_named, field="user", read=_USER),
        "contexts": partial(_named, field="context", read=_CONTEXT),
    }
)
# Of a cluster or user, those that are relative to the folder of their file.
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """As in client-go, text that looks like a date is text, and a plain y or n is a boolean."""

    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), list("yYnN"))


def _parsed(text: bytes) -> Fields:
    """The fields of a file, with their types. Raises ConfigurationError."""
    try:
        loader = _Loader(text)
        try:
            config = _CONFIG(loader.get_data())  # as in client-go, only the first document counts
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        # Not chained: the original quotes the line, which may contain a token.
        where = error.problem_mark
        place = f" at line {where.line + 1}, column {where.column + 1}" if where else ""
        raise ConfigurationError(f"it is not valid YAML{place}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigurationError("it is not valid YAML") from None
    if config["kind"] not in ("", "Config") or config["apiVersion"] not in ("", "v1"):
        raise ConfigurationError("it is no kubeconfig: its kind is not Config, or its apiVersion is not v1")
    return config


class _Choice(NamedTuple):
    """The entries of a context. user_name is "" if the context names none."""

    context: Fields
    cluster_name: str
    cluster: Fields
    user_name: str
    user: Fields


class _Merged:
    """The entries of several files (client-go: ClientConfigLoadingRules.Load)."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Fields]] = {"clusters": {}, "users": {}, "contexts": {}}
        self._current_context = ""

    def add(self, fields: Fields, *, folder: Path) -> None:
        """Add the entries of a file in this folder. Those that are there have precedence."""
        self._current_context = self._current_context or fields["current-context"]
        for section, entries in self._entries.items():
            for name, entry in fields[section].items():
                for key in _PATHS:
                    if entry.get(key):
                        entry[key] = folder / entry[key]
                if (command := (entry.get("exec") or {}).get("command")) and "/" in command:
                    entry["exec"]["command"] = str(folder / command)
                entries.setdefault(name, entry)

    def choose(self, context: str | None) -> _Choice:
        """The entries of `context`, or of the current context. Raises ConfigurationError."""
        contexts, clusters, users = (self._entries[section] for section in ("contexts", "clusters", "users"))
        name = context or self._current_context
        chosen = contexts.get(name)
        if name and chosen is None:
            there = ", ".join(sorted(contexts)) or "none"
            raise ConfigurationError(f"the context {name!r} does not exist; there are: {there}")
        chosen = chosen or _CONTEXT(None)
        cluster = clusters.get(chosen["cluster"])
        if cluster is None and not name:
            raise ConfigurationError("it is empty, or its current-context is not set")
        if cluster is None:
            raise ConfigurationError(f"the cluster {chosen['cluster']!r} of the context {name!r} does not exist")
        user = users.get(chosen["user"])
        if user is None and chosen["user"] and _is_https(cluster):
            raise ConfigurationError(f"the user {chosen['user']!r} of the context {name!r} does not exist")
        return _Choice(chosen, chosen["cluster"], cluster, chosen["user"], user or _USER(None))


class _Server(NamedTuple):
    """url: without a slash at its end. authorization: of the user in the URL, None without."""

    url: str
    is_https: bool
    authorization: str | None


def _server(text: str) -> _Server:
    """The server of a cluster (client-go rest/url_utils.go, DefaultServerURL). Raises ConfigurationError."""
    wrong = ConfigurationError("its server is not a URL such as https://host:6443")
    if not text:
        raise ConfigurationError("it has no server")
    if not text.isprintable() or " " in text:
        raise wrong
    try:
        parts = urlsplit(text)
        named = bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", text)) and bool(parts.netloc)
        if not named:
            parts = urlsplit(f"http://{text}")
        _ = parts.port  # checks it
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or (not named and parts.path.strip("/")):
        raise wrong
    user, _, address = parts.netloc.rpartition("@")
    if user and not named:
        raise ConfigurationError("its server has a user but no scheme; begin it with https://")
    name, _, password = user.partition(":")
    authorization = basic_authorization(unquote(name), unquote(password)) if user else None
    path = posixpath.normpath("/" + parts.path.lstrip("/")).rstrip("/")
    return _Server(f"{parts.scheme}://{address}{path}", parts.scheme == "https", authorization)


def _is_https(cluster: Fields) -> bool:
    return _server(cluster["server"]).is_https


def _configuration(choice: _Choice, clock: Clock) -> tuple[Configuration, Credentials]:
    """Raises ConfigurationError for what kubectl refuses."""
    cluster, user = choice.cluster, choice.user
    try:
        _check_cluster(cluster)
        server = _server(cluster["server"])
    except ConfigurationError as error:
        raise ConfigurationError(f"cluster {choice.cluster_name!r}: {error}") from None
    try:
        _check_user(user)
        configuration = Configuration(host=server.url)
        configuration.verify_ssl = not cluster["insecure-skip-tls-verify"]
        configuration.tls_server_name = cluster["tls-server-name"] or None
        configuration.proxy = cluster["proxy-url"] or None
        authorizer = _authorizer(user, cluster, clock) if server.is_https else Authorizer()
        if server.authorization is not None:
            authorizer = FixedAuthorization(server.authorization)
        impersonation = _impersonation(user)
        if not server.is_https and user != _USER(None):
            log.warning("The server of the kubeconfig is not https: no credentials are sent", extra={"url": server.url})
    except ConfigurationError as error:
        raise ConfigurationError(f"user {choice.user_name!r}: {error}") from error.__cause__
    has_certificate = server.is_https and _has_certificate(user)
    credentials = Credentials(
        configuration,
        authorizer,
        ca=_pem(cluster, "certificate-authority") if server.is_https else None,
        certificate=_pem(user, "client-certificate") if has_certificate else None,
        key=_pem(user, "client-key") if has_certificate else None,
        impersonation=impersonation,
        namespace=choice.context["namespace"] or DEFAULT_NAMESPACE,
        clock=clock,
    )
    return configuration, credentials


def _check_cluster(cluster: Fields) -> None:
    _check_pem(cluster, "certificate-authority")
    _check_readable(cluster["certificate-authority"])
    if cluster["insecure-skip-tls-verify"] and _pem(cluster, "certificate-authority") is not None:
        raise ConfigurationError("it has insecure-skip-tls-verify and a certificate-authority; remove one of them")
    if cluster["proxy-url"]:
        try:
            of_url(cluster["proxy-url"])
        except InvalidProxy as error:
            raise ConfigurationError(str(error)) from None


def _check_user(user: Fields) -> None:
    if user["token"] and (user["username"] or user["password"]):
        raise ConfigurationError("it has a token and a user name or password; remove one of them")
    if user["client-certificate"] or user["client-certificate-data"]:
        _check_pem(user, "client-certificate")
        _check_pem(user, "client-key")
        if _pem(user, "client-key") is None:
            raise ConfigurationError("it has a client-certificate without a client-key")
        _check_readable(user["client-certificate"])
        _check_readable(user["client-key"])
    if user["exec"] is not None:
        _check_exec(user["exec"])
    if not user["as"] and (user["as-uid"] or user["as-groups"] or user["as-user-extra"]):
        raise ConfigurationError("as-uid, as-groups or as-user-extra is set, but not as: whom to act as")


def _check_exec(plugin: Fields) -> None:
    if not plugin["command"]:
        raise ConfigurationError("its exec has no command")
    if plugin["apiVersion"] not in API_VERSIONS:
        raise ConfigurationError(f"the apiVersion of its exec is none of {', '.join(API_VERSIONS)}")
    if not all(name for name, _ in plugin["env"]):
        raise ConfigurationError("a variable of its exec has no name")
    # Version v1beta1 has IfAvailable as its default; see the end of _authorizer.
    if plugin["interactiveMode"] not in _INTERACTIVE_MODES and (
        plugin["interactiveMode"] or plugin["apiVersion"] != API_VERSIONS[1]
    ):
        raise ConfigurationError(f"the interactiveMode of its exec is none of {', '.join(_INTERACTIVE_MODES)}")


def _authorizer(user: Fields, cluster: Fields, clock: Clock) -> Authorizer:
    """What kubectl would use for https (client-go clientcmd/client_config.go, transport/round_trippers.go)."""
    if provider := user["auth-provider"]:
        raise ConfigurationError(f"its auth-provider {provider['name']!r} is not supported; use an exec plugin")
    if user["username"] and user["tokenFile"]:
        raise ConfigurationError("it has a tokenFile and a username; remove one of them")
    if user["tokenFile"]:
        token_file = TokenFile(user["tokenFile"], clock, otherwise=_bearer_token(user["token"]) or None)
        token_file.token()
        return token_file
    if user["token"]:
        return FixedAuthorization(f"Bearer {_bearer_token(user['token'])}")
    if user["username"]:
        return FixedAuthorization(basic_authorization(user["username"], user["password"]))
    if _has_certificate(user):
        return Authorizer()
    plugin = user["exec"]
    if plugin is None:
        raise ConfigurationError("it has no token, client certificate or exec plugin for an https server")
    return ExecPlugin(
        plugin["command"],
        plugin["args"],
        api_version=plugin["apiVersion"],
        clock=clock,
        environment=dict(plugin["env"]),
        interactive=is_interactive(plugin["interactiveMode"] or "IfAvailable"),
        cluster=_cluster_info(cluster) if plugin["provideClusterInfo"] else None,
        install_hint=plugin["installHint"],
    )


def _bearer_token(token: str) -> str:
    if not (token.isascii() and token.isprintable()):
        raise ConfigurationError("its token is not one line of printable characters")
    return token


def _cluster_info(cluster: Fields) -> Fields:
    """The cluster as exec plugins get it (client-go rest/exec.go, ConfigToExecCluster)."""
    ca = _pem(cluster, "certificate-authority")
    info = {
        "server": cluster["server"],
        "tls-server-name": cluster["tls-server-name"],
        "insecure-skip-tls-verify": cluster["insecure-skip-tls-verify"],
        "certificate-authority-data": base64.b64encode(ca.read_bytes() if isinstance(ca, Path) else ca or b"").decode(),
        "proxy-url": cluster["proxy-url"],
        "disable-compression": cluster["disable-compression"],
    }
    return {name: value for name, value in info.items() if value} | {
        "config": cluster["extensions"].get(_EXEC_EXTENSION)
    }


def _impersonation(user: Fields) -> Headers:
    """Headers for `as` and its related fields (client-go transport/round_trippers.go). Raises ConfigurationError."""
    if not user["as"]:
        return ()
    headers = [("Impersonate-User", user["as"])]
    if user["as-uid"]:
        headers.append(("Impersonate-Uid", user["as-uid"]))
    headers += [("Impersonate-Group", group) for group in user["as-groups"]]
    for extra, values in user["as-user-extra"].items():
        headers += [(f"Impersonate-Extra-{quote(extra, safe=_LEGAL_IN_HEADERS)}", value) for value in values]
    if not all(value.isprintable() for _, value in headers):
        raise ConfigurationError("as, or a field that belongs to it, is not a text on one line")
    # Go sends UTF-8, and http.client encodes headers as Latin-1.
    return tuple((name, value.encode().decode("latin-1")) for name, value in headers)


def _has_certificate(user: Fields) -> bool:
    return _pem(user, "client-certificate") is not None


def _pem(fields: Fields, key: str) -> Pem:
    return fields[f"{key}-data"] or fields[key] or None


def _check_pem(fields: Fields, key: str) -> None:
    if fields[key] and fields[f"{key}-data"]:
        raise ConfigurationError(f"it has {key} and {key}-data; remove one of them")


def _check_readable(path: Path | str) -> None:
    if path:
        try:
            Path(path).open("rb").close()
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
