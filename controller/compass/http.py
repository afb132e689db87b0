"""One HTTPS request and its whole answer, with the types of requests, over the connections of informers.transport.

* Redirects are not followed; cookies, .netrc and CA files from the environment are not used.
* Proxies are taken from the environment (HTTPS_PROXY, NO_PROXY), as in Go.
* Errors become Unavailable, Refused or TooLarge. An error status is an answer.
"""

import io
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import requests
import requests.adapters

from controller.compass.errors import CompassError, InvalidRequest, Refused, TooLarge, Unavailable
from controller.compass.limits import size
from controller.validation import fault_of, fault_of_url
from informers.transport import Kind, Pool, Stop, TransportError
from informers.transport.proxies import InvalidProxy, Proxy, from_environment


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, body (decompressed), and the headers that matter as sent ("" when absent)."""

    status: int
    body: bytes
    retry_after: str
    content_type: str = ""
    location: str = ""


class HttpClient(requests.adapters.BaseAdapter):
    """Posts over the connections of one TLS context. May be used by several threads.

    It is an adapter without a requests.Session, which has cookies, redirects and .netrc. `stop` ends requests, with
    informers.transport.Stopped.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        max_bytes: int,
        stop: Stop,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._pool = Pool(context, proxy_for=proxy_for, monotonic=monotonic)
        self._max_bytes = max_bytes
        self._stop = stop

    def close(self) -> None:
        """Drop the idle connections."""
        self._pool.close()

    def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str], timeout: float, may_be_abandoned: bool = False
    ) -> HttpAnswer:
        """Send and read; `timeout` is for both together, in seconds. `may_be_abandoned`: a stop ends the request in any
        phase, so its effect may be unknown.

        Raises InvalidRequest, Unavailable, TooLarge for a body of more than `max_bytes` (decompressed), or Refused if
        the TLS of the server does not accept our certificate.
        """
        try:
            response = self.send(_prepare(url, body, headers), timeout=timeout, finish=not may_be_abandoned)
        except TransportError as error:
            if error.kind is Kind.TOO_LARGE and is_outage(error.status):
                return HttpAnswer(error.status, b"", "")
            raise self._failure(error) from None
        header = response.headers.get
        return HttpAnswer(
            response.status_code,
            response.content,
            header("Retry-After", ""),
            content_type=header("Content-Type", ""),
            location=header("Location", ""),
        )

    def send(
        self, request: requests.PreparedRequest, *_: Any, timeout: Any = None, finish: bool = True, **__: Any
    ) -> requests.Response:
        """The whole answer. A stop ends a request before it begins; with `finish`, not after."""
        assert request.method
        assert request.url
        assert isinstance(request.body, bytes)
        answer = self._pool.send(
            request.method,
            request.url,
            headers=request.headers,
            body=request.body,
            stop=self._stop,
            timeout=timeout,
            finish=finish,
            max_bytes=self._max_bytes,
        )
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update(answer.headers)
        response.raw = io.BytesIO(answer.body)
        response.url = request.url
        response.request = request
        return response

    def _failure(self, error: TransportError) -> CompassError:
        if error.kind is Kind.TOO_LARGE:
            return TooLarge(f"the answer is larger than {size(self._max_bytes)}", single=True)
        if error.kind is Kind.CERTIFICATE_REFUSED:
            return Refused(str(error))
        return Unavailable(str(error), timed_out=error.kind is Kind.TIMEOUT, is_sent=error.is_sent)


def is_outage(status: int) -> bool:
    """Whether the status alone means that Compass is unavailable, whatever the body."""
    return status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


def proxy_for(url: str) -> Proxy | None:
    """The proxy of the environment; None for a direct connection. Raises InvalidRequest."""
    try:
        return from_environment(url, os.environ)
    except InvalidProxy as error:
        raise InvalidRequest(str(error)) from error


def _prepare(url: str, body: bytes, headers: Mapping[str, str]) -> requests.PreparedRequest:
    if fault := fault_of_url(url):
        raise InvalidRequest(f"the address {fault}")
    for name, value in headers.items():
        if fault := fault_of(value):
            raise InvalidRequest(f"the value for the header {name} {fault}")
    try:
        return requests.Request("POST", url, data=body, headers=dict(headers)).prepare()
    except (requests.RequestException, UnicodeError):
        # Not chained: the text of requests may quote the value.
        raise InvalidRequest("the address cannot be used") from None
