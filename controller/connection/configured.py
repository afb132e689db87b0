"""The configuration to pair with, as caches or API server have it at this moment."""

from collections.abc import Mapping
from typing import Any

from controller.connection import configuration
from controller.connection.configuration import PairingConfiguration, TokenSecretUnusable
from controller.resources import CONFIG_MAP, SECRET
from controller.settings import ObjectName
from informers.client import Client
from informers.errors import Forbidden, NotFound
from informers.lister import Lister
from informers.resource import Resource


class Configured:
    """Reads ConfigMap and Secret from the caches, and the Secret of a tokenSecretRef from the API server."""

    def __init__(
        self,
        client: Client,
        *,
        secrets: Lister,
        secret_name: ObjectName,
        config_maps: Lister,
        config_map_name: ObjectName,
    ) -> None:
        self._client = client
        self._secrets = secrets
        self._secret_name = secret_name
        self._config_maps = config_maps
        self._config_map_name = config_map_name

    def resolve(self, connection: Mapping[str, Any] | None, *, live: bool = False) -> PairingConfiguration:
        """The configuration in force; raises ConfigurationError, or informers.ApiError of what is read.

        ``live`` asks the API server and not the caches: an operator changes the configuration and then deletes the
        CompassConnection, but these come through different watches, and the deletion may be here first.
        """
        return configuration.resolve(
            connection,
            self._read(SECRET, self._secret_name) if live else self._secret(),
            self._read(CONFIG_MAP, self._config_map_name) if live else self._config_map(),
            secret_name=self._secret_name,
            config_map_name=self._config_map_name,
            read_secret=self._read_secret,
        )

    def identity(self, connection: Mapping[str, Any] | None) -> tuple[str, str] | None:
        """Runtime id and tenant, where they are configured."""
        return configuration.runtime_identity(self._secret(), self._config_map(), connection)

    def _secret(self) -> Mapping[str, Any] | None:
        return self._secrets.get(self._secret_name.name, self._secret_name.namespace)

    def _config_map(self) -> Mapping[str, Any] | None:
        return self._config_maps.get(self._config_map_name.name, self._config_map_name.namespace)

    def _read_secret(self, name: ObjectName) -> Mapping[str, Any] | None:
        try:
            return self._read(SECRET, name)
        except Forbidden as error:
            raise TokenSecretUnusable(f"the Secret {name} of tokenSecretRef cannot be read: {error}") from error

    def _read(self, resource: Resource, name: ObjectName) -> Mapping[str, Any] | None:
        try:
            return self._client.get(resource, name.name, namespace=name.namespace)
        except NotFound:
            return None
