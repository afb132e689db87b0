"""Errors of the communication with the API server: each is a KubernetesError, and that of a request an ApiError.

Callers compare the type or `reason`, never the text. Reasons are those of `metav1.StatusReason`, and for
ConnectionFailed those of the transport. The names are reasons too, as in client-go, without the suffix of N818.
"""

from collections.abc import Mapping
from typing import Any

from informers.transport import Kind


class KubernetesError(Exception):
    """Root of the tree."""


class ConfigurationError(KubernetesError):
    """There is no configuration for an API server, or it cannot be read. The text has the file and the problem."""


class TransformFailed(KubernetesError):
    """The transform function of an informer raised an error, which is chained."""


class ApiError(KubernetesError):
    """A request to the API server failed.

    status: HTTP status, 0 without an answer. reason: machine-readable, may be empty. message: for people. details:
    `metav1.StatusDetails` as sent, {} without. retry_after: seconds after which the server asks to retry, None without.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        facts = " ".join(str(fact) for fact in (self.status, self.reason) if fact)
        return f"{self.message} ({facts})" if facts else self.message


class Unauthorized(ApiError):
    """401: the server does not accept the credentials."""


class Forbidden(ApiError):
    """403: the credentials are accepted, but permissions are missing. The message has the verb and the resource."""


class NotFound(ApiError):
    """404: the object does not exist, or its resource type does not, for example without a CRD."""


class AlreadyExists(ApiError):
    """409 for a create."""


class Conflict(ApiError):
    """409 for an update or delete: the object has changed since it was read."""


class Expired(ApiError):
    """410: the server no longer has the requested history, so a new list is needed."""


class Invalid(ApiError):
    """422: the object does not match its schema. details.causes has the fields."""


class TooManyRequests(ApiError):
    """429."""


class WrongKind(ApiError):
    """The objects on the server have another kind than the Resource of the program. The text has both."""


class ServerError(ApiError):
    """5xx."""


class NoCredentials(ApiError):
    """Nothing was sent, because the token file cannot be read, or the credential plugin fails or hangs. The text says
    which. A later request tries again.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="NoCredentials")


class ConnectionFailed(ApiError):
    """There was no HTTP answer. `reason` is a Kind of the transport, or CLOSED."""

    REFUSED = Kind.REFUSED
    TIMEOUT = Kind.TIMEOUT
    BROKEN = Kind.BROKEN
    CLOSED = "ClientClosed"


# Type, code, reason. A reason of the API server has precedence over the code, which an ERROR event of a watch may not
# have. The first reason of a code is that of an answer without a Status, for example from a proxy (apimachinery
# NewGenericServerResponse).
_ROWS: tuple[tuple[type[ApiError], int, str], ...] = (
    (ApiError, 400, "BadRequest"),
    (Unauthorized, 401, "Unauthorized"),
    (Forbidden, 403, "Forbidden"),
    (NotFound, 404, "NotFound"),
    (Conflict, 409, "Conflict"),
    (AlreadyExists, 409, "AlreadyExists"),
    (Expired, 410, "Expired"),
    (Expired, 410, "Gone"),
    (Invalid, 422, "Invalid"),
    (TooManyRequests, 429, "TooManyRequests"),
    (ServerError, 500, "InternalError"),
    (ServerError, 503, "ServiceUnavailable"),
    (ServerError, 504, "Timeout"),
    (ServerError, 504, "ServerTimeout"),
)
_OF_REASON = {reason: type_ for type_, _, reason in _ROWS}
_OF_CODE = {code: (type_, reason) for type_, code, reason in reversed(_ROWS)}


def error_from_status(status: Mapping[str, Any], *, code: int = 0, retry_after: float | None = None) -> ApiError:
    """The error for a `metav1.Status` from an ERROR event or from an answer, whose HTTP status is `code`."""
    code = code or _whole_number(status.get("code"))
    usual_type, usual_reason = _OF_CODE.get(code, (ServerError if code >= 500 else ApiError, ""))
    reason = str(status.get("reason") or "") or usual_reason
    message = str(status.get("message") or "") or reason or f"the server answered with status {code}"
    details = status.get("details")
    details = details if isinstance(details, Mapping) else {}
    error_type = _OF_REASON.get(reason, usual_type)
    if retry_after is None and _whole_number(details.get("retryAfterSeconds")):
        retry_after = float(_whole_number(details["retryAfterSeconds"]))
    return error_type(message, status=code, reason=reason, details=details, retry_after=retry_after)


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
