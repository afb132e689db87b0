"""What can go wrong between the agent and Compass.

    CompassError
    ├── InvalidRequest       the call was not made: the address or a header value cannot be used
    ├── InvalidCredentials   the client key or certificate is unreadable, or the two do not belong together
    ├── Unavailable          no usable answer: refused, timed out, DNS, TLS, HTTP 429 or 5xx; an outage
    ├── Refused              Compass does not accept the certificate or the token; loss is suspected
    ├── UnexpectedAnswer     something else than Compass answered: a 404, a redirect, a page; the URL may be wrong
    ├── TooLarge             an answer, or all of them, exceed a bound; the message says which, and how to raise it
    ├── InvalidAnswer        an answer that is not what the protocol promises; `path` names the field
    └── GraphQLError         an error in a GraphQL answer that is no refusal

Callers decide by type, `code` or `path`, never by text. No message holds a secret: whatever comes from a server has
been redacted, escaped and shortened before it gets here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus


class CompassError(Exception):
    """Base of all of them.

    `request_id` is the x-request-id of the call that failed, as Compass logs it too; "" when there was no call.
    """

    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


class InvalidRequest(CompassError):
    """Nothing was sent."""


class InvalidCredentials(CompassError):
    """The client key or certificate is unreadable, or the two do not belong together."""


class Unavailable(CompassError):
    """This says nothing about credentials, so it is no reason to try a token.

    `status` is the HTTP status, 0 without an HTTP answer; `retry_after` is in seconds, None if not given; `timed_out`
    is whether the answer took too long; `is_sent`: the server may have received the request.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
        timed_out: bool = False,
        is_sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.timed_out = timed_out
        self.is_sent = is_sent or status != 0


class Refused(CompassError):
    """Compass did not accept certificate or token: the Connector's HTTP 400 without a body, 401 or 403 with a GraphQL
    error, GraphQL errors such as "insufficient scopes", or a TLS alert about our certificate. In an outage of the
    database Compass also answers 400 and "insufficient scopes", so the connection is only suspected to be lost.

    `status` is the HTTP status (0 for a TLS alert), `code` the Director's error code if there is one.
    """

    def __init__(self, message: str, *, status: int = 0, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnexpectedAnswer(CompassError):
    """This says nothing about credentials, so it is no reason to give a token up.

    `status` is the HTTP status.
    """

    def __init__(self, answered: str, *, status: int, url: str) -> None:
        super().__init__(
            f"unexpected answer from {url}: {answered}; check the URL, and proxies between here and Compass"
        )
        self.status = status


class TooLarge(CompassError):
    """`single`: it is the limit of one answer, so a smaller request may succeed."""

    def __init__(self, message: str, *, single: bool = False) -> None:
        super().__init__(message)
        self.single = single


class InvalidAnswer(CompassError):
    """`path` is the invalid field ("configuration.token.token"), "" for the whole body."""

    def __init__(self, problem: str, *, path: str = "", request_id: str = "") -> None:
        super().__init__(problem, request_id=request_id)
        self.problem = problem
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem

    def prepend(self, outer: str) -> None:
        """Add an outer field to the path, while the error is passed on through the parsing of an answer."""
        self.path = f"{outer}.{self.path}" if self.path else outer


@contextmanager
def within(outer: str) -> Iterator[None]:
    """Prefix the path of an InvalidAnswer from inside with the field that is being read."""
    try:
        yield
    except InvalidAnswer as error:
        error.prepend(outer)
        raise


@contextmanager
def identified_by(request_id: str) -> Iterator[None]:
    """Give a failure the id of its call."""
    try:
        yield
    except CompassError as error:
        error.request_id = request_id
        raise


class GraphQLError(CompassError):
    """The first error of a GraphQL answer. All of them are in the log."""


def may_be_done(error: CompassError) -> bool:
    """Whether the server may have carried out the failed call: its answer was lost, or cannot be read."""
    match error:
        case Unavailable(status=status):
            return error.is_sent and (status == 0 or status >= HTTPStatus.INTERNAL_SERVER_ERROR)
        case UnexpectedAnswer(status=status):
            return status == HTTPStatus.OK
        case _:
            return isinstance(error, InvalidAnswer | TooLarge)
