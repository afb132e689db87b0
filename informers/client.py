"""The client of the API server, with plain dicts. Every failure is an ApiError.

- Configuration, TLS and the connection pool are those of the official client. Requests use the pool directly, so no
  model is built and no JSON is parsed twice.
- Each request ends within its timeout, which includes name resolution, connect, TLS, sending, waiting, reading, and the
  waits between retries. A request that was not sent by then is never sent.
- A request that the server answers with 429 or 5xx and a Retry-After is retried up to ten times (client-go rest). A GET
  on an idle connection that breaks without an answer is retried at once (Go's net/http).
- Dead peers are detected by TCP keepalive and by a timeout on every request.
- A rotated service account token is used; a 401 drops the current one.

HTTP is only in this module, watch.py and exchange.py. Thread-safe.
"""

import copy
import logging
import platform
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast
from urllib.parse import urlencode, urlsplit

import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from urllib3.exceptions import HTTPError, ProtocolError

from informers import configuration as configurations
from informers.credentials import Credentials
from informers.encoding import decode, encode
from informers.errors import ConnectionFailed, NoCredentials
from informers.exchange import Exchange, make_cuttable
from informers.interrupt import Interrupt, Interrupted, Overdue
from informers.metrics import NoRequestMetrics, RequestMetrics
from informers.resource import Resource
from informers.transport.tls import client_context
from informers.transport_errors import connection_failed, error_of, overdue, seconds_to_wait, unexpected
from informers.watch import WatchStream
from workqueue.clock import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]

# The system repeats the first packet of a connection after 1, 3, 7, 15 and 31 s. With the 30 s of client-go's dialer, a
# connect that began in an outage of the network could take 16 s more after its end. 10 s is its limit for TLS.
CONNECT_TIMEOUT = 10.0
# client-go transport/cache.go: the number of idle connections per host.
POOL_MAXSIZE = 25
# Longer than any single answer of a healthy server. client-go has no such timeout, and hangs when the peer is gone.
REQUEST_TIMEOUT = 30.0
# The first byte of a large list may take long. The default limit of an API server is a minute (--request-timeout), but
# it can be changed, and aggregated API servers and proxies have their own limits.
LIST_TIMEOUT = 300.0
# A server sends a bookmark about every 60 s: a watch that is silent for longer is dead.
WATCH_READ_TIMEOUT = 70.0
# client-go rest/request.go, maxRetries.
MAX_RETRIES = 10
# A peer that is gone is detected within 30 + 3 * 5 s, the 45 s of client-go's HTTP/2 pings. The user timeout is the
# same limit for sent bytes without an acknowledgement.
_KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT = 30, 5, 3
_USER_TIMEOUT_MS = 45_000

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_retries_end_with: ContextVar[threading.Event | None] = ContextVar("retries_end_with", default=None)


@contextmanager
def no_retries_after(stop: threading.Event) -> Iterator[None]:
    """After `stop` is set, no request of this thread is retried: a wait for Retry-After ends with the server's error.

    For work that has to end soon after `stop`. The first attempt of each request is still made.
    """
    token = _retries_end_with.set(stop)
    try:
        yield
    finally:
        _retries_end_with.reset(token)


@dataclass(frozen=True, slots=True)
class _Request:
    """`timeout`: seconds for the whole request. `connect_timeout`, `read_timeout`: seconds for each single wait, as in
    urllib3. They matter for a stream, which is read after the request. `interrupt` ends the request at once.
    """

    method: str
    url: str
    timeout: float
    read_timeout: float
    interrupt: Interrupt
    stop: threading.Event
    body: bytes | None = None
    content_type: str = "application/json"
    stream: bool = False

    @property
    def connect_timeout(self) -> float:
        return min(CONNECT_TIMEOUT, self.timeout)


