"""One pairing: a one-time token is exchanged for a key and a certificate in the cluster, with any interruption.

    0  a literal token is moved from the CompassConnection, which many may read, to the client's Secret
    1  the Connector exchanges the configured token for a second one, and returns the subject
    2  key, second token and subject are stored
    3  the Connector signs, which uses the second token
    4  key and certificate are stored, and the state of step 2 is removed

A restart continues at the last step. Two moments cannot be made safe, because the Connector uses a token before its
answer arrives: from 1 to 2 and from 3 to 4, each for the time of one answer and one write. If the process is stopped
then, a new token is needed, and the status says so. A failed write does no harm: it is kept and retried.
"""

import logging
from dataclasses import dataclass, replace
from functools import partial

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from controller.compass import certificates
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    InvalidCredentials,
    Refused,
    Unavailable,
)
from controller.compass.types import SignedCertificate
from controller.connection import configuration as sources
from controller.connection import revocation
from controller.connection.configuration import PairingConfiguration
from controller.connection.credentials import (
    CredentialsReplaced,
    Pairing,
    Registration,
    StoredCredentials,
    fault_of_pairing,
)
from controller.connection.facts import Facts, Unstored, is_final
from controller.connection.policy import Pair, Resume
from controller.connection.reasons import Failure, PairingFailed, Token
from controller.connection.sessions import announced_urls, request_id
from controller.connection.tools import Tools
from controller.resources import CONNECTION_NAME
from informers.errors import ApiError

log = logging.getLogger(__name__)

_RETRIEVE = "Failed to retrieve certificate"
_PRESERVE = "Failed to preserve certificate"


class _NotesChanged(CompassError):
    """The stored state of the pairing in progress was changed. Nothing was sent."""


@dataclass(frozen=True)
class HasPaired:
    """The new credentials, stored, and where the token came from.

    `request_id`: the x-request-id of the call that signed them.
    """

    credentials: StoredCredentials
    origin: str
    ca_pem: bytes
    request_id: str


@dataclass(frozen=True)
class HasNotPaired:
    """`what`: the configuration; `final`: its token is lost; `unstored`: an answer that is not stored yet."""

    what: str
    failed: PairingFailed
    final: bool
    unstored: Unstored | None


