"""Why the connection has failed: values that can be compared. `texts` converts them to text when they are written.

Request ids are not compared: the same failure again is the same reason.
"""

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from controller.compass.errors import CompassError, Refused, Unavailable
from controller.connection.configuration import ConfigurationProblem
from informers.errors import ApiError


@dataclass(frozen=True)
class Failure:
    """A failed call. `text` is for people, `request_id` for the operators of Compass; `retry_after` in
    seconds.
    """

    kind: type[Exception]
    text: str
    request_id: str = field(default="", compare=False)
    retry_after: float | None = field(default=None, compare=False)
    code: int | None = None  # the Director's error code

    @classmethod
    def of(cls, error: CompassError | ApiError) -> "Failure":
        return cls(
            kind=type(error),
            text=str(error),
            request_id=error.request_id if isinstance(error, CompassError) else "",
            retry_after=error.retry_after if isinstance(error, Unavailable) else None,
            code=error.code if isinstance(error, Refused) else None,
        )

    @classmethod
    def unexpected(cls, error: Exception) -> "Failure":
        """An error that only a defect of the agent can cause. Its own text may contain anything, also a secret."""
        return cls(
            kind=type(error),
            text=f"an error that the agent does not expect ({type(error).__name__}); the log has it; please report it",
        )


# --- why the agent cannot pair ---


class Token(Enum):
    """The state of the one-time token after a failed pairing."""

    UNTOUCHED = auto()
    """Nothing was sent, or the answer was not from Compass."""
    WRONG_ADDRESS = auto()
    """The server demands a client certificate, so it is the one for later calls. It has not seen the token."""
    UNCERTAIN = auto()
    """A component of Compass failed, or its answer was invalid: another component may have used the token before."""
    REFUSED = auto()
    """The Connector refused it: it is unknown, used or expired, or Compass cannot look it up."""
    ANSWER_LOST = auto()
    """The second token is refused: most likely the Connector has signed, and its answer was lost."""
    SPENT = auto()
    """The Connector accepted it and did not sign."""
    LOST = auto()
    """The stored state of the pairing was changed, so its token is lost."""


@dataclass(frozen=True)
class NotConfigured:
    """The configuration cannot be used. `after`: the last pairing, whose token may have been removed since."""

    problem: ConfigurationProblem
    after: "PairingFailed | None" = None


@dataclass(frozen=True)
class RevokedByOperator:
    origin: str


@dataclass(frozen=True)
class TokenUsed:
    """The configured token is the one that obtained the credentials."""

    origin: str


@dataclass(frozen=True)
class PairingFailed:
    """`step`: the failed step, with the text of the Go agent.

    `after`: an earlier failure of this pairing that may have used the token which is refused now.
    """

    step: str
    origin: str
    token: Token
    failure: Failure
    after: Failure | None = None

    def following(self, earlier: "PairingFailed | None") -> "PairingFailed":
        """This failure together with an earlier one of the pairing: a refusal alone would hide the cause."""
        if earlier is None or self.token not in (Token.REFUSED, Token.ANSWER_LOST):
            return self
        cost = earlier.failure if earlier.token in (Token.UNCERTAIN, Token.SPENT) else earlier.after
        return replace(self, after=cost)


Obstacle = NotConfigured | RevokedByOperator | TokenUsed | PairingFailed


# --- reasons ---


@dataclass(frozen=True)
class Unpaired:
    """There are no usable credentials. `loss` is the reason, "" before the first pairing."""

    obstacle: Obstacle
    loss: str = ""


@dataclass(frozen=True)
class Suspected:
    """The credentials are refused, which may mean that the connection is lost."""

    refusals: tuple[tuple[str, Failure], ...]
    runtime_id: str
    tenant: str
    obstacle: Obstacle | None


@dataclass(frozen=True)
class ReconnectFailed:
    """A new pairing was requested and fails. The stored credentials are used until it succeeds."""

    obstacle: Obstacle


@dataclass(frozen=True)
class MaintenanceFailed:
    """The call to the Connector failed."""

    failure: Failure


@dataclass(frozen=True)
class RenewalFailed:
    """`valid_until`: epoch seconds."""

    failure: Failure
    valid_until: float


@dataclass(frozen=True)
class WrongRuntime:
    """The certificate belongs to a Runtime other than the configured one, or to an application. `origin`: the object
    with the configuration.
    """

    actual: str
    configured: str
    origin: str
    kind: str = "RUNTIME"


@dataclass(frozen=True)
class UnknownTenant:
    """The Director does not know the tenant, and the Connector accepts the certificate."""

    failure: Failure
    tenant: str
    origin: str


@dataclass(frozen=True)
class NotValidYet:
    """Compass refuses the certificate, which is not valid before `valid_from`; epoch seconds."""

    refusals: tuple[tuple[str, Failure], ...]
    valid_from: float


@dataclass(frozen=True)
class InternalError:
    """A defect of the agent."""

    failure: Failure


Reason = (
    Unpaired
    | Suspected
    | ReconnectFailed
    | MaintenanceFailed
    | RenewalFailed
    | WrongRuntime
    | UnknownTenant
    | NotValidYet
    | InternalError
)


def request_id_of(reason: Reason) -> str:
    """The x-request-id of the call that failed; "" when there was none."""
    match reason:
        case MaintenanceFailed(failure) | RenewalFailed(failure, _):
            return failure.request_id
        case UnknownTenant(failure=failure):
            return failure.request_id
        case Suspected(refusals=refusals) | NotValidYet(refusals=refusals):
            return next((failure.request_id for _, failure in refusals), "")
        case Unpaired(PairingFailed(failure=failure)) | ReconnectFailed(PairingFailed(failure=failure)):
            return failure.request_id
        case _:
            return ""


# --- remarks: problems that do not stop the agent ---


@dataclass(frozen=True)
class GatewaySecretFailed:
    secret: str
    failure: Failure


@dataclass(frozen=True)
class ShortLived:
    """The certificate was past its renewal threshold when it was received. All in epoch seconds."""

    not_before: float
    not_after: float
    acquired: float
    next_renewal: float


@dataclass(frozen=True)
class RenewalWaits:
    """A new certificate is not valid yet. It replaces the current one at `valid_from`; epoch seconds."""

    valid_from: float
    received: float


@dataclass(frozen=True)
class RevocationUnfinished:
    """An operator has started to revoke the certificate, and it is still stored."""


@dataclass(frozen=True)
class TokenFailed:
    """Pairing with a token in the CompassConnection fails. The stored credentials are used."""

    obstacle: Obstacle


Remark = GatewaySecretFailed | TokenFailed | ShortLived | RenewalWaits | RevocationUnfinished