class Client:
    """Requests to one API server. Objects returned belong to the caller.

    timeout: seconds for the whole request, see the module; None for REQUEST_TIMEOUT, or LIST_TIMEOUT for a list. A wait
    for Retry-After that is longer than the rest of the timeout is not begun: the error has `retry_after`.

    Errors: ApiError if a request fails, and its subclasses ConnectionFailed if there was no answer in time and
    NoCredentials if there was nothing to authenticate with; ValueError for invalid arguments.
    """

    def __init__(
        self,
        configuration: Configuration,
        credentials: Credentials,
        *,
        user_agent: str = "",
        pool_maxsize: int = POOL_MAXSIZE,
        watch_read_timeout: float = WATCH_READ_TIMEOUT,
        clock: Clock = REAL_CLOCK,
        metrics: RequestMetrics | None = None,
    ) -> None:
        configuration.socket_options = _socket_options()
        configuration.connection_pool_maxsize = pool_maxsize
        self._base = configuration.host.rstrip("/")
        self._host: str = urlsplit(self._base).netloc.rpartition("@")[2]
        self._pool = RESTClientObject(configuration).pool_manager
        make_cuttable(self._pool, context=lambda: client_context(credentials.tls()))
        self._credentials = credentials
        self._user_agent = user_agent or f"compass-informers (python {platform.python_version()})"
        self._watch_read_timeout = watch_read_timeout
        self._clock = clock
        self._metrics = metrics or NoRequestMetrics()
        self._closed = Interrupt()
        self._material_lock = threading.Lock()
        self._material = credentials.tls()  # of the connections in the pool; guarded by _material_lock
        self._error_when_closed: Callable[[], BaseException] = _closed
        if not configuration.verify_ssl:
            log.warning(
                "The certificate of the API server is not verified: insecure-skip-tls-verify is set in the kubeconfig",
                extra={"server": self._host},
            )

    @classmethod
    def load(
        cls,
        kubeconfig: str | None = None,
        *,
        context: str | None = None,
        environ: Mapping[str, str] | None = None,
        user_agent: str = "",
        pool_maxsize: int = POOL_MAXSIZE,
        clock: Clock = REAL_CLOCK,
        metrics: RequestMetrics | None = None,
    ) -> Self:
        """The client for the first of these that exists: `kubeconfig`, $KUBECONFIG, the Pod's service account,
        ~/.kube/config.

        context: one of a kubeconfig, None for its current one. environ: instead of the variables of the process.
        Raises ConfigurationError.
        """
        configuration, credentials = configurations.load(kubeconfig, context=context, clock=clock, environ=environ)
        return cls(
            configuration, credentials, user_agent=user_agent, pool_maxsize=pool_maxsize, clock=clock, metrics=metrics
        )

    @property
    def host(self) -> str:
        """Host and port of the API server."""
        return self._host

    @property
    def namespace(self) -> str:
        """The namespace of the kubeconfig's context, or of the Pod; "default" if they name none."""
        return self._credentials.namespace

    def until(self, interrupt: Interrupt, error: Callable[[], BaseException]) -> Self:
        """A client with the same connections whose requests end when `interrupt` is set: running ones at once, later
        ones before anything is sent. They raise the result of `error`. Do not close this client.
        """
        view = copy.copy(self)
        view._closed, view._error_when_closed = interrupt, error  # noqa: SLF001 - of the same class
        return view

    def close(self) -> None:
        """End all requests, except those of informers, which end with the informer. Later requests fail."""
        self._closed.set()
        self._credentials.close()
        self._pool.clear()

    def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, timeout: float | None = None
    ) -> Object:
        """The object. Raises NotFound."""
        return self.request("GET", resource.path(namespace, name), timeout=timeout)

    def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        limit: int | None = None,
        continue_: str = "",
        resource_version: str | None = None,
        resource_version_match: str | None = None,
        timeout: float | None = None,
        interrupt: Interrupt | None = None,
    ) -> Object:
        """One page, as the server sent it: {"metadata": {"resourceVersion", "continue"}, "items": [...]}.

        A resource_version of None or "" requests the most recent data, "0" any data from the server's cache.
        `interrupt` ends the request with a ConnectionFailed as soon as it is set.
        """
        query = _selectors(label_selector, field_selector)
        query |= {
            "limit": str(limit) if limit else "",
            "continue": continue_,
            "resourceVersion": resource_version or "",
            "resourceVersionMatch": resource_version_match or "",
        }
        timeout = timeout or LIST_TIMEOUT
        return self.request("GET", resource.path(namespace), query=query, timeout=timeout, interrupt=interrupt)

    def create(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        *,
        namespace: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Object:
        """The created object. Its namespace is in the argument or in the object. Raises AlreadyExists, Invalid."""
        path = resource.path(_namespace_of(resource, obj, namespace))
        return self.request("POST", path, query=_dry_run(dry_run), body=obj, timeout=timeout)

    def update(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Object:
        """The stored object. Raises Conflict if `obj` has a metadata.resourceVersion that is not the current one."""
        name = (obj.get("metadata") or {}).get("name") or ""
        path = resource.path(_namespace_of(resource, obj, namespace), name, subresource)
        return self.request("PUT", path, query=_dry_run(dry_run), body=obj, timeout=timeout)

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        content_type: str = MERGE_PATCH,
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Object:
        """The patched object. `field_manager` and `force` are for server-side apply, with APPLY_PATCH."""
        query = _dry_run(dry_run) | {"fieldManager": field_manager, "force": "true" if force else ""}
        path = resource.path(namespace, name, subresource)
        return self.request("PATCH", path, query=query, body=patch, content_type=content_type, timeout=timeout)

    def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete the object. Raises NotFound, and Conflict if it does not have the given uid or version.

        The deletion is accepted when this returns; finalizers may keep the object for longer.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid or resource_version:
            body["preconditions"] = {key: value for key, value in preconditions.items() if value}
        self.request("DELETE", resource.path(namespace, name), body=body, timeout=timeout)

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str | None = None,
        resource_version_match: str | None = None,
        timeout_seconds: int | None = None,
        allow_bookmarks: bool = True,
        send_initial_events: bool | None = None,
    ) -> WatchStream:
        """A stream of the changes after `resource_version`. The request is sent when it is opened or iterated."""
        query = _selectors(label_selector, field_selector)
        query |= {
            "watch": "true",
            "resourceVersion": resource_version or "",
            "resourceVersionMatch": resource_version_match or "",
            "timeoutSeconds": str(timeout_seconds) if timeout_seconds else "",
            "allowWatchBookmarks": "true" if allow_bookmarks else "",
            "sendInitialEvents": "" if send_initial_events is None else str(send_initial_events).lower(),
        }
        url = self._url(resource.path(namespace), query)
        return WatchStream(partial(self._open_watch, url))

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout: float | None = None,
        interrupt: Interrupt | None = None,
    ) -> Object:
        """Any request. `path` begins at the root of the server; `body` is JSON-serialisable or None. Empty query values
        are left out. `interrupt` as for list(). Returns {} for an empty answer.
        """
        timeout = REQUEST_TIMEOUT if timeout is None else timeout
        request = _Request(
            method,
            self._url(path, query or {}),
            timeout=timeout,
            read_timeout=timeout,
            interrupt=interrupt or self._closed,
            stop=interrupt.event if interrupt else _retries_end_with.get() or self._closed.event,
            body=None if body is None else encode(body),
            content_type=content_type,
        )
        exchange = Exchange(self._closed.is_set)
        try:
            response = self._send(request, exchange)
        finally:
            exchange.release()
        data = response.data
        if not data:
            return {}
        try:
            answer = decode(data)
        except ValueError as error:
            raise unexpected(response, f"{method} {path}: the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise unexpected(response, f"{method} {path}: the answer is not a JSON object")
        return cast("Object", answer)

    def _open_watch(self, url: str, interrupt: Interrupt, exchange: Exchange) -> urllib3.BaseHTTPResponse:
        """The answer to a watch request, with its body unread; see WatchStream."""
        request = _Request(
            "GET",
            url,
            timeout=CONNECT_TIMEOUT + self._watch_read_timeout,
            read_timeout=self._watch_read_timeout,
            interrupt=interrupt,
            stop=interrupt.event,
            stream=True,
        )
        return self._send(request, exchange)

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        sent = {key: value for key, value in query.items() if value}
        return f"{self._base}{path}?{urlencode(sent)}" if sent else f"{self._base}{path}"

    def _send(self, request: _Request, exchange: Exchange) -> urllib3.BaseHTTPResponse:
        """The answer with a status of 2xx. Its body is read unless it is a stream. Raises ApiError for other ones."""
        deadline = self._clock.monotonic() + request.timeout
        left = request.timeout
        for retries_left in range(MAX_RETRIES, -1, -1):
            response = self._try(request, exchange, left)
            if 200 <= response.status < 300:
                return response
            wait = seconds_to_wait(response)
            if wait is None or not retries_left or self._clock.monotonic() + wait >= deadline:
                raise error_of(response)
            self._metrics.retry(verb=request.method, code=str(response.status), host=self._host)
            log.info("Retrying the request", extra={"status": response.status, "waitSeconds": wait})
            stopped = self._clock.sleep(wait, request.stop)
            left = deadline - self._clock.monotonic()
            if stopped or left <= 0:
                raise error_of(response)
        raise AssertionError("unreachable: the last turn returns or raises")

    def _try(self, request: _Request, exchange: Exchange, seconds: float) -> urllib3.BaseHTTPResponse:
        """The answer with any status. Raises ConnectionFailed if there is none within `seconds`."""
        if self._closed.is_set():
            raise self._error_when_closed()
        started = self._clock.monotonic()
        code = "<error>"
        try:
            authorization = self._authorization(request, seconds)
            self._use_material()
            response = request.interrupt.call(
                partial(self._exchange, request, exchange, authorization),
                thread_name="request",
                timeout=started + seconds - self._clock.monotonic(),
                abandon=lambda late: late.close(),
            )
            code = str(response.status)
        except Interrupted:
            raise self._error_when_closed() from None
        except Overdue:
            raise overdue(self._host, request.timeout, connected=exchange.is_connected) from None
        except (HTTPError, OSError, ValueError) as error:
            raise connection_failed(
                error, self._host, connect_timeout=request.connect_timeout, read_timeout=request.read_timeout
            ) from error
        finally:
            if code == "<error>":
                if not exchange.on_new_connection:
                    # The cause, for example a lost route, has most likely broken all idle connections.
                    self._pool.clear()
                exchange.cut()
                exchange.release()
            seconds = self._clock.monotonic() - started
            self._metrics.request(verb=request.method, code=code, host=self._host, seconds=seconds)
        if response.status == 401:
            self._credentials.refused(sent_at=started)
        return response

    def _authorization(self, request: _Request, seconds: float) -> str | None:
        try:
            return self._credentials.authorization(timeout=seconds, stop=request.interrupt.event)
        except NoCredentials:
            if request.interrupt.is_set():
                raise Interrupted from None
            raise

    def _exchange(self, request: _Request, exchange: Exchange, authorization: str | None) -> urllib3.BaseHTTPResponse:
        """Send the request and read the answer. Runs in a thread that the caller may abandon."""
        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": self._user_agent})
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if authorization is not None:
            headers["Authorization"] = authorization
        for name, value in self._credentials.impersonation:
            headers.add(name, value)
        while True:
            try:
                with exchange:
                    # No retries and redirects by urllib3, which knows neither the stop nor what is idempotent.
                    response = self._pool.urlopen(
                        request.method,
                        request.url,
                        body=request.body,
                        headers=headers,
                        timeout=urllib3.Timeout(connect=request.connect_timeout, read=request.read_timeout),
                        retries=False,
                        redirect=False,
                        preload_content=not request.stream,
                    )
                break
            except ProtocolError as error:
                # The server closed an idle connection just when it was used again, which is normal. The next idle one
                # may fail as well, but each only once, and a new connection ends the series.
                if request.method != "GET" or exchange.on_new_connection or exchange.is_cut:
                    raise
                log.debug("Retrying a request that failed on an idle connection", extra={"error": type(error).__name__})
        if request.stream and not 200 <= response.status < 300:
            response.read(cache_content=True)
            response.release_conn()
        return cast("urllib3.BaseHTTPResponse", response)

    def _use_material(self) -> None:
        """Use no connection any more that was opened with older certificates."""
        material = self._credentials.tls()
        with self._material_lock:
            if material is not self._material:
                self._material = material
                self._pool.clear()


def _closed() -> ConnectionFailed:
    return ConnectionFailed("the client is closed", reason=ConnectionFailed.CLOSED)


def _socket_options() -> list[tuple[int, int, int]]:
    options: list[tuple[int, int, int]] = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    # A platform may lack some of these; then the longer defaults of the system apply.
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options


def _namespace_of(resource: Resource, obj: Mapping[str, Any], namespace: str | None) -> str | None:
    """The namespace of a write. Raises ValueError if argument and object differ, or if neither has a required one."""
    if not resource.namespaced:
        return None
    own = (obj.get("metadata") or {}).get("namespace")
    if namespace and own and namespace != own:
        raise ValueError(f"{resource.kind}: namespace {namespace!r} was asked for, but the object says {own!r}")
    if not namespace and not own:
        raise ValueError(f"{resource.kind} is namespaced, but neither argument nor object names a namespace")
    return namespace or own


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    return {"labelSelector": label_selector, "fieldSelector": field_selector}


def _dry_run(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All" if dry_run else ""}
