"""Collects the facts: all reads for a decision are here, and none are made after it."""

from dataclasses import replace
from typing import Any

from controller.connection import configuration as sources
from controller.connection import revocation
from controller.connection import status as cc
from controller.connection.configuration import (
    ConfigurationProblem,
    ConfigurationReader,
    PairingConfiguration,
    fault_of,
    fault_of_url,
)
from controller.connection.credentials import (
    CredentialsError,
    CredentialsMissing,
    Registration,
    StoredCredentials,
    fault_of_registration,
    fingerprint_of,
)
from controller.connection.facts import Facts, GatewaySecret, Limits, Memory, Seen
from controller.connection.health import Health
from controller.connection.tools import Tools

Object = dict[str, Any]


class Gatherer:
    """Reads caches, and the API server only if a cache may be outdated or does not have the object."""

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
        """All facts but the waits, with the configuration remembered in `memory`. Raises informers.ApiError."""
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
            takeover=self._takeover(connection, credentials, registration),
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

    def _takeover(
        self, connection: Object | None, credentials: StoredCredentials | None, stored: Registration | None
    ) -> Registration | None:
        """The registration for credentials of the Go agent, which stores it in other places, or for damaged ones."""
        if credentials is None or credentials.registration is not None:
            return None
        ids = self._configurations.identity(connection) or ("", "")
        urls = (connection or {}).get("spec", {}).get("managementInfo") or {}
        known = stored or Registration(runtime_id="", tenant="", connector_url="", director_url="")
        found = replace(
            known,
            runtime_id=ids[0] if fault_of(known.runtime_id) else known.runtime_id,
            tenant=ids[1] if fault_of(known.tenant) else known.tenant,
            connector_url=_usable_url(known.connector_url, urls.get("connectorUrl")),
            director_url=_usable_url(known.director_url, urls.get("directorUrl")),
        )
        return None if fault_of_registration(found) else found

    def _gateway(self, credentials: StoredCredentials | None) -> GatewaySecret:
        if credentials is None or not credentials.ca_pem:
            return GatewaySecret.AS_WANTED
        if not self._credentials.ca_secret_exists():
            return GatewaySecret.MISSING
        differs = self._credentials.ca_secret_differs(credentials.ca_pem)
        return GatewaySecret.DIFFERENT if differs else GatewaySecret.AS_WANTED

    def _with_configuration(self, facts: Facts) -> Facts:
        # The configuration may have been changed just before the CompassConnection was deleted.
        deleted_or_new = cc.state_of(facts.connection) is None
        configuration = self._configurations.resolve(facts.connection, live=deleted_or_new)
        beside = ""
        if sources.has_literal_token(facts.connection):
            beside = fingerprint_of(self._configurations.resolve(None))
        memory = replace(facts.memory, seen=_seen(configuration, facts))
        return replace(facts, configuration=configuration, beside=beside, memory=memory)


def _usable_url(*candidates: object) -> str:
    urls = (value for value in candidates if isinstance(value, str) and not fault_of_url(value))
    return next(urls, "")


def _configuration_matters(facts: Facts) -> bool:
    """False while the connection works: then the configuration is not read, so an invalid one has no effect."""
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
