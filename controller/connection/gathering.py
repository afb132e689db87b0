"""Gathers the facts: all that is read for one decision is read here, and nothing after it."""

from dataclasses import replace
from typing import Any

from controller.connection import configuration as sources
from controller.connection import revocation
from controller.connection import status as cc
from controller.connection.configuration import ConfigurationProblem, ConfigurationReader, PairingConfiguration
from controller.connection.credentials import (
    CredentialsError,
    CredentialsMissing,
    Registration,
    StoredCredentials,
    fingerprint_of,
)
from controller.connection.facts import Facts, GatewaySecret, Limits, Memory, Seen
from controller.connection.health import Health
from controller.connection.tools import Tools

Object = dict[str, Any]


class Gatherer:
    """Reads caches; the API server only where a cache may be too late, or does not have the object."""

    def __init__(
        self,
        tools: Tools,
        *,
        configurations: ConfigurationReader,
        health: Health,
        limits: Limits,
    ) -> None:
        self._connections = tools.connections
        self._credentials = tools.credentials
        self._clock = tools.clock
        self._configurations = configurations
        self._health = health
        self._limits = limits

    def gather(self, name: str, memory: Memory) -> Facts:
        """All facts but the waits, with the configuration remembered in ``memory``. Raises informers.ApiError."""
        connection = self._connections.get(name)
        credentials, problem = self._load(connection)
        registration = self._credentials.load_registration()
        facts = Facts(
            now=self._clock.time(),
            monotonic=self._clock.monotonic(),
            limits=self._limits,
            connection=connection,
            credentials=credentials,
            problem=problem,
            under_way=self._credentials.load_pairing(),
            takeover=self._takeover(connection, credentials),
            paired_with=registration.paired_with if registration else "",
            gateway=self._gateway(credentials),
            health=self._health.facts(),
            memory=memory,
        )
        if _configuration_matters(facts):
            return self._with_configuration(facts)
        return replace(facts, memory=replace(memory, seen=None))

    def _load(self, connection: Object | None) -> tuple[StoredCredentials | None, str]:
        try:
            return self._credentials.load(), ""
        except CredentialsMissing as error:
            return None, str(error) if cc.was_established(connection) else ""  # before the first pairing, no loss
        except CredentialsError as error:
            return None, str(error)

    def _takeover(self, connection: Object | None, credentials: StoredCredentials | None) -> Registration | None:
        """What belongs to credentials that the Go agent left: it keeps that in other places."""
        if credentials is None or credentials.registration is not None:
            return None
        identity = self._configurations.identity(connection)
        urls = (connection or {}).get("spec", {}).get("managementInfo") or {}
        if identity is None or not urls.get("directorUrl") or not urls.get("connectorUrl"):
            return None
        return Registration(
            runtime_id=identity[0],
            tenant=identity[1],
            connector_url=urls["connectorUrl"],
            director_url=urls["directorUrl"],
        )

    def _gateway(self, credentials: StoredCredentials | None) -> GatewaySecret:
        if credentials is None or not credentials.ca_pem:
            return GatewaySecret.AS_WANTED
        if not self._credentials.ca_secret_exists():
            return GatewaySecret.MISSING
        differs = self._credentials.ca_secret_differs(credentials.ca_pem)
        return GatewaySecret.DIFFERENT if differs else GatewaySecret.AS_WANTED

    def _with_configuration(self, facts: Facts) -> Facts:
        # Whoever deletes the CompassConnection may have changed the configuration just before.
        deleted_or_new = cc.state_of(facts.connection) is None
        configuration = self._configurations.resolve(facts.connection, live=deleted_or_new)
        beside = ""
        if sources.has_literal_token(facts.connection):
            beside = fingerprint_of(self._configurations.resolve(None))
        memory = replace(facts.memory, seen=_seen(configuration, facts))
        return replace(facts, configuration=configuration, beside=beside, memory=memory)


def _configuration_matters(facts: Facts) -> bool:
    """Not while a connection works: then it is not even read, so that a broken one cannot matter."""
    return (
        not facts.usable
        or facts.knows_nothing_of_credentials
        or bool(facts.refusals)
        or facts.wrong_runtime is not None
        or sources.has_literal_token(facts.connection)
        or facts.under_way is not None
        or revocation.has_mark(facts.connection)
    )


def _seen(configuration: PairingConfiguration | ConfigurationProblem, facts: Facts) -> Seen:
    fingerprint, before = fingerprint_of(configuration), facts.memory.seen
    if before is not None and before.fingerprint == fingerprint:
        return before
    return Seen(fingerprint, facts.now, facts.monotonic, changed=before is not None)
