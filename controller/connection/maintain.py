"""The actions with credentials that work: checks with the Connector, renewal, and the gateway's copy of the CA.

A renewal needs no token. The old certificate is used until the new one is valid, accepted by the Connector, and stored.
After an interruption the renewal begins again.
"""

import logging
from dataclasses import dataclass, replace

from controller.compass import certificates
from controller.compass.errors import CompassError, Refused
from controller.connection import revocation, texts
from controller.connection import status as cc
from controller.connection.credentials import Registration, StoredCredentials, read_credentials
from controller.connection.facts import Facts, Fresh
from controller.connection.policy import RenewalCause
from controller.connection.reasons import Failure
from controller.connection.sessions import announced_urls, request_id
from controller.connection.tools import Tools
from controller.resources import CONNECTION_NAME
from informers.errors import ApiError

log = logging.getLogger(__name__)


class RenewedCertificateUnusable(CompassError):
    """The new certificate must not replace one that works."""


@dataclass(frozen=True)
class HasRenewed:
    """The new credentials, stored. `request_id`: the x-request-id of the call that signed them."""

    credentials: StoredCredentials
    ca_pem: bytes
    request_id: str


@dataclass(frozen=True)
class HasSigned:
    """A new certificate that is not used yet: it is not valid yet, or its check or write has failed."""

    fresh: Fresh
    failure: Failure | None


class Maintainer:
    """Not thread-safe: one worker maintains.

    Methods raise CompassError, informers.ApiError, and CredentialsReplaced if their credentials are not stored any
    more.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def check(self, facts: Facts) -> None:
        """Check the certificate with the Connector, and store the URLs of Compass if they have changed."""
        registration = facts.registration
        connector = self._tools.sessions.connector(facts.current)
        identifier = request_id(registration.runtime_id)
        with self._tools.credentials.in_use(facts.current):
            offered = connector.configuration(registration.connector_url, request_id=identifier)
        urls = announced_urls(offered, request_id=identifier)
        moved = replace(registration, connector_url=urls[0], director_url=urls[1])
        if moved != registration:
            self._tools.credentials.save_registration(moved, facts.current)
            log.info("The URLs of Compass have changed", extra={"connector": urls[0], "director": urls[1]})

    def renew(self, cause: RenewalCause, facts: Facts) -> HasRenewed | HasSigned:
        """Request a certificate, or use one that was signed before. Also raises revocation.RevokedMeanwhile."""
        self._tools.credentials.check_writable()  # before a certificate is issued that could not be stored
        fresh = facts.fresh
        if fresh is None:
            identifier = request_id(facts.registration.runtime_id)
            log.info("Renewing the certificate", extra={"reason": cause.value, "requestID": identifier})
            fresh = self._sign(facts, identifier)
        now = self._tools.clock.time()
        not_after = fresh.signed.leaf.not_after.timestamp()
        if now >= not_after:
            difference = texts.clock_difference(now - not_after)
            raise RenewedCertificateUnusable(
                f"the renewed certificate had already expired when it was received: {difference}",
                request_id=fresh.request_id,
            )
        ends = fresh.signed.leaf.not_after.timestamp()
        if ends < facts.current.not_after:
            raise RenewedCertificateUnusable(
                f"the renewed certificate ends before the one in use, at {cc.timestamp(ends)}; the one in use stays",
                request_id=fresh.request_id,
            )
        if now < fresh.valid_from:
            return HasSigned(fresh, None)
        try:
            return self._put_into_use(fresh, facts, now)
        except Refused as error:
            text = f"the Connector does not accept the renewed certificate: {error}"
            raise RenewedCertificateUnusable(text, request_id=error.request_id) from error
        except (CompassError, ApiError) as error:
            return HasSigned(fresh, Failure.of(error))

    def share(self, ca_pem: bytes, *, dry_run: bool = False) -> None:
        """Write the gateway's copy of the CA certificates."""
        self._tools.credentials.save_ca(ca_pem, dry_run=dry_run)

    def adopt(self, registration: Registration, facts: Facts) -> None:
        """Store the registration of the certificate."""
        assert facts.credentials is not None
        self._tools.credentials.save_registration(registration, facts.credentials)
        log.info("Stored the registration of the certificate", extra={"runtime": registration.runtime_id})

    def give_up_pairing(self) -> None:
        """Remove the pairing in progress."""
        self._tools.credentials.save_pairing(None)

    def _sign(self, facts: Facts, identifier: str) -> Fresh:
        credentials, registration = facts.current, facts.registration
        connector = self._tools.sessions.connector(credentials)
        with self._tools.credentials.in_use(credentials):
            offered = connector.configuration(registration.connector_url, request_id=identifier)
        urls = announced_urls(offered, request_id=identifier)
        key = self._tools.new_key(certificates.key_bits(offered.key_algorithm))
        csr = certificates.build_csr(offered.subject, key)
        # The mark of a revocation is written before anything is revoked, but may not be in the cache yet.
        if revocation.is_newly_marked(self._tools.connections.get_live(CONNECTION_NAME), facts.connection):
            raise revocation.RevokedMeanwhile
        with self._tools.credentials.in_use(credentials):
            signed = connector.sign(registration.connector_url, csr, request_id=identifier)
        return Fresh(
            replaces=credentials.fingerprint,
            key_pem=certificates.key_to_pem(key),
            signed=signed,
            registration=replace(registration, connector_url=urls[0], director_url=urls[1]),
            received=self._tools.clock.time(),
            request_id=identifier,
        )

    def _put_into_use(self, fresh: Fresh, facts: Facts, now: float) -> HasRenewed:
        """Store the certificate after the Connector has accepted it."""
        registration = replace(fresh.registration, acquired=int(now))
        credentials = read_credentials(fresh.key_pem, fresh.signed.chain_pem, registration)
        with self._tools.sessions.passing_connector(credentials) as connector:
            connector.configuration(registration.connector_url, request_id=fresh.request_id)
        stored = self._tools.credentials.save(
            key_pem=fresh.key_pem,
            chain_pem=fresh.signed.chain_pem,
            registration=registration,
            replacing=facts.current,
        )
        return HasRenewed(stored, fresh.signed.ca_pem, fresh.request_id)
