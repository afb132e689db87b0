"""The owner of the certificate, checked before the first fetch: the Director accepts a wrong RUNTIME_ID without an
error.

Runtimes of one tenant may read and label each other. With the id of another Runtime, all Applications of this cluster
would be replaced by those of the other one.
"""

import logging

from controller.compass.director import DirectorClient
from controller.connection.credentials import Registration, StoredCredentials
from controller.connection.health import Health, Verdict

log = logging.getLogger(__name__)


class Identity:
    """Checks each certificate and configured Runtime until the Director has returned the owner.

    If the Director does not return it, Compass may be older and not support the query, or it may have an outage. So the
    query is repeated after another successful call; if it fails again, it is not supported.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    def is_another(self, credentials: StoredCredentials, registration: Registration) -> bool:
        """Whether the certificate belongs to a Runtime other than the configured one."""
        verdict = self._verdict(credentials, registration)
        return verdict is not None and verdict.actual not in (None, registration.runtime_id)

    def may_be_ours(
        self,
        director: DirectorClient,
        credentials: StoredCredentials,
        registration: Registration,
        *,
        request_id: str,
        served: bool = False,
    ) -> bool:
        """Whether the Director may be called for the configured Runtime, and its answer may be used.

        `served`: another call has just succeeded. Raises CompassError.
        """
        verdict = self._verdict(credentials, registration)
        if verdict is None or not verdict.settled:
            viewer = director.viewer(request_id=request_id)
            actual = viewer.id if viewer is not None else None
            settled = actual == registration.runtime_id or (actual is None and served)
            kind = viewer.type if viewer is not None else ""
            verdict = Verdict(credentials.fingerprint, registration.runtime_id, actual, settled, kind)
            self._health.identified(verdict)
            if settled and actual is None:
                log.warning(
                    "The Director does not return the Runtime of the certificate, so RUNTIME_ID cannot be checked"
                )
        return verdict.actual in (None, registration.runtime_id)

    def _verdict(self, credentials: StoredCredentials, registration: Registration) -> Verdict | None:
        verdict = self._health.facts().verdict
        asked_for = (credentials.fingerprint, registration.runtime_id)
        return verdict if verdict is not None and (verdict.certificate, verdict.configured) == asked_for else None