class Pairer:
    """Carries out one step after the other. Not thread-safe: one worker pairs."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def run(self, decision: Pair | Resume, facts: Facts) -> HasPaired | HasNotPaired:
        """Pair, or continue a pairing in progress. Raises RevokedMeanwhile."""
        progress = _Progress(decision.pairing if isinstance(decision, Resume) else None, facts.memory.unstored)
        what = progress.pairing.configuration if progress.pairing else facts.what
        origin = progress.pairing.origin if progress.pairing else _configured(decision).origin
        try:
            if progress.pairing is None:
                progress.pairing = self._begin(_configured(decision), facts)
            self._assert_usable(progress.pairing)
            if not progress.pairing.key:
                self._take_over_literal_token(progress.pairing, facts)
                self._trade(progress)
            if progress.signed is None:
                self._sign(progress, facts)
            return self._store(progress, facts)
        except ApiError as error:
            failed = PairingFailed(_PRESERVE, origin, Token.UNTOUCHED, Failure.of(error))
            return HasNotPaired(what, failed, final=False, unstored=progress.unstored)
        except CompassError as error:
            return self._stopped(error, progress, what, origin)
        except (CredentialsReplaced, revocation.RevokedMeanwhile):
            raise
        except Exception as error:
            log.exception("Unexpected error while pairing")
            failed = PairingFailed(_RETRIEVE, origin, Token.UNCERTAIN, Failure.unexpected(error))
            return HasNotPaired(what, failed, final=False, unstored=progress.unstored)

    def _begin(self, configuration: PairingConfiguration, facts: Facts) -> Pairing:
        return Pairing(
            configuration=configuration.fingerprint,
            origin=configuration.origin,
            runtime_id=configuration.runtime_id,
            tenant=configuration.tenant,
            token_url=configuration.connector_url,
            token=configuration.token,
            beside=facts.beside if configuration.literal else "",
            asked_by=facts.connection["metadata"]["uid"] if facts.connection else "",
            since=int(facts.now),
        )

    def _take_over_literal_token(self, pairing: Pairing, facts: Facts) -> None:
        """Step 0. The state is stored before the token is removed from the CompassConnection."""
        if pairing.beside and pairing != facts.under_way:
            self._tools.credentials.save_pairing(pairing)
        self._remove_literal_token(pairing)

    def _trade(self, progress: "_Progress") -> None:
        """Step 1: the token is used when this is sent."""
        pairing = progress.begun
        self._tools.credentials.check_writable()
        # Before the token is used, so that there is no time between the answer and its write.
        key = self._tools.new_key(certificates.MIN_KEY_BITS)
        identifier = request_id(pairing.runtime_id)
        told = {"origin": pairing.origin, "url": pairing.token_url, "requestID": identifier}
        log.info("Pairing with Compass", extra=told)
        with self._tools.sessions.passing_connector(None) as connector:
            offered = connector.configuration(pairing.token_url, token=pairing.token, request_id=identifier)
        progress.traded = True
        bits = certificates.key_bits(offered.key_algorithm)
        if bits != certificates.MIN_KEY_BITS:
            key = self._tools.new_key(bits)
        connector_url, director_url = announced_urls(offered, request_id=identifier)
        progress.pairing = replace(
            pairing,
            connector_url=connector_url,
            director_url=director_url,
            subject=offered.subject,
            key=certificates.key_to_pem(key).decode(),
            token=offered.token or "",
            since=int(self._tools.clock.time()),
        )

    def _sign(self, progress: "_Progress", facts: Facts) -> None:
        """Steps 2 and 3."""
        pairing = progress.begun
        self._tools.credentials.save_pairing(pairing)
        progress.stored = True
        self._remove_literal_token(pairing)
        self._assert_not_revoked(facts)
        csr = self._signing_request(pairing)
        progress.request_id = request_id(pairing.runtime_id)
        with self._tools.sessions.passing_connector(None) as connector:
            progress.signed = connector.sign(
                pairing.token_url, csr, token=pairing.token, request_id=progress.request_id
            )

    def _store(self, progress: "_Progress", facts: Facts) -> HasPaired:
        pairing, signed = progress.begun, progress.signed
        assert signed is not None
        registration = Registration(
            runtime_id=pairing.runtime_id,
            tenant=pairing.tenant,
            connector_url=pairing.connector_url,
            director_url=pairing.director_url,
            paired_with=pairing.configuration,
            origin=pairing.origin,
            asked_by=pairing.asked_by,
            acquired=int(self._tools.clock.time()),
            paired_at=int(self._tools.clock.time()),
        )
        save = partial(
            self._tools.credentials.save,
            key_pem=pairing.key.encode(),
            chain_pem=signed.chain_pem,
            registration=registration,
        )
        try:
            stored = save(replacing=pairing)
        except CredentialsReplaced:
            self._assert_not_revoked(facts)
            stored = save()  # the Secret was deleted or edited, so the new credentials are needed even more
        return HasPaired(stored, pairing.origin, signed.ca_pem, progress.request_id)

    def _stopped(self, error: CompassError, progress: "_Progress", what: str, origin: str) -> HasNotPaired:
        token = _what_became_of_the_token(error, progress)
        failed = PairingFailed(_RETRIEVE, origin, token, Failure.of(error))
        final = is_final(failed, progress.pairing, self._tools.clock.time())
        if token in (Token.SPENT, Token.LOST) and progress.pairing is not None:
            self._forget()
        return HasNotPaired(what, failed, final, unstored=None if final else progress.unstored)

    def _assert_not_revoked(self, facts: Facts) -> None:
        """The mark of a revocation is written before anything is revoked, but may not be in the cache yet."""
        if revocation.is_newly_marked(self._tools.connections.get_live(CONNECTION_NAME), facts.connection):
            raise revocation.RevokedMeanwhile

    def _assert_usable(self, pairing: Pairing) -> None:
        fault = fault_of_pairing(pairing)
        if fault:
            raise self._changed(fault)

    def _signing_request(self, pairing: Pairing) -> bytes:
        try:
            key = certificates.load_key(pairing.key.encode())
            if not isinstance(key, RSAPrivateKey):
                raise self._changed("key is not an RSA key")
            return certificates.build_csr(pairing.subject, key)
        except InvalidCredentials as error:
            raise self._changed(f"key: {error}") from error
        except InvalidAnswer as error:
            raise self._changed(f"subject: {error.problem}") from error

    def _changed(self, fault: str) -> _NotesChanged:
        where = f"Secret {self._tools.credentials.cluster_name}, key pairing"
        return _NotesChanged(f"the stored state of the pairing was changed ({where}): {fault}")

    def _forget(self) -> None:
        """A pairing that cannot continue."""
        try:
            self._tools.credentials.save_pairing(None)
        except ApiError as error:
            log.warning("Cannot remove a failed pairing from its Secret yet", extra={"error": str(error)})

    def _remove_literal_token(self, pairing: Pairing) -> None:
        """A newer token stays, because it was not used."""
        connection = self._tools.connections.get(CONNECTION_NAME)
        if connection is None or not sources.holds_token(connection, pairing.configuration):
            return

        def change(obj: dict[str, object]) -> None:
            if sources.holds_token(obj, pairing.configuration):
                sources.remove_token(obj)

        self._tools.connections.apply_to(connection, change)


@dataclass
class _Progress:
    """The progress of one run. `traded`: the configured token was used in this run."""

    pairing: Pairing | None
    earlier: Unstored | None
    traded: bool = False
    stored: bool = False
    signed: SignedCertificate | None = None
    request_id: str = ""

    def __post_init__(self) -> None:
        if self.earlier is not None and self.pairing is not None and self.earlier.pairing.is_same(self.pairing):
            self.signed, self.request_id = self.earlier.signed, self.earlier.request_id

    @property
    def begun(self) -> Pairing:
        assert self.pairing is not None
        return self.pairing

    @property
    def unstored(self) -> Unstored | None:
        """An answer of the Connector that is not stored in the cluster."""
        pairing = self.pairing
        if pairing is None or not pairing.key:
            return None
        earlier = self.earlier is not None and self.earlier.pairing.is_same(pairing)
        if self.signed is not None or (not self.stored and (self.traded or earlier)):
            return Unstored(pairing, self.signed, self.request_id)
        return None


def _configured(decision: Pair | Resume) -> PairingConfiguration:
    assert isinstance(decision, Pair)
    return decision.configuration


def _what_became_of_the_token(error: CompassError, progress: _Progress) -> Token:
    second = progress.pairing is not None and bool(progress.pairing.key)
    match error:
        case _NotesChanged():
            return Token.LOST
        case Refused(status=0):
            return Token.WRONG_ADDRESS  # an alert of TLS; no certificate is sent
        case Refused():
            return Token.ANSWER_LOST if second else Token.REFUSED
        case InvalidCredentials():
            return Token.SPENT
        case GraphQLError():
            return Token.SPENT if second else Token.UNCERTAIN
        case InvalidAnswer():
            return Token.UNCERTAIN
        case Unavailable(status=status) if status >= 500:
            return Token.UNCERTAIN
        case _:
            return Token.UNTOUCHED
