"""The client of the API server, with plain dicts. Every failure is an ApiError.

- Each request ends within its timeout, which includes name resolution, connect, TLS, sending, waiting, reading, and the
  waits between retries. A request that was not sent by then is never sent.
- A request that the server answers with 429 or 5xx and a Retry-After is retried up to ten times, and so is a GET whose
  connection is reset or closed before the answer (client-go rest/request.go).
- Rotated credentials are used. A 401 drops the current ones, and closes the connection it came on.

Thread-safe. A forked child may use it.
"""

import copy
import logging
import platform
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from kubernetes.client.configuration import Configuration
from urllib3 import HTTPHeaderDict

from informers import configuration as configurations
from informers.credentials import Credentials
from informers.encoding import decode, encode
from informers.errors import ApiError, ConnectionFailed, NoCredentials, error_from_status
from informers.metrics import RequestMetrics
from informers.resource import Resource
from informers.transport import (
    CONNECT_TIMEOUT,
    Pool,
    Response,
    Stop,
    Stopped,
    Stream,
    TLSMaterial,
    TransportError,
)
from informers.transport.proxies import Proxy
from informers.transport.tls import client_context
from informers.watch import WatchStream
from workqueue.clock import REAL_CLOCK, Clock

log = logging.getLogger(__name__)

Object = dict[str, Any]
Answered = Callable[[str, str, ApiError | None], None]

# Longer than any single answer of a healthy server. client-go has no such timeout, and hangs when the peer is gone.
REQUEST_TIMEOUT = 30.0
# The first byte of a large list may take long. The default limit of an API server is a minute (--request-timeout), but
# it can be changed, and aggregated API servers and proxies have their own limits.
LIST_TIMEOUT = 300.0
# A server sends a bookmark about every 60 s: a watch that is silent for longer is dead.
WATCH_READ_TIMEOUT = 70.0
# client-go rest/request.go, maxRetries.
MAX_RETRIES = 10
# Between two tries of a GET whose connection broke (client-go rest/request.go).
_BROKEN_WAIT = 1.0
_REFUSAL_LOG_PERIOD = 30.0
_MAX_FOREIGN_TEXT = 200
_MERGE_PATCH = "application/merge-patch+json"
_DRY_RUN = {"dryRun": "All"}


