"""The gateway's copy of the CA certificates. The connection does not fail without it."""

from controller.connection.backoff import Backoff
from controller.connection.credentials import CredentialsStore
from controller.connection.health import Failure
from informers.errors import ApiError


class GatewayCA:
    """Writes the Secret, with a back-off for its failures. Not thread-safe."""

    def __init__(self, credentials: CredentialsStore, pause: Backoff) -> None:
        self._credentials = credentials
        self._pause = pause
        self.secret = str(credentials.ca_name)

    def write(self, ca_pem: bytes, *, dry_run: bool = False) -> Failure | None:
        """Returns the failure, which is reported and retried after the back-off; None if the Secret is written."""
        try:
            self._credentials.save_ca(ca_pem, dry_run=dry_run)
        except ApiError as error:
            self._pause.failed(self.secret)
            return Failure.of(error)
        self._pause.succeeded()
        return None
