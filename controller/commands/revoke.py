"""``compass-runtime-agent revoke``: end the connection for good, with nothing left that could be used.

1  the CompassConnection is marked, so that a running agent neither renews the certificate nor pairs again
2  the certificate is revoked at the Connector, over mTLS; that this is proven is noted in the CompassConnection
3  the Secret with key and certificate is deleted; if it holds another certificate by then, 2 follows for that one
4  the gateway's Secret is deleted, if it can be
5  the CompassConnection tells it (a running agent would write the very same)

When 2 fails, the mark is taken away and nothing has changed. Proven is what the Connector confirms, and a refusal of
its own while the Director answers and does not know the certificate either. Ended in between, the command can be run
again. It ends with 0 only when all but 4 is done.
"""

import time
from collections.abc import Callable
from typing import TextIO

from controller.commands import snapshot
from controller.compass.director import DirectorClient
from controller.compass.errors import CompassError, Refused
from controller.connection import revocation, texts
from controller.connection import status as cc
from controller.connection.configuration import ConfigurationProblem, PairingConfiguration
from controller.connection.credentials import CredentialsError, CredentialsMissing, Registration, StoredCredentials
from controller.connection.reasons import RevokedByOperator, Unpaired
from controller.connection.sessions import Sessions, request_id
from controller.resources import CONNECTION_NAME
from controller.settings import Settings
from informers import ApiError, Client, Conflict

DONE, FAILED = 0, 1

_MAX_CERTIFICATES = 5  # renewals that were under way when the mark was set; there is hardly ever one


class _Failed(Exception):
    """Nothing more can be done; the text is for the operator."""


def revoke(
    client: Client,
    settings: Settings,
    *,
    confirm: Callable[[str], bool],
    out: TextIO,
    now: Callable[[], float] = time.time,
) -> int:
    """Revoke, when ``confirm`` says yes to the question it is given; gives the exit status."""
    try:
        _Revocation(client, settings, out, now).run(confirm)
    except _Failed as failure:
        print(failure, file=out)
    except ApiError as error:
        print(f"The API server returned an error: {error}. Run the command again.", file=out)
    else:
        return DONE
    return FAILED


class _Revocation:
    """One run. ``_taken`` is what there was when it was last read."""

    def __init__(self, client: Client, settings: Settings, out: TextIO, now: Callable[[], float]) -> None:
        self._client = client
        self._settings = settings
        self._out = out
        self._now = now
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
                self._finish(configuration)  # a run before was ended just here
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
        """A renewal that was under way may store another certificate after the first is revoked."""
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
        except CompassError as error:
            if anything_done:
                raise _Failed(f"A renewed certificate could not be revoked: {error}. Run the command again.") from error
            self._taken.connections.apply(CONNECTION_NAME, revocation.unmark)
            raise _Failed(f"The certificate could not be revoked, and nothing was changed: {error}") from error
        self._taken.connections.apply(CONNECTION_NAME, lambda obj: revocation.note_proof(obj, certificate))
        print(told, file=self._out)

    def _at_connector(self, credentials: StoredCredentials) -> str:
        """Gives what is proven; raises CompassError when nothing is."""
        registration = _registration(credentials)
        sessions = Sessions(ca_file=self._settings.compass_ca_file, skip_verify=self._settings.skip_compass_tls_verify)
        try:
            sessions.connector(credentials).revoke(
                registration.connector_url, request_id=request_id(registration.runtime_id)
            )
        except Refused as error:
            if self._now() < credentials.not_after and _is_accepted(sessions.director(credentials, registration)):
                raise
            return f"There is nothing to revoke: Compass no longer accepts the certificate: {error}"
        finally:
            sessions.close()
        return "The certificate is revoked."

    def _finish(self, configuration: PairingConfiguration | ConfigurationProblem) -> None:
        try:
            self._taken.credentials.delete_ca()
        except ApiError as error:
            print(f"The Secret {self._settings.ca_certificates_secret} could not be deleted: {error}", file=self._out)
        origin = configuration.origin if isinstance(configuration, PairingConfiguration) else ""
        reason = texts.reason_text(Unpaired(RevokedByOperator(origin)))

        def change(obj: dict[str, object]) -> None:
            cc.failed(obj, cc.State.CONNECTION_FAILED, reason, now=self._now())
            cc.describe_certificate(obj, None)

        self._taken.connections.apply(CONNECTION_NAME, change)
        print(f"The credentials are deleted; {reason}.", file=self._out)


def _is_accepted(director: DirectorClient) -> bool:
    """Whether the Director knows whose certificate it is; raises CompassError when it does not answer."""
    try:
        return director.viewer(request_id=request_id()) is not None
    except Refused:
        return False


def _registration(credentials: StoredCredentials) -> Registration:
    if credentials.registration is None:
        why = credentials.damage or "the agent has not adopted the credentials yet"
        raise _Failed(f"The URL of the Connector is unknown: {why}.")
    return credentials.registration
