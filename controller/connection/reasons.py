"""Why the connection has failed: values that can be compared. `texts` converts them to text when they are written.

Ids that change with each call are no part of a comparison: the same failure again is the same reason.
"""

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from controller.compass.errors import CompassError, Unavailable
from controller.connection.configuration import ConfigurationProblem
from informers.errors import ApiError


@dataclass(frozen=True)
class Failure:
    """A call that failed. ``text`` is for people, ``request_id`` for Compass' operators; ``retry_after`` in seconds."""

    kind: type[Exception]
    text: str
    request_id: str = field(default="", compare=False)
    retry_after: float | None = field(default=None, compare=False)

    @classmethod
    def of(cls, error: CompassError | ApiError) -> "Failure":
        return cls(
            kind=type(error),
            text=str(error),
            request_id=error.request_id if isinstance(error, CompassError) else "",
            retry_after=error.retry_after if isinstance(error, Unavailable) else None,
        )


# --- why the agent cannot pair ---


class Token(Enum):
    """What has become of the one-time token of a pairing that failed."""

    UNTOUCHED = auto()
    """Nothing was sent, or something else than Compass answered."""
    UNCERTAIN = auto()
    """A part of Compass failed, or answered with nonsense: another part may have taken the token before."""
    REFUSED = auto()
    """The Connector refused it: unknown, used, expired, or a Compass that cannot look it up."""
    ANSWER_LOST = auto()
    """The second token is refused: most likely the Connector has signed, and its answer did not get here."""
    SPENT = auto()
    """The Connector took it and signed nothing."""
    LOST = auto()
    """The notes of the pairing were changed, and with them goes the token that they held."""


@dataclass(frozen=True)
class NotConfigured:
    """What is configured cannot be used. ``after``: the last pairing, whose token may have gone from there since."""

    problem: ConfigurationProblem
    after: "PairingFailed | None" = None


@dataclass(frozen=True)
class RevokedByOperator:
    origin: str


@dataclass(frozen=True)
class TokenUsed:
    """The configured token is the one that won the credentials."""

    origin: str


@dataclass(frozen=True)
class PairingFailed:
    """``step``: what could not be done, in the words of the Go agent.

    ``after``: an earlier failure of this pairing that may have cost the token which is refused now.
    """

    step: str
    origin: str
    token: Token
    failure: Failure
    after: Failure | None = None

    def following(self, earlier: "PairingFailed | None") -> "PairingFailed":
        """The same after another failure of this pairing: a refusal alone would hide what cost the token."""
        if earlier is None or self.token not in (Token.REFUSED, Token.ANSWER_LOST):
            return self
        cost = earlier.failure if earlier.token in (Token.UNCERTAIN, Token.SPENT) else earlier.after
        return replace(self, after=cost)


Obstacle = NotConfigured | RevokedByOperator | TokenUsed | PairingFailed


# --- reasons ---


@dataclass(frozen=True)
class Unpaired:
    """There are no usable credentials. ``loss`` says what became of them, "" before the first pairing."""

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
    """The Connector could not be asked."""

    failure: Failure


@dataclass(frozen=True)
class RenewalFailed:
    """``valid_until``: epoch seconds."""

    failure: Failure
    valid_until: float


@dataclass(frozen=True)
class WrongRuntime:
    """The certificate belongs to another Runtime than the configured one. ``origin``: where that is configured."""

    actual: str
    configured: str
    origin: str


Reason = Unpaired | Suspected | ReconnectFailed | MaintenanceFailed | RenewalFailed | WrongRuntime


def request_id_of(reason: Reason) -> str:
    """The x-request-id of the call that failed; "" when there was none."""
    match reason:
        case MaintenanceFailed(failure) | RenewalFailed(failure, _):
            return failure.request_id
        case Suspected(refusals, _, _, _):
            return next((failure.request_id for _, failure in refusals), "")
        case Unpaired(PairingFailed(failure=failure)) | ReconnectFailed(PairingFailed(failure=failure)):
            return failure.request_id
        case _:
            return ""


# --- remarks: what needs attention and stops nothing ---


@dataclass(frozen=True)
class GatewaySecretFailed:
    secret: str
    failure: Failure


@dataclass(frozen=True)
class ShortLived:
    """The certificate was past its renewal threshold when it came. All in epoch seconds."""

    not_before: float
    not_after: float
    acquired: float
    next_renewal: float


@dataclass(frozen=True)
class RenewalWaits:
    """A fresh certificate is here and not valid yet. It replaces the one in use at ``valid_from``; epoch seconds."""

    valid_from: float
    received: float


@dataclass(frozen=True)
class RevocationUnfinished:
    """An operator has begun to revoke the certificate, and it is still here."""


@dataclass(frozen=True)
class TokenFailed:
    """A token in the CompassConnection does not lead to a pairing. The stored credentials stay in use."""

    obstacle: Obstacle


Remark = GatewaySecretFailed | TokenFailed | ShortLived | RenewalWaits | RevocationUnfinished
