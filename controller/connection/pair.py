"""One pairing: a one-time token becomes a key and a certificate in the cluster, whatever interrupts it.

    1  the Connector trades the configured token for a second one, and tells the subject
    2  key, second token and subject are stored
    3  the Connector signs, which spends the second token
    4  key and certificate are stored, and the notes of step 2 go

A restart goes on at 3. Two moments cannot be made safe, since the Connector spends a token before its answer is here:
from 1 to 2 and from 3 to 4, each as long as one answer and one write take. Whoever is stopped just then needs a new
token, and is told so. A write that fails does not matter: what is to be written is kept and written later.
"""

import logging
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.compass import certificates
from controller.compass.errors import CompassError, GraphQLError, InvalidAnswer, InvalidCredentials, Refused
from controller.compass.types import SignedCertificate
from controller.connection import configuration as sources
from controller.connection.configuration import PairingConfiguration
from controller.connection.credentials import (
    Connection,
    CredentialsStore,
    Pairing,
    StoredCredentials,
    pairing_matches,
)
from controller.connection.sessions import Sessions, announced_urls, request_id
from controller.connection.store import ConnectionStore
from controller.resources import CONNECTION_NAME
from informers.errors import ApiError

_log = logging.getLogger(__name__)

_TOKEN_SPENT = (Refused, GraphQLError, InvalidAnswer, InvalidCredentials)
"""After one of these, a pairing under way cannot go on: its token is spent, or its key is unreadable."""

Object = dict[str, Any]


class PairingFailed(Exception):
    """``reason`` and ``advice`` are for people; ``request_id`` for Compass' operators; ``__cause__`` is the error."""

    def __init__(self, reason: str, *, advice: str = "", request_id: str = "") -> None:
        super().__init__(f"{reason} ({advice})" if advice else reason)
        self.request_id = request_id


