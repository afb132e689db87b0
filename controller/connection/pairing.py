"""One pairing: a one-time token is exchanged for a key and a certificate in the cluster.

    0  a token in spec.pairing is moved from the CompassConnection, which many may read, to the client's Secret
    1  the Connector exchanges the configured token for a second one, and returns the subject
    2  key, second token and subject are stored
    3  the Connector signs, which uses the second token
    4  key and certificate are stored, and the state of step 2 is removed

If it is interrupted at any point, it continues at the last stored step. A token is sent in two places only: in
`_exchange`, step 1, and in `_sign`, step 3. Two moments cannot be made safe, because the Connector uses a token before
its answer arrives: from 1 to 2 and from 3 to 4, each for the time of one answer and one write. If the answer is lost or
the process is stopped then, the next attempt sends the same token, which Compass refuses: TokenFate.REFUSED in step 1,
TokenFate.ANSWER_LOST in step 3. A new token is needed, and the status says so. A failed write does no harm: the answer
is kept in memory and the write is retried. A renewal uses no token.
"""

import logging
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.compass import certificates
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    InvalidCredentials,
    Refused,
    UnexpectedAnswer,
    may_be_done,
)
from controller.compass.queries import CONFIGURATION
from controller.compass.types import SignedCertificate
from controller.connection import problem
from controller.connection.clients import Dependencies, announced_urls, new_request_id
from controller.connection.configuration import (
    RevokedMeanwhile,
    assert_not_revoked,
    holds_token,
    remove_revocation_mark,
    remove_token,
    revocation_mark,
)
from controller.connection.credentials import (
    CredentialsReplaced,
    Registration,
    StoredCredentials,
    StoredPairing,
    fault_of_pairing,
)
from controller.connection.observations import Failure
from controller.connection.problem import TokenFate
from controller.connection.state import PairingFailure, PairingProgress, State
from controller.resources import CONNECTION_NAME
from informers.errors import ApiError

log = logging.getLogger(__name__)

_RETRIEVE = "Failed to retrieve certificate"
_PRESERVE = "Failed to preserve certificate"

_SECOND_TOKEN_SECONDS = 300.0
"""Lifetime of the token that the Connector returns for the configured one."""

_FIRST_TOKEN_SECONDS = 3600.0
"""The same for the one-time token of a Runtime. When a refusal is final: see _is_final."""


class _StoredPairingChanged(CompassError):
    """The stored state of the pairing in progress was changed. Nothing was sent."""


