"""`compass-runtime-agent revoke`: end the connection permanently and delete the credentials.

1  the CompassConnection is marked, so that a running agent neither renews the certificate nor pairs again
2  the certificate is revoked at the Connector, over mTLS; the request and its proof are noted in the CompassConnection
3  the Secret with key and certificate is deleted; if it has another certificate by then, 2 is repeated for that one
4  the gateway's Secret is deleted if possible
5  the status of the CompassConnection is updated (as a running agent would do)

If 2 has certainly not been done, the mark is removed and nothing has changed. `proof` defines the proof. The command
can be run again after an interruption. It exits with 0 only if all steps but 4 are done.
"""

from collections.abc import Callable
from typing import TextIO

from controller.commands import snapshot
from controller.commands.proof import NotRevoked, Revoker, Unknown
from controller.connection import revocation, texts
from controller.connection import status as cc
from controller.connection.configuration import ConfigurationProblem, PairingConfiguration
from controller.connection.credentials import CredentialsError, CredentialsMissing, Registration, StoredCredentials
from controller.connection.facts import Limits
from controller.connection.reasons import RevokedByOperator, Unpaired
from controller.connection.sessions import Sessions
from controller.resources import CONNECTION_NAME
from controller.settings import Settings
from informers import ApiError, Client, Conflict
from workqueue.clock import REAL_CLOCK, Clock

DONE, FAILED = 0, 1

_MAX_CERTIFICATES = 5  # the number of renewals in progress when the mark was set, usually none


class _Failed(Exception):
    """The command cannot continue; the text is for the operator."""


def revoke(
    client: Client,
    settings: Settings,
    *,
    confirm: Callable[[str], bool],
    out: TextIO,
    clock: Clock = REAL_CLOCK,
) -> int:
    """Revoke if `confirm` returns True for its question; returns the exit status."""
    try:
        _Revocation(client, settings, out, clock).run(confirm)
    except _Failed as failure:
        print(failure, file=out)
    except ApiError as error:
        print(f"The API server returned an error: {error}. Run the command again.", file=out)
    else:
        return DONE
    return FAILED


class _Revocation:
    """One run. `_taken` is the last snapshot."""

    def __init__(self, client: Client, settings: Settings, out: TextIO, clock: Clock) -> None:
        self._client = client
        self._settings = settings
        self._out = out
        self._clock = clock
        self._taken = snapshot.take(client, settings)

    def run(self, confirm: Callable[[str], bool]) -> None:
        configuration = self._taken.configurations.resolve(self._taken.connection)
        try:
            credentials = self._load()
        except CredentialsMissing as error:
            if (
                revocation.is_marked(self._taken.connection, configuration)
                and self._taken.credentials.ca_secret_exists()
            ):
                self._finish(configuration)  # an earlier run was interrupted here
                return
            raise _Failed(f"There is no certificate to revoke: {error}") from error
        except CredentialsError as error:
            raise _Failed(f"There is no certificate to revoke: {error}") from error
        registration = _registration(credentials)
        question = (
            f"Revoke the certificate of Runtime {registration.runtime_id} at {registration.connector_url}? The "
            f"Applications stay, but are not updated until a new one-time token is configured."
        )
        if not confirm(question):
            raise _Failed("Nothing was changed.")
        self._taken.connections.apply(CONNECTION_NAME, lambda obj: revocation.mark(obj, configuration))
        self._revoke_all(credentials)
        self._finish(configuration)

    def _load(self) -> StoredCredentials:
        return self._taken.credentials.load()

    def _revoke_all(self, credentials: StoredCredentials) -> None:
        """A renewal in progress may store another certificate after the first is revoked."""
        for number in range(_MAX_CERTIFICATES):
            self._revoke(credentials, anything_done=number > 0)
            try:
                self._taken.credentials.delete_client()
            except Conflict:
                self._taken = snapshot.take(self._client, self._settings)
                try:
                    credentials = self._load()
                except CredentialsError:
                    return
            else:
                return
        raise _Failed("The certificate was replaced at each attempt. Stop the agent, and run the command again.")

    def _revoke(self, credentials: StoredCredentials, *, anything_done: bool) -> None:
        certificate = credentials.fingerprint
        connection = self._taken.connections.get(CONNECTION_NAME)
        if revocation.is_proven(connection, certificate):
            print("The certificate was already revoked by an earlier run.", file=self._out)
            return
        try:
            told = self._at_connector(credentials)
        except Unknown as failure:
            raise _Failed(str(failure)) from failure
        except NotRevoked as failure:
            if anything_done:
                raise _Failed(f"For a certificate that was renewed meanwhile: {failure}") from failure
            self._taken.connections.apply(CONNECTION_NAME, revocation.unmark)
            raise _Failed(str(failure)) from failure
        self._taken.connections.apply(CONNECTION_NAME, lambda obj: revocation.note_proof(obj, certificate))
        print(told, file=self._out)

    def _at_connector(self, credentials: StoredCredentials) -> str:
        """Returns the proof; raises NotRevoked."""
        certificate, now = credentials.fingerprint, self._clock.time()

        def note(obj: dict[str, object]) -> None:
            revocation.note_question(obj, certificate, now)

        settings = self._settings
        sessions = Sessions(ca_file=settings.compass_ca_file, skip_verify=settings.skip_compass_tls_verify)
        try:
            return Revoker(
                sessions=sessions,
                tolerance=Limits.of(settings).refusal_tolerance,
                clock=self._clock,
                out=self._out,
            ).revoke(
                credentials,
                _registration(credentials),
                asked_before=revocation.was_asked(self._taken.connections.get(CONNECTION_NAME), certificate, now),
                about_to_ask=lambda: self._taken.connections.apply(CONNECTION_NAME, note),
            )
        finally:
            sessions.close()

    def _finish(self, configuration: PairingConfiguration | ConfigurationProblem) -> None:
        try:
            self._taken.credentials.delete_ca()
        except ApiError as error:
            print(f"The Secret {self._settings.ca_certificates_secret} could not be deleted: {error}", file=self._out)
        origin = configuration.origin if isinstance(configuration, PairingConfiguration) else ""
        reason = texts.reason_text(Unpaired(RevokedByOperator(origin)))

        def change(obj: dict[str, object]) -> None:
            cc.failed(obj, cc.State.CONNECTION_FAILED, reason, now=self._clock.time())
            cc.describe_certificate(obj, None)

        self._taken.connections.apply(CONNECTION_NAME, change)
        print(f"The credentials are deleted; {reason}.", file=self._out)


def _registration(credentials: StoredCredentials) -> Registration:
    if credentials.registration is None:
        why = credentials.damage or "the agent has not adopted the credentials yet"
        raise _Failed(f"The URL of the Connector is unknown: {why}.")
    return credentials.registration