class PairingProcedure:
    """Not thread-safe: one worker pairs."""

    def __init__(
        self,
        *,
        connections: ConnectionStore,
        credentials: CredentialsStore,
        sessions: Sessions,
        new_key: Callable[[], RSAPrivateKey],
    ) -> None:
        self._connections = connections
        self._credentials = credentials
        self._sessions = sessions
        self._new_key = new_key
        self._key: RSAPrivateKey | None = None  # made before a token is spent, and good for the next try
        self._offered: Pairing | None = None  # step 1 is done, step 2 is not
        self._signed: tuple[Pairing, SignedCertificate] | None = None  # step 3 is done, step 4 is not
        self._failed_after: tuple[str, str] = ("", "")  # a configuration whose token is spent, and what failed then

    def under_way(self, configuration: PairingConfiguration | None) -> Pairing | None:
        """The pairing to go on with, if there is one for this configuration."""
        for pairing in (self._offered, self._credentials.load_pairing()):
            if pairing is not None and pairing_matches(pairing, configuration):
                return pairing
        return None

    def run(self, configuration: PairingConfiguration | None, pairing: Pairing | None) -> tuple[StoredCredentials, str]:
        """Pair, or go on with ``pairing``. Gives the new credentials, stored, and where the token came from.

        Raises PairingFailed.
        """
        resumed = pairing is not None
        try:
            if pairing is None:
                if configuration is None:
                    raise ValueError("there is neither a configuration nor a pairing under way")
                pairing = self._offered = self._begin(configuration)
            return self._finish(pairing), pairing.origin
        except ApiError as error:
            raise PairingFailed(f"Failed to preserve certificate: {error}") from error
        except CompassError as error:
            raise self._told(error, configuration, pairing, resumed=resumed) from error

    def _begin(self, configuration: PairingConfiguration) -> Pairing:
        self._credentials.check_writable()
        if self._key is None:
            self._key = self._new_key()
        identifier = request_id(configuration.runtime_id)
        _log.info("pairing with Compass", extra={"origin": configuration.origin, "url": configuration.connector_url})
        with self._sessions.pairing_connector() as connector:
            offered = connector.configuration(
                configuration.connector_url, token=configuration.token, request_id=identifier
            )
        connector_url, director_url = announced_urls(offered, request_id=identifier)
        return Pairing(
            configuration=configuration.fingerprint,
            origin=configuration.origin,
            from_connection=configuration.from_connection,
            runtime_id=configuration.runtime_id,
            tenant=configuration.tenant,
            token_url=configuration.connector_url,
            connector_url=connector_url,
            director_url=director_url,
            subject=offered.subject,
            key=certificates.key_to_pem(self._key).decode(),
            token=offered.token or "",
        )

    def _finish(self, pairing: Pairing) -> StoredCredentials:
        if self._signed is None or self._signed[0] != pairing:
            self._credentials.save_pairing(pairing)
            self._offered = None
            connection = self._connections.get(CONNECTION_NAME)
            if connection is not None:
                self._connections.update(connection, lambda obj: _remove_literal_token(obj, pairing))
            csr = certificates.build_csr(pairing.subject, _rsa_key(pairing.key))
            with self._sessions.pairing_connector() as connector:
                signed = connector.sign(
                    pairing.token_url, csr, token=pairing.token, request_id=request_id(pairing.runtime_id)
                )
            self._signed = (pairing, signed)
        signed = self._signed[1]
        known = Connection(
            runtime_id=pairing.runtime_id,
            tenant=pairing.tenant,
            connector_url=pairing.connector_url,
            director_url=pairing.director_url,
            paired_with=pairing.configuration,
        )
        fresh = self._credentials.save(key_pem=pairing.key.encode(), chain_pem=signed.chain_pem, connection=known)
        self._signed = self._key = self._offered = None
        self._failed_after = ("", "")
        self._save_ca(signed.ca_pem)
        return fresh

    def _save_ca(self, ca_pem: bytes) -> None:
        """The gateway's copy of the CA: no reason to fail a pairing, since renewal looks after it from now on."""
        try:
            self._credentials.save_ca(ca_pem)
        except ApiError as error:
            _log.warning(
                "CA certificate not stored", extra={"secret": str(self._credentials.ca_name), "error": str(error)}
            )

    def _told(
        self, error: CompassError, configuration: PairingConfiguration | None, pairing: Pairing | None, *, resumed: bool
    ) -> PairingFailed:
        """The failure with what to do about it; a pairing that cannot go on is forgotten."""
        advice = ""
        if isinstance(error, _TOKEN_SPENT):
            origin = pairing.origin if pairing else configuration.origin if configuration else ""
            what = pairing.configuration if pairing else configuration.fingerprint if configuration else ""
            earlier = self._failed_after[1] if self._failed_after[0] == what else ""
            if pairing is not None and resumed and isinstance(error, Refused):
                advice = "an answer of the Connector was lost, and the one-time token with it"
            elif isinstance(error, Refused):
                advice = earlier or "the one-time token is unknown, expired or used"
            elif isinstance(error, InvalidCredentials):
                advice = "the notes of the pairing under way were changed"
            else:
                advice = "the one-time token is used up by now"
            if not isinstance(error, Refused) or pairing is not None:
                self._failed_after = (what, f"before, its one-time token was used up: {error}")
            advice += f"; put a new one-time token into {origin}"
            self._forget(pairing)
        text = f"Failed to retrieve certificate: {error}"
        return PairingFailed(text, advice=advice, request_id=error.request_id)

    def _forget(self, pairing: Pairing | None) -> None:
        self._offered = self._signed = None
        if pairing is None:
            return
        self._key = None  # it may be the one that the notes had, and those are not to be trusted
        try:
            self._credentials.save_pairing(None)
        except ApiError as error:
            _log.warning("a pairing that failed is not forgotten yet", extra={"error": str(error)})


def _rsa_key(pem: str) -> RSAPrivateKey:
    key = certificates.load_key(pem.encode())
    if not isinstance(key, RSAPrivateKey):
        raise InvalidCredentials("the key of the pairing under way is no RSA key", part="key")
    return key


def _remove_literal_token(obj: Object, pairing: Pairing) -> None:
    """A token that is spent has no business in an object that many may read. A newer one stays: it was not used."""
    if sources.holds_token(obj, pairing.configuration):
        obj["spec"]["pairing"].pop("token")
