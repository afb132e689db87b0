"""The agent's view of its connection, read once from the API server: the same stores with a copy as cache."""

from dataclasses import dataclass
from typing import Any

from controller.commands.report import Certificate
from controller.connection.configuration import ConfigurationReader
from controller.connection.credentials import CredentialsError, CredentialsStore, StoredCredentials
from controller.connection.store import ConnectionStore
from controller.resources import COMPASS_CONNECTION, CONFIG_MAP, CONNECTION_NAME, SECRET
from controller.settings import ObjectName, Settings
from informers import Client, Indexer, MutationCache, NotFound, Resource
from informers.resource import object_key
from workqueue import RealClock

Object = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """The state at one moment. `connections` and `credentials` write to the API server, as in the agent."""

    connection: Object | None
    connections: ConnectionStore
    credentials: CredentialsStore
    configurations: ConfigurationReader


def take(client: Client, settings: Settings) -> Snapshot:
    """Read everything that belongs to the connection; raises informers.ApiError."""
    clock = RealClock()
    connection = _read(client, COMPASS_CONNECTION, ObjectName("", CONNECTION_NAME))

    def of_secret(name: ObjectName) -> Indexer:
        return _cache(SECRET, _read(client, SECRET, name))

    return Snapshot(
        connection=connection,
        connections=ConnectionStore(
            client, MutationCache(_cache(COMPASS_CONNECTION, connection), clock=clock), clock=clock
        ),
        credentials=CredentialsStore(
            client,
            cluster_secrets=MutationCache(of_secret(settings.cluster_certificates_secret), clock=clock),
            cluster_name=settings.cluster_certificates_secret,
            ca_secrets=MutationCache(of_secret(settings.ca_certificates_secret), clock=clock),
            ca_name=settings.ca_certificates_secret,
        ),
        configurations=ConfigurationReader(
            client,
            secrets=of_secret(settings.configuration),
            config_maps=_cache(CONFIG_MAP, _read(client, CONFIG_MAP, settings.configuration)),
            name=settings.configuration,
        ),
    )


def certificate_of(credentials: StoredCredentials | CredentialsError) -> Certificate | str:
    """That of the credentials, or the reason why there is no usable one."""
    if isinstance(credentials, CredentialsError):
        return str(credentials)
    registration = credentials.registration
    return Certificate(
        not_before=credentials.not_before,
        not_after=credentials.not_after,
        fingerprint=credentials.fingerprint,
        runtime_id=registration.runtime_id if registration else "",
        tenant=registration.tenant if registration else "",
    )


def _read(client: Client, resource: Resource, name: ObjectName) -> Object | None:
    try:
        return client.get(resource, name.name, namespace=name.namespace or None)
    except NotFound:
        return None


def _cache(resource: Resource, obj: Object | None) -> Indexer:
    indexer = Indexer(resource)
    if obj is not None:
        indexer.put(object_key(obj), obj, obj["metadata"]["resourceVersion"])
    return indexer
