"""`compass-runtime-agent revoke`: end the connection permanently and delete the credentials.

1  the CompassConnection is marked, so that a running agent neither renews the certificate nor pairs again
2  the Connector revokes the certificate, over mTLS, and confirms it; before that, a renewed one that is not used yet
3  the Secret with key and certificate is deleted; if it has other certificates by then, 2 is repeated for these
4  the gateway's Secret is deleted if possible
5  the status of the CompassConnection is updated (as a running agent would do)

Only a confirmation of the Connector leads past step 2: during an outage of its Director or its database, Compass
refuses every certificate with the answers that it gives for a revoked one. The mark is removed if certainly nothing was
done.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from controller.commands import snapshot
from controller.compass.errors import (
    CompassError,
    InvalidCredentials,
    Refused,
    may_be_done,
)
from controller.connection import problem, status
from controller.connection.clients import CompassClients, new_request_id
from controller.connection.configuration import (
    Configuration,
    is_revoked,
    mark_revoked,
    remove_revocation_mark,
)
from controller.connection.credentials import (
    CredentialsError,
    CredentialsMissing,
    GatewaySecret,
    PendingCertificate,
    Registration,
    StoredCredentials,
    build_credentials,
)
from controller.resources import CONNECTION_NAME
from controller.settings import Settings
from informers import ApiError, Client, Conflict

DONE, FAILED = 0, 1

_MAX_CHANGES = 5  # of the Secret, by renewals in progress when the mark was set, usually none


class _Failed(Exception):
    """The command cannot continue; the text is for the operator."""


class _NotRevoked(_Failed):
    """This certificate was certainly not revoked."""


def revoke(
    client: Client,
    settings: Settings,
    *,
    confirm: Callable[[str], bool],
    out: TextIO,
    now: Callable[[], float] = time.time,
) -> int:
    """Revoke if `confirm` returns True for its question; returns the exit status. `now`: epoch seconds."""
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
    """One run. `_snapshot`: the last one; `_revoked`: fingerprints of the certificates that this run has revoked.

    `_not_revoked` says which certificate Compass does not accept and so does not revoke.
    """

    def __init__(self, client: Client, settings: Settings, out: TextIO, now: Callable[[], float]) -> None:
        self._client = client
        self._settings = settings
        self._out = out
        self._now = now
        self._snapshot = snapshot.take(client, settings)
        self._revoked: set[str] = set()
        self._not_revoked = ""

    def run(self, confirm: Callable[[str], bool]) -> None:
        configuration = self._snapshot.configurations.resolve(self._snapshot.connection)
        marked_before = is_revoked(self._snapshot.connection, configuration)
        try:
            credentials = self._snapshot.credentials.load()
        except CredentialsError as error:
            gateway = self._snapshot.credentials.gateway_secret(b"")
            reported = _reason(configuration) in status.connection_error(self._snapshot.connection)
            is_finished = reported and gateway is GatewaySecret.MISSING
            if not marked_before or is_finished or not isinstance(error, CredentialsMissing):
                raise _Failed(f"There is no certificate to revoke: {error}") from error
            self._finish(configuration)
            return
        registration = _registration(credentials)
        question = (
            f"Revoke the certificate of Runtime {registration.runtime_id} at {registration.connector_url}? The "
            f"Applications stay, but are not updated until a new one-time token is configured."
        )
        if not confirm(question):
            raise _Failed("Nothing was changed.")
        self._snapshot.connections.apply(CONNECTION_NAME, lambda obj: mark_revoked(obj, configuration))
        try:
            self._revoke_and_delete(credentials)
        except _NotRevoked as failure:
            if self._revoked:
                raise
            if not marked_before:
                self._snapshot.connections.apply(CONNECTION_NAME, remove_revocation_mark)
            raise _Failed(f"{failure} Nothing was changed.") from failure
        self._finish(configuration)

    def _revoke_and_delete(self, credentials: StoredCredentials) -> None:
        """A renewal in progress may store another certificate after the first is revoked. Raises _NotRevoked."""
        self._revoke_all(credentials, "certificate")
        for _ in range(_MAX_CHANGES):
            try:
                self._snapshot.credentials.delete_client()
            except Conflict:
                self._snapshot = snapshot.take(self._client, self._settings)
            except ApiError as error:
                where = self._settings.cluster_certificates_secret
                raise _Failed(f"The Secret {where} could not be deleted: {error}. Delete it.") from error
            else:
                return
            with suppress(CredentialsError):  # without readable ones, only the Secret has to be deleted
                self._revoke_all(self._snapshot.credentials.load(), "certificate that was renewed meanwhile")
        raise _Failed("The Secret was changed at each attempt. Stop the agent, and delete the Secret.")

    def _revoke_all(self, credentials: StoredCredentials, name: str) -> None:
        """The renewed certificate first: if the Connector fails after it, the next run skips it and revokes the other.

        Raises _NotRevoked.
        """
        registration = _registration(credentials)
        pending = self._snapshot.credentials.read().pending
        if pending is not None and self._now() < pending.valid_until:
            self._revoke_pending(pending, registration)
        try:
            self._revoke(credentials, registration, name)
        except Refused as error:
            raise _NotRevoked(self._refused(error, credentials, name)) from error

    def _revoke_pending(self, pending: PendingCertificate, registration: Registration) -> None:
        """Compass may refuse it because it is not valid yet. Then its key is deleted, without which it is useless."""
        name = "renewed certificate, which is not used yet,"
        try:
            credentials = build_credentials(pending.key.encode(), pending.chain.encode(), registration)
            self._revoke(credentials, registration, name)
        except (Refused, InvalidCredentials) as error:
            until = status.timestamp(pending.valid_until)
            self._not_revoked = (
                f"The {name} could not be revoked: {error}. Unless an earlier run has revoked it, it is valid until "
                f"{until}. Its key is deleted."
            )

    def _revoke(self, credentials: StoredCredentials, registration: Registration, name: str) -> None:
        """Raises Refused, _NotRevoked, or _Failed if it is not known whether the certificate is revoked."""
        if credentials.fingerprint in self._revoked:
            return
        identifier = new_request_id(registration.runtime_id)
        settings = self._settings
        clients = CompassClients(ca_file=settings.compass_ca_file, skip_verify=settings.skip_compass_tls_verify)
        try:
            clients.connector(credentials).revoke(registration.connector_url, request_id=identifier)
        except Refused:
            raise
        except CompassError as error:
            if may_be_done(error):
                raise _Failed(f"The {name} may or may not be revoked: {error}. {self._advice()}") from error
            raise _NotRevoked(f"The {name} could not be revoked: {error}. Run the command again.") from error
        finally:
            clients.close()
        self._revoked.add(credentials.fingerprint)
        print(f"The {name} is revoked (x-request-id: {identifier}).", file=self._out)

    def _refused(self, error: Refused, credentials: StoredCredentials, name: str) -> str:
        if self._now() >= credentials.not_after:
            until = status.timestamp(credentials.not_after)
            where = self._settings.cluster_certificates_secret
            return f"The {name} expired at {until}, so there is nothing to revoke. Delete the Secret {where}."
        return (
            f"The {name} could not be revoked, because Compass refuses it: {error}. Compass refuses a certificate that "
            f"is already revoked, and every certificate while its Director or its database is down. {self._advice()}"
        )

    def _advice(self) -> str:
        where = self._settings.cluster_certificates_secret
        return (
            f"Run the command again when Compass is available. If Compass refuses the certificate then, it is revoked, "
            f"or the Runtime is not registered any more: delete the Secret {where}, or reconnect with a new one-time "
            f"token."
        )

    def _finish(self, configuration: Configuration) -> None:
        try:
            self._snapshot.credentials.delete_ca()
        except ApiError as error:
            print(f"The Secret {self._settings.ca_certificates_secret} could not be deleted: {error}", file=self._out)
        reason = _reason(configuration)

        def change(obj: dict[str, object]) -> None:
            status.set_failed(obj, status.ConnectionState.CONNECTION_FAILED, reason, now=self._now())
            status.connection_part(obj)["certificateStatus"] = {}

        self._snapshot.connections.apply(CONNECTION_NAME, change)
        if self._not_revoked:
            print(self._not_revoked, file=self._out)
        print(f"The credentials are deleted; {reason}.", file=self._out)


def _registration(credentials: StoredCredentials) -> Registration:
    if credentials.registration is None:
        why = credentials.damage or "the agent has not adopted the credentials yet"
        raise _Failed(f"The URL of the Connector is unknown: {why}.")
    return credentials.registration


def _reason(configuration: Configuration) -> str:
    return problem.revoked_by_operator(configuration.origin).text()
