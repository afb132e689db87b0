"""The calls to the Connector with the certificate: the check, and the renewal, which needs no token.

The certificate in use stays until the new one is valid, accepted by the Connector, and stored. One that has to wait is
in the same Secret, so a restart finds it.
"""

import logging
from dataclasses import replace

from controller.compass import certificates
from controller.compass.errors import CompassError, InvalidAnswer, InvalidCredentials, Refused
from controller.connection import status
from controller.connection.clients import Dependencies, announced_urls, new_request_id
from controller.connection.configuration import assert_not_revoked
from controller.connection.credentials import PendingCertificate, Registration, StoredCredentials, build_credentials
from controller.connection.problem import clock_difference
from controller.connection.rules import Renew
from controller.connection.state import State
from controller.resources import CONNECTION_NAME
from informers import Stopped

log = logging.getLogger(__name__)


class RenewedCertificateUnusable(CompassError):
    """The new certificate must not replace one that works."""


class RenewalDeferred(RenewedCertificateUnusable):
    """Compass issues certificates that would end before the one in use, until this time (epoch seconds)."""

    def __init__(self, text: str, *, until: float, request_id: str) -> None:
        super().__init__(text, request_id=request_id)
        self.until = until


class Renewal:
    """Not thread-safe: one worker renews.

    Methods raise CompassError, informers.ApiError, and CredentialsReplaced if their credentials are not stored any
    more.
    """

    def __init__(self, dependencies: Dependencies) -> None:
        self._connections = dependencies.connections
        self._credentials = dependencies.credentials
        self._clients = dependencies.clients
        self._new_key = dependencies.new_key
        self._clock = dependencies.clock

    def check(self, state: State) -> None:
        """Check the certificate with the Connector, and store the URLs of Compass if they have changed.

        A new address of the Connector is called before it is stored: if it is wrong, Compass can announce a correction
        only at the old one.
        """
        registration = state.registration
        connector = self._clients.connector(state.credentials)
        identifier = new_request_id(registration.runtime_id)
        with self._credentials.unchanged(state.credentials):
            offered = connector.configuration(registration.connector_url, request_id=identifier)
        connector_url, director_url = announced_urls(offered, request_id=identifier)
        if director_url != registration.director_url:
            registration = replace(registration, director_url=director_url)
            self._store_urls(registration, state)
        if connector_url != registration.connector_url:
            try:
                with self._credentials.unchanged(state.credentials):
                    connector.configuration(connector_url, request_id=identifier)
            except CompassError as error:
                raise InvalidAnswer(
                    f"the new address {connector_url} cannot be used: {error}",
                    path="configuration.managementPlaneInfo.certificateSecuredConnectorURL",
                    request_id=identifier,
                ) from error
            self._store_urls(replace(registration, connector_url=connector_url), state)

    def _store_urls(self, registration: Registration, state: State) -> None:
        self._credentials.save_registration(registration, state.credentials)
        urls = {"connector": registration.connector_url, "director": registration.director_url}
        log.info("The URLs of Compass have changed", extra=urls)

    def renew(self, cause: Renew, state: State) -> StoredCredentials | None:
        """Request a certificate, or use the pending one. None: it is pending, because it is not valid yet.

        Also raises RevokedMeanwhile.
        """
        pending = state.pending
        if pending is None:
            self._credentials.check_writable()  # before a certificate is issued that could not be stored
            identifier = new_request_id(state.registration.runtime_id)
            log.info("Renewing the certificate", extra={"reason": cause.value, "requestID": identifier})
            pending = self._sign(state, identifier)
        try:
            self._assert_usable(pending, state)
            if self._clock.time() >= pending.valid_from:
                return self._put_into_use(pending, state)
        except (Refused, InvalidCredentials, RenewedCertificateUnusable) as error:
            if state.pending is not None:
                self._credentials.save_pending(None, replacing=state.credentials)
            if isinstance(error, RenewedCertificateUnusable):
                raise
            what = "the Connector does not accept the" if isinstance(error, Refused) else "there is a damaged"
            text = f"{what} renewed certificate: {error}"
            raise RenewedCertificateUnusable(text, request_id=error.request_id) from error
        except (CompassError, Stopped):
            self._keep(pending, state)
            raise
        self._keep(pending, state)
        return None

    def _sign(self, state: State, identifier: str) -> PendingCertificate:
        credentials, registration = state.credentials, state.registration
        connector = self._clients.connector(credentials)
        with self._credentials.unchanged(credentials):
            offered = connector.configuration(registration.connector_url, request_id=identifier)
        key = self._new_key(certificates.key_bits(offered.key_algorithm))
        csr = certificates.build_csr(offered.subject, key)
        # The mark of a revocation is written before anything is revoked, but may not be in the cache yet.
        assert_not_revoked(self._connections.get_live(CONNECTION_NAME), state.connection)
        with self._credentials.unchanged(credentials):
            signed = connector.sign(registration.connector_url, csr, request_id=identifier)
        return PendingCertificate(
            replaces=credentials.fingerprint,
            key=certificates.key_to_pem(key).decode(),
            chain=signed.chain_pem.decode(),
            received=int(self._clock.time()),
            valid_from=int(signed.leaf.not_before.timestamp()),
            valid_until=int(signed.leaf.not_after.timestamp()),
            request_id=identifier,
        )

    def _assert_usable(self, pending: PendingCertificate, state: State) -> None:
        now = self._clock.time()
        if pending.received >= pending.valid_until:
            difference = clock_difference(pending.received - pending.valid_until)
            text = f"the renewed certificate had already expired when it was received: {difference}"
        elif now >= pending.valid_until:
            text = f"the renewed certificate expired at {status.timestamp(pending.valid_until)}, before it was used"
        elif pending.valid_until < int(state.credentials.not_after):
            ends = status.timestamp(pending.valid_until)
            text = f"the renewed certificate ends before the one in use, at {ends}; the one in use stays"
            until = state.credentials.not_after - (pending.valid_until - pending.valid_from)
            if until > now:
                text = f"{text}, and the next one is requested at {status.timestamp(until)}"
                raise RenewalDeferred(text, until=until, request_id=pending.request_id)
        else:
            return
        raise RenewedCertificateUnusable(text, request_id=pending.request_id)

    def _put_into_use(self, pending: PendingCertificate, state: State) -> StoredCredentials:
        """Store the certificate after the Connector has accepted it."""
        registration = replace(state.registration, acquired=int(self._clock.time()))
        key_pem, chain_pem = pending.key.encode(), pending.chain.encode()
        credentials = build_credentials(key_pem, chain_pem, registration)
        with self._clients.temporary_connector(credentials) as connector:
            connector.configuration(registration.connector_url, request_id=pending.request_id)
        stored = self._credentials.save(
            key_pem=key_pem, chain_pem=chain_pem, registration=registration, replacing=state.credentials
        )
        log.info("Certificate renewed", extra={"fingerprint": stored.fingerprint, "requestID": pending.request_id})
        return stored

    def _keep(self, pending: PendingCertificate, state: State) -> None:
        if state.pending is None:
            self._credentials.save_pending(pending, replacing=state.credentials)
