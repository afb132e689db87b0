"""Reads kubeconfig files with the official client, and adds what it does not support.

That is: token files that rotate, plugins whose credentials expire or are refused, and impersonation.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from kubernetes.client.configuration import Configuration
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from informers.configuration import Credentials, Headers, TokenFile, new_configuration
from informers.errors import ConfigurationError
from informers.exec_plugin import ExecPlugin
from workqueue.clock import Clock


def load(path: str, clock: Clock) -> tuple[Configuration, Credentials]:
    """The configuration of the current context. `path` may contain several files. Raises ConfigurationError."""
    if not any(Path(part).expanduser().exists() for part in path.split(os.pathsep) if part):
        raise ConfigurationError(f"kubeconfig {path} does not exist")
    configuration = new_configuration()
    try:
        merged: Any = KubeConfigMerger(path).config
        user = _User(merged, path)
        # If the plugin fails, the official client would send requests without credentials and never call it again.
        plugin_config = user.pop_exec()
        KubeConfigLoader(merged, config_base_path=None).load_and_set(configuration)
        plugin = None
        if plugin_config is not None and not configuration.api_key:
            plugin = ExecPlugin.of_kubeconfig(
                plugin_config, directory=user.directory, cluster=user.cluster(), clock=clock
            )
        impersonation = user.impersonation()
    except yaml.YAMLError as error:
        # Not chained: the original quotes the invalid line, which may contain a token.
        raise ConfigurationError(f"kubeconfig {path} cannot be used: {_cause(error)}") from None
    except (ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"kubeconfig {path} cannot be used: {_cause(error)}") from error
    token_file = TokenFile(user.token_path, clock) if user.token_path else None
    return configuration, Credentials(configuration, token_file, plugin=plugin, impersonation=impersonation)


class _User:
    """Those fields of the user of the current context that the official client does not support."""

    def __init__(self, merged: Any, path: str) -> None:
        self._merged = merged
        self._context = merged["contexts"].get_with_name(merged["current-context"])["context"]
        name = self._context.safe_get("user")
        entry: Any = merged["users"].get_with_name(name, safe=True) if name and merged.safe_get("users") else None
        self._user: Any = entry["user"] if entry and entry.safe_get("user") else None
        self.directory = str(Path((entry.path if entry else None) or path).parent)

    @property
    def token_path(self) -> Path | None:
        """The tokenFile; the official client reads it only once."""
        token_file = self._get("tokenFile")
        return Path(self.directory) / str(token_file) if token_file else None

    def pop_exec(self) -> Any:
        """The node `exec`, which is removed from the user; None without."""
        if not self._get("exec"):
            return None
        node = self._user["exec"]
        del self._user.value["exec"]
        return node

    def cluster(self) -> Any:
        return self._merged["clusters"].get_with_name(self._context["cluster"])["cluster"]

    def impersonation(self) -> Headers:
        """Headers for `as` and its related fields (client-go transport/round_trippers.go). Raises ConfigException."""
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
    """A text, or a list of texts, which are valid in a header."""
    values = [] if value in (None, "") else value if isinstance(value, list) else [value]
    for each in values:
        if not isinstance(each, str) or not each or not each.isprintable():
            raise ConfigException(f"{key} is not a text, or a list of texts, on one line")
    return list(values)


def _cause(error: BaseException) -> str:
    """A text without the content of the file."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, yaml.MarkedYAMLError):
        where = error.problem_mark
        return f"not valid YAML at line {where.line + 1}, column {where.column + 1}" if where else "not valid YAML"
    if isinstance(error, (ConfigException, ConfigurationError)):
        return str(error)
    return f"not a kubeconfig ({type(error).__name__})"