class Client:
    """Requests to one API server. Objects returned belong to the caller.

    A request has REQUEST_TIMEOUT seconds, and a list LIST_TIMEOUT. A wait for Retry-After that is longer than the rest
    is not begun: the error has `retry_after`.

    Errors: ApiError if a request fails, and its subclasses ConnectionFailed if there was no answer in time and
    NoCredentials if there was nothing to authenticate with; ValueError for invalid arguments.

    answered: called with method, URL and error (None: a success) of each answer of the server.
    """

    def __init__(
        self,
        configuration: Configuration,
        credentials: Credentials,
        *,
        user_agent: str = "",
        watch_read_timeout: float = WATCH_READ_TIMEOUT,
        clock: Clock = REAL_CLOCK,
        metrics: RequestMetrics | None = None,
        answered: Answered = lambda *_: None,
    ) -> None:
        self._base = configuration.host.rstrip("/")
        self._host: str = urlsplit(self._base).netloc.rpartition("@")[2]
        self._credentials = credentials
        self._material: TLSMaterial | None = None
        proxy = _proxy(configuration)
        self._pool = Pool(proxy_for=lambda _: proxy)
        self._user_agent = user_agent or f"compass-informers (python {platform.python_version()})"
        self._watch_read_timeout = watch_read_timeout
        self._clock = clock
        self._metrics = metrics or RequestMetrics()
        self._on_answer = answered
        self._lock = threading.Lock()  # of _material
        self._refusals = _Refusals()
        self._closed = Stop()
        self._fence = self._closed  # ends all requests
        self.stop = self._closed  # ends retries
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
        user_agent: str = "",
        metrics: RequestMetrics | None = None,
        answered: Answered = lambda *_: None,
    ) -> Self:
        """The client for the first of these that exists: `kubeconfig`, $KUBECONFIG, the Pod's service account,
        ~/.kube/config.

        Raises ConfigurationError.
        """
        configuration, credentials = configurations.load(kubeconfig)
        return cls(configuration, credentials, user_agent=user_agent, metrics=metrics, answered=answered)

    @property
    def host(self) -> str:
        """Host and port of the API server."""
        return self._host

    @property
    def namespace(self) -> str:
        """The namespace of the kubeconfig's context, or of the Pod; "default" if they name none."""
        return self._credentials.namespace

    @property
    def refused_for(self) -> float:
        """Seconds for which the server has answered all requests with 401; 0 if it has not."""
        since = self._refusals.since
        return 0.0 if since is None else self._clock.monotonic() - since

    def until(self, fence: Stop | None, *, stop: Stop, answered: Answered = lambda *_: None) -> Self:
        """A client with the same connections for work that has to end.

        From `stop` on, nothing is retried, but the work may send its last requests. When `fence` is set, running
        requests end at once and later ones before anything is sent: they raise Stopped. Do not close this client.

        `answered` is called as well for the answers of its requests.
        """

        def both(method: str, url: str, error: ApiError | None) -> None:
            self._on_answer(method, url, error)
            answered(method, url, error)

        view = copy.copy(self)
        view._fence, view.stop, view._on_answer = fence or self._fence, stop, both  # noqa: SLF001 - of the same class
        return view

    def close(self) -> None:
        """End all requests, except those of informers, which end with the informer. Later requests fail."""
        self._closed.set()
        self._pool.close()
        self._credentials.close()

    def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        """The object. Raises NotFound."""
        return self.request("GET", resource.path(namespace, name))

    def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        limit: int | None = None,
        continue_: str = "",
        stop: Stop | None = None,
    ) -> Object:
        """One page of the most recent data, as the server sent it.

        It is {"metadata": {"resourceVersion", "continue"}, "items": [...]}. `stop` ends the request with Stopped as
        soon as it is set.
        """
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": str(limit or ""),
            "continue": continue_,
        }
        return self.request("GET", resource.path(namespace), query=query, timeout=LIST_TIMEOUT, stop=stop)

    def create(
        self, resource: Resource, obj: Mapping[str, Any], *, namespace: str | None = None, dry_run: bool = False
    ) -> Object:
        """The created object. Its namespace is in the argument or in the object. Raises AlreadyExists, Invalid."""
        path = resource.path(_namespace_of(resource, obj, namespace))
        return self.request("POST", path, query=_DRY_RUN if dry_run else None, body=obj)

    def update(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """The stored object. Raises Conflict if `obj` has a metadata.resourceVersion that is not the current one."""
        name = (obj.get("metadata") or {}).get("name") or ""
        path = resource.path(_namespace_of(resource, obj, namespace), name, subresource)
        return self.request("PUT", path, query=_DRY_RUN if dry_run else None, body=obj)

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """The object after a merge patch."""
        path, query = resource.path(namespace, name, subresource), _DRY_RUN if dry_run else None
        return self.request("PATCH", path, query=query, body=patch, content_type=_MERGE_PATCH)

    def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Delete the object. Raises NotFound, and Conflict if it does not have the given uid or version.

        The deletion is accepted when this returns; finalizers may keep the object for longer.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid or resource_version:
            body["preconditions"] = {key: value for key, value in preconditions.items() if value}
        self.request("DELETE", resource.path(namespace, name), body=body)

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str | None = None,
        timeout_seconds: int | None = None,
        send_initial_events: bool = False,
    ) -> WatchStream:
        """A stream of the changes after `resource_version`. The request is sent when it is opened or iterated.

        send_initial_events: it begins with all objects that exist, and a bookmark at their end.
        """
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "watch": "true",
            "resourceVersion": resource_version or "",
            "timeoutSeconds": str(timeout_seconds or ""),
            "allowWatchBookmarks": "true",
        }
        if send_initial_events:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
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
        stop: Stop | None = None,
    ) -> Object:
        """Any request. `path` begins at the root of the server; `body` is JSON-serialisable or None. Empty query values
        are left out. `stop` as for list(). Returns {} for an empty answer.
        """
        url = self._url(path, query or {})
        timeout = REQUEST_TIMEOUT if timeout is None else timeout
        content = None if body is None else encode(body)
        headers = {} if content is None else {"Content-Type": content_type}
        fence, retries = (stop, stop) if stop else (self._fence, self.stop)

        def send(left: float) -> Response:
            return self._pool.send(
                method, url, headers=self._headers(headers, left, fence), body=content, stop=fence, timeout=left
            )

        response = self._answered(method, url, send, timeout=timeout, retries=retries, may_repeat=method == "GET")
        assert isinstance(response, Response)
        if not response.body:
            return {}
        answer = _object_in(response)
        if answer is None:
            text = f"{method} {path}: the answer is not a JSON object"
            raise ApiError(text, status=response.status, reason="UnexpectedServerResponse")
        return answer

    def _open_watch(self, url: str, stop: Stop) -> Stream:
        """The answer to a watch request, with its body unread."""

        def send(left: float) -> Response | Stream:
            return self._pool.open(
                url,
                headers=self._headers({}, left, stop),
                stop=stop,
                timeout=left,
                read_timeout=self._watch_read_timeout,
            )

        timeout = CONNECT_TIMEOUT + self._watch_read_timeout
        # A watch has a reflector, which resumes it.
        stream = self._answered("GET", url, send, timeout=timeout, retries=stop, may_repeat=False)
        assert isinstance(stream, Stream)
        return stream

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        sent = {key: value for key, value in query.items() if value}
        return f"{self._base}{path}?{urlencode(sent)}" if sent else f"{self._base}{path}"

    def _answered(
        self,
        method: str,
        url: str,
        send: Callable[[float], Response | Stream],
        *,
        timeout: float,
        retries: Stop,
        may_repeat: bool,
    ) -> Response | Stream:
        """The answer with a status of 2xx, which `send(seconds)` returns. Raises ApiError for other ones.

        may_repeat: also if a connection broke before the answer.
        """
        deadline = self._clock.monotonic() + timeout
        for retries_left in range(MAX_RETRIES, -1, -1):
            failure: ApiError
            code = "<error>"
            try:
                answer = self._once(method, send, deadline - self._clock.monotonic())
                if isinstance(answer, Stream) or 200 <= answer.status < 300:
                    self._on_answer(method, url, None)
                    return answer
                failure, wait, code = _error_of(answer, url), _seconds_to_wait(answer), str(answer.status)
                self._on_answer(method, url, failure)
            except TransportError as error:
                failure = ConnectionFailed(f"cannot reach the API server at {self._host}: {error}", reason=error.kind)
                wait = _BROKEN_WAIT if error.may_repeat and may_repeat else None
            try:
                if wait is None or not retries_left or self._clock.monotonic() + wait >= deadline:
                    raise failure
                self._metrics.retry(verb=method, code=code, host=self._host)
                log.info("Retrying the request", extra={"error": str(failure), "waitSeconds": wait})
                if self._clock.sleep(wait, retries) or self._clock.monotonic() >= deadline:
                    raise failure
            finally:
                del failure  # its frames lead back to it
        raise AssertionError("unreachable: the last turn returns or raises")

    def _once(self, method: str, send: Callable[[float], Response | Stream], left: float) -> Response | Stream:
        """The answer with any status. Raises TransportError, and Stopped."""
        if self._closed.is_set():
            raise _closed()
        started = self._clock.monotonic()
        code = "<error>"
        try:
            answer = send(left)
            code = "200" if isinstance(answer, Stream) else str(answer.status)
        except Stopped:
            if self._fence is self._closed and self._closed.is_set():
                raise _closed() from None
            raise
        finally:
            seconds = self._clock.monotonic() - started
            self._metrics.request(verb=method, code=code, host=self._host, seconds=seconds)
        if code == "401":
            self._credentials.refused(sent_at=started)
        self._refusals.note(refused=code == "401", now=self._clock.monotonic(), host=self._host)
        return answer

    def _headers(self, headers: Mapping[str, str], left: float, stop: Stop) -> HTTPHeaderDict:
        sent = HTTPHeaderDict({"Accept": "application/json", "User-Agent": self._user_agent, **headers})
        try:
            authorization = self._credentials.authorization(timeout=left, stop=stop)
        except NoCredentials:
            stop.check()  # which ends a credential plugin
            raise
        if authorization is not None:
            sent["Authorization"] = authorization
        for name, value in self._credentials.impersonation:
            sent.add(name, value)
        self._use_material()  # after authorization(), which may have obtained a new certificate
        return sent

    def _use_material(self) -> None:
        """Use the current certificate and CA for all new connections. Those that have older ones are not used again."""
        material = self._credentials.tls()
        if material == self._material:
            return
        with self._lock:
            if material != self._material:
                try:
                    context = client_context(material)
                except ValueError as error:
                    raise NoCredentials(f"the API server cannot be reached: {error}") from error
                self._pool.use(context, server_name=material.server_name)
                self._material = material