class Pairing:
    """Carries out one step after the other. Not thread-safe: one worker pairs."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._connections = dependencies.connections
        self._credentials = dependencies.credentials
        self._clients = dependencies.clients
        self._new_key = dependencies.new_key
        self._clock = dependencies.clock

    def run(self, pairing: StoredPairing, state: State) -> StoredCredentials | PairingFailure:
        """Begin this pairing, or continue it. Raises RevokedMeanwhile."""
        unsaved = state.memory.unsaved
        if unsaved is not None and unsaved.pairing.is_same(pairing):
            self._progress = replace(unsaved, pairing=pairing)
        else:
            self._progress = PairingProgress(pairing)
        try:
            self._assert_usable(pairing)
            if not pairing.key:
                self._take_over_spec_token(pairing, state)
                self._exchange(pairing)
            return self._store(self._progress.signed or self._sign(state), state)
        except RevokedMeanwhile:
            raise
        except ApiError as error:
            return self._failed(error, TokenFate.UNTOUCHED, state, prefix=_PRESERVE)
        except CompassError as error:
            return self._failed(error, _fate_of_token(error, self._progress.pairing), state)
        except Exception as error:
            log.exception("Unexpected error while pairing")
            return self._failed(error, TokenFate.UNCERTAIN, state)

    def _assert_usable(self, pairing: StoredPairing) -> None:
        fault = fault_of_pairing(pairing)
        if fault:
            raise self._changed(fault)

    def _take_over_spec_token(self, pairing: StoredPairing, state: State) -> None:
        """Step 0. The state is stored before the token is removed from the CompassConnection."""
        if pairing.is_from_spec and pairing != state.stored_pairing:
            self._credentials.save_pairing(pairing)
        self._remove_spec_token(pairing)

    def _exchange(self, pairing: StoredPairing) -> None:
        """Step 1: the configured token is used when this is sent."""
        self._credentials.check_writable()
        # Before the token is used, so that there is no time between the answer and its write.
        key = self._new_key(certificates.MIN_KEY_BITS)
        identifier = new_request_id(pairing.runtime_id)
        shown = {"origin": pairing.origin, "url": pairing.token_url, "requestID": identifier}
        log.info("Pairing with Compass", extra=shown)
        with self._clients.temporary_connector(None) as connector:
            offered = connector.configuration(pairing.token_url, token=pairing.token, request_id=identifier)
        bits = certificates.key_bits(offered.key_algorithm)
        if bits != certificates.MIN_KEY_BITS:
            key = self._new_key(bits)
        connector_url, director_url = announced_urls(offered, request_id=identifier)
        exchanged = replace(
            pairing,
            connector_url=connector_url,
            director_url=director_url,
            subject=offered.subject,
            key=certificates.key_to_pem(key).decode(),
            token=offered.token or "",
            since=int(self._clock.time()),
        )
        self._progress = PairingProgress(exchanged, is_saved=False)

    def _sign(self, state: State) -> SignedCertificate:
        """Steps 2 and 3: the second token is used when the request is sent."""
        pairing = self._progress.pairing
        self._credentials.save_pairing(pairing)
        self._progress = PairingProgress(pairing)
        self._assert_not_revoked(state)
        self._remove_revocation_mark(state)
        csr = self._signing_request(pairing)
        identifier = new_request_id(pairing.runtime_id)
        with self._clients.temporary_connector(None) as connector:
            signed = connector.sign(pairing.token_url, csr, token=pairing.token, request_id=identifier)
        self._progress = PairingProgress(pairing, signed, identifier)
        return signed

    def _store(self, signed: SignedCertificate, state: State) -> StoredCredentials:
        """Step 4."""
        pairing, now = self._progress.pairing, int(self._clock.time())
        registration = Registration(
            runtime_id=pairing.runtime_id,
            tenant=pairing.tenant,
            connector_url=pairing.connector_url,
            director_url=pairing.director_url,
            paired_with=pairing.configured_token,
            origin=pairing.origin,
            connection_uid=pairing.connection_uid,
            acquired=now,
            paired_at=now,
        )
        key_pem = pairing.key.encode()
        try:
            stored = self._credentials.save(
                key_pem=key_pem, chain_pem=signed.chain_pem, registration=registration, replacing=pairing
            )
        except CredentialsReplaced:
            self._assert_not_revoked(state)
            # The Secret was deleted or edited, so the new credentials are needed even more.
            stored = self._credentials.save(key_pem=key_pem, chain_pem=signed.chain_pem, registration=registration)
        log.info(
            "Paired with Compass", extra={"fingerprint": stored.fingerprint, "requestID": self._progress.request_id}
        )
        return stored

    def _failed(self, error: Exception, fate: TokenFate, state: State, *, prefix: str = _RETRIEVE) -> PairingFailure:
        progress, earlier, cause = self._progress, state.pairing_failure, Failure.of(error)
        pairing = progress.pairing
        now = self._clock.monotonic()
        final = _is_final(fate, pairing, self._clock.time())
        may_have_used = earlier.may_have_used if earlier is not None else ""
        # If the certificate is refused as well, Compass may have an outage, and the token may still be valid.
        outage = bool(state.refusals)
        # The text of a refusal says that an earlier attempt may have used the token: that may be the cause.
        refused = fate in (TokenFate.REFUSED, TokenFate.ANSWER_LOST)
        if fate in (TokenFate.SPENT, TokenFate.STATE_CHANGED):
            self._forget()
        return PairingFailure(
            pairing.configuration,
            problem.pairing_failed(
                prefix,
                cause,
                fate=fate,
                origin=pairing.origin,
                may_have_used=may_have_used if refused else "",
            ),
            fate,
            pairing.origin,
            since=now if outage or state.pairing_failing_since is None else state.pairing_failing_since,
            tried=now,
            final=final,
            may_have_used=cause.text if fate in (TokenFate.UNCERTAIN, TokenFate.SPENT) else may_have_used,
            unsaved=progress if progress.has_unsaved_answer and not final else None,
            retry_after=cause.retry_after,
        )

    def _assert_not_revoked(self, state: State) -> None:
        """The mark of a revocation is written before anything is revoked, but may not be in the cache yet."""
        assert_not_revoked(self._connections.get_live(CONNECTION_NAME), state.connection)

    def _remove_revocation_mark(self, state: State) -> None:
        """That of an earlier connection, before there are credentials to which it would seem to apply."""
        earlier = revocation_mark(state.connection)

        def change(obj: dict[str, Any]) -> None:
            if revocation_mark(obj) == earlier:
                remove_revocation_mark(obj)

        if earlier is not None:
            self._connections.apply_to(state.connection, change)

    def _signing_request(self, pairing: StoredPairing) -> bytes:
        try:
            key = certificates.load_key(pairing.key.encode())
            if not isinstance(key, RSAPrivateKey):
                raise self._changed("key is not an RSA key")
            return certificates.build_csr(pairing.subject, key)
        except InvalidCredentials as error:
            raise self._changed(f"key: {error}") from error
        except InvalidAnswer as error:
            raise self._changed(f"subject: {error.problem}") from error

    def _changed(self, fault: str) -> _StoredPairingChanged:
        where = f"Secret {self._credentials.cluster_name}, key pairing"
        return _StoredPairingChanged(f"the stored state of the pairing was changed ({where}): {fault}")

    def _forget(self) -> None:
        """A pairing that cannot continue."""
        try:
            self._credentials.save_pairing(None)
        except ApiError as error:
            log.warning("Cannot remove a failed pairing from its Secret yet", extra={"error": str(error)})

    def _remove_spec_token(self, pairing: StoredPairing) -> None:
        """A newer token stays, because it was not used."""
        connection = self._connections.get(CONNECTION_NAME)
        if connection is not None and holds_token(connection, pairing.configuration):
            self._connections.apply_to(connection, lambda obj: remove_token(obj, pairing.configuration))


def _fate_of_token(error: CompassError, pairing: StoredPairing) -> TokenFate:
    second = bool(pairing.key)
    match error:
        case _StoredPairingChanged():
            return TokenFate.STATE_CHANGED
        case Refused(status=0):
            return TokenFate.WRONG_ADDRESS  # an alert of TLS; no certificate is sent
        case Refused():
            return TokenFate.ANSWER_LOST if second else TokenFate.REFUSED
        case GraphQLError():
            return TokenFate.SPENT if second else TokenFate.UNCERTAIN
        case InvalidAnswer(path=path) if path.startswith(f"{CONFIGURATION.name}."):
            return TokenFate.SPENT  # the Connector has accepted it
        case UnexpectedAnswer():
            return TokenFate.UNTOUCHED  # that of another server
        case _:
            return TokenFate.UNCERTAIN if may_be_done(error) else TokenFate.UNTOUCHED


def _is_final(fate: TokenFate, pairing: StoredPairing, now: float) -> bool:
    """Whether the pairing can be given up. After a refusal, only when its token has expired; `now` in epoch seconds.

    A configured token in Secret or ConfigMap is never given up: its `since` is the time of this attempt, because no
    earlier one is stored. An outage looks like a refusal, and may last longer than any process.
    """
    if fate in (TokenFate.SPENT, TokenFate.STATE_CHANGED):
        return True
    if fate not in (TokenFate.REFUSED, TokenFate.ANSWER_LOST):
        return False
    lifetime = _SECOND_TOKEN_SECONDS if pairing.key else _FIRST_TOKEN_SECONDS
    return now - pairing.since >= lifetime