def _closed() -> ConnectionFailed:
    return ConnectionFailed("the client is closed", reason=ConnectionFailed.CLOSED)


def _proxy(configuration: Configuration) -> Proxy | None:
    if not configuration.proxy:
        return None
    return Proxy(configuration.proxy, (configuration.proxy_headers or {}).get("Proxy-Authorization"))


class _Refusals:
    """Since when the server answers everything with 401. Shared by all views of a client."""

    def __init__(self) -> None:
        self.since: float | None = None
        self._logged_at: float | None = None

    def note(self, *, refused: bool, now: float, host: str) -> None:
        if not refused:
            self.since = self._logged_at = None
            return
        if self.since is None:
            self.since = now
        if self._logged_at is None or now - self._logged_at >= _REFUSAL_LOG_PERIOD:
            self._logged_at = now
            log.error(
                "The API server refuses the credentials of this process (401)",
                extra={"server": host, "seconds": round(now - self.since)},
            )


def _error_of(response: Response, url: str) -> ApiError:
    """The error for an answer with a status other than 2xx."""
    path = urlsplit(url).path
    status = _object_in(response) or {}
    details = status.get("details")
    if status.get("kind") != "Status":
        status = {"message": _foreign_text(response, path)}
    elif response.status == 404 and not (isinstance(details, dict) and details.get("name")):
        status = status | {"message": f"{status.get('message')}: {path}"}
    return error_from_status(status, code=response.status, retry_after=_retry_after(response))


def _object_in(response: Response) -> Object | None:
    """The body, None unless it is a JSON object."""
    try:
        answer = decode(response.body)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _seconds_to_wait(response: Response) -> float | None:
    """The seconds after which the server asks to retry the same request; None if it does not.

    As in client-go (rest/with_retry.go): 429 or 5xx, with a header in whole seconds. `details.retryAfterSeconds` of a
    Status is for the caller, not for the transport.
    """
    return _retry_after(response) if response.status == 429 or response.status >= 500 else None


def _retry_after(response: Response) -> float | None:
    header = response.headers.get("Retry-After", "")
    return float(header) if header.isascii() and header.isdigit() else None


def _foreign_text(response: Response, path: str) -> str:
    """The text of a proxy, or of a handler outside the API machinery, shortened to one line. HTML is left out."""
    if response.status == 404:
        return f"the server does not know the path {path}: is the resource's CRD installed?"
    text = ""
    if response.headers.get("Content-Type", "").startswith("text/plain"):
        start = response.body[:_MAX_FOREIGN_TEXT].decode(errors="replace")
        text = "".join(c if c.isprintable() else " " for c in start).strip()
    return f"the server answered with status {response.status}" + (f": {text}" if text else "")


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
