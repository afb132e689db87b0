"""The client: what is sent, what errors become, when a request is sent again."""

import contextlib
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import Configuration

from informers import (
    AlreadyExists,
    ApiError,
    Client,
    Conflict,
    ConnectionFailed,
    Expired,
    Forbidden,
    Invalid,
    ListerWatcher,
    NotFound,
    RequestMetrics,
    Resource,
    ServerError,
    Stop,
    TooManyRequests,
    Unauthorized,
)
from informers.client import _error_of
from informers.credentials import Credentials
from informers.errors import error_from_status
from informers.transport import Kind, Response, Stopped
from tests.clock import VirtualClock
from tests.fake_api_server.objects import WIDGETS, status, widget
from tests.fake_api_server.server import Answer, CloseWithoutAnswer, FakeAPIServer, NoAnswer
from tests.fake_api_server.waiting import HastyClock, eventually
from tests.unit.transport.peer import Peer, once
from workqueue.clock import REAL_CLOCK

SHORT = 0.2  # a deadline
LONG = 20.0  # longer than any machine needs to notice a deadline, shorter than whatever a request may hang in

NODES = Resource("", "v1", "nodes", "Node", namespaced=False)


class Metrics(RequestMetrics):
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []
        self.retries: list[tuple[str, str, str]] = []

    def request(self, *, verb: str, code: str, host: str, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((verb, code, host))

    def retry(self, *, verb: str, code: str, host: str) -> None:
        self.retries.append((verb, code, host))


ERRORS: dict[str, tuple[int, bytes, type[ApiError], str]] = {
    name: (code, json.dumps(status(code, reason)).encode(), error_type, reason)
    for name, code, reason, error_type in [
        ("400", 400, "BadRequest", ApiError),
        ("401", 401, "Unauthorized", Unauthorized),
        ("403", 403, "Forbidden", Forbidden),
        ("404", 404, "NotFound", NotFound),
        ("409 of a create", 409, "AlreadyExists", AlreadyExists),
        ("409", 409, "Conflict", Conflict),
        ("410", 410, "Expired", Expired),
        ("410 by its other name", 410, "Gone", Expired),
        ("422", 422, "Invalid", Invalid),
        ("429", 429, "TooManyRequests", TooManyRequests),
        ("500", 500, "InternalError", ServerError),
        ("503", 503, "ServiceUnavailable", ServerError),
        ("504", 504, "Timeout", ServerError),
        ("an unknown one", 418, "Teapot", ApiError),
    ]
} | {
    "a proxy's 502": (502, b"<html>", ServerError, ""),
    "a proxy's 503": (503, b"<html>", ServerError, "ServiceUnavailable"),
    "an unknown path": (404, b"404 page not found\n", NotFound, "NotFound"),
}


@pytest.mark.parametrize(("code", "body", "error_type", "reason"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(server: FakeAPIServer, code: int, body: bytes, error_type: type[ApiError], reason: str) -> None:
    """Each refusal has its type, and carries what the server said."""
    server.inject("other", Answer(code, body=body))
    with pytest.raises(ApiError) as caught:
        server.client().get(WIDGETS, "a", namespace="default")
    assert type(caught.value) is error_type
    assert (caught.value.status, caught.value.reason) == (code, reason)
    assert caught.value.message


@pytest.mark.parametrize(
    ("status", "content_type", "body", "text"),
    [
        (503, "text/plain", b"upstream connect error\n", "the server answered with status 503: upstream connect error"),
        (503, "text/plain", b"\x1b[2J\x00", "the server answered with status 503: [2J"),
        (503, "text/plain", b" \n", "the server answered with status 503"),
        (503, "text/plain; charset=utf-8", b"x" * 1000, "the server answered with status 503: " + "x" * 200),
        (502, "text/html", b"<html>secret</html>", "the server answered with status 502"),
        (404, "text/plain", b"404 page not found", "the server does not know the path /apis/a/v1/b:"),
        (404, "application/json", b'{"kind": "Status", "message": "none", "details": {}}', "none: /apis/a/v1/b"),
        (404, "application/json", b'{"kind": "Status", "message": "no a", "details": {"name": "a"}}', "no a"),
        (500, "application/json", b'{"kind": "Other", "message": "x"}', "the server answered with status 500"),
        (500, "application/json", b"[]", "the server answered with status 500"),
    ],
)
def test_foreign_answers(status: int, content_type: str, body: bytes, text: str) -> None:
    """What operators read: the text of a proxy, short and printable, not its pages; a 404 that names no object has the
    path, because that is what is wrong.
    """
    response = Response(status, {"Content-Type": content_type}, body)
    error = _error_of(response, "https://host/apis/a/v1/b?secret=1")
    assert error.status == status
    assert error.message.startswith(text)
    assert ("/apis" in error.message) == ("/apis" in text)
    assert "secret" not in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize(
    ("event", "error_type", "code", "reason", "retry_after"),
    [
        ({"code": 410}, Expired, 410, "Expired", None),
        ({"reason": "Expired"}, Expired, 0, "Expired", None),
        ({"code": 500, "reason": "TooManyRequests"}, TooManyRequests, 500, "TooManyRequests", None),
        ({"code": 500}, ServerError, 500, "InternalError", None),
        ({"code": 599}, ServerError, 599, "", None),
        ({"code": 499}, ApiError, 499, "", None),
        ({"code": "410", "details": ["x"]}, ApiError, 0, "", None),
        ({"code": True, "reason": None}, ApiError, 0, "", None),
        ({"code": 429, "details": {"retryAfterSeconds": 7}}, TooManyRequests, 429, "TooManyRequests", 7),
        ({"code": 429, "details": {"retryAfterSeconds": "7"}}, TooManyRequests, 429, "TooManyRequests", None),
    ],
)
def test_error_events(
    event: dict[str, Any], error_type: type[ApiError], code: int, reason: str, retry_after: float | None
) -> None:
    """Of a watch. The reason counts more than the code, and what has another shape does not count."""
    error = error_from_status(event)
    assert type(error) is error_type
    assert (error.status, error.reason, error.retry_after) == (code, reason, retry_after)
    assert error.details == ({} if code != 429 else event["details"])
    assert error.message


class Held:
    """A local variable of a caller, such as credentials."""


@pytest.mark.parametrize("code", [404, 409, 429, 500])
def test_a_refusal_that_is_handled_leaves_nothing_behind(server: FakeAPIServer, code: int) -> None:
    """No cycle of error, traceback and frame, which would keep the variables of all callers until a collection."""
    server.inject("other", Answer(code))
    client = server.client()

    def call() -> weakref.ref[Held]:
        held = Held()
        with contextlib.suppress(ApiError):
            client.update(WIDGETS, widget("a", 1))
        return weakref.ref(held)

    gc.disable()
    try:
        assert call()() is None
    finally:
        gc.enable()


def test_details_and_text(server: FakeAPIServer) -> None:
    """details are the server's; the text ends with code and reason."""
    body = status(409, "Conflict", "changed meanwhile", name="a", retryAfterSeconds=3)
    server.inject("other", Answer(409, body=json.dumps(body).encode()))
    with pytest.raises(Conflict) as caught:
        server.client().get(WIDGETS, "a", namespace="default")
    assert caught.value.details == {"name": "a", "retryAfterSeconds": 3}
    assert caught.value.retry_after == 3
    assert str(caught.value) == "changed meanwhile (409 Conflict)"


class TestRetry:
    """429 and 5xx that carry Retry-After are sent again, up to ten times."""

    @pytest.mark.parametrize("code", [429, 500, 503])
    def test_is_sent_again(self, server: FakeAPIServer, code: int) -> None:
        """After the wait the server asks for."""
        server.inject("other", Answer(code, retry_after="3"), Answer(200, body=b'{"a": 1}'))
        clock, metrics = HastyClock(), Metrics()
        client = server.client(clock=clock, metrics=metrics)
        assert client.request("GET", "/x") == {"a": 1}
        assert clock.sleeps == [3.0]
        assert metrics.requests == [("GET", str(code), client.host), ("GET", "200", client.host)]
        assert metrics.retries == [("GET", str(code), client.host)]

    @pytest.mark.parametrize(
        "answer", [Answer(429), Answer(500), Answer(429, retry_after="soon"), Answer(409, retry_after="1")]
    )
    def test_is_not_sent_again(self, server: FakeAPIServer, answer: Answer) -> None:
        """Not without the header, nor for other answers."""
        server.inject("other", answer)
        with pytest.raises(ApiError):
            server.client(clock=HastyClock()).request("GET", "/x")
        assert len(server.requests) == 1

    def test_gives_up(self, server: FakeAPIServer) -> None:
        """Eleven requests in all; the error says what the server asked for."""
        server.inject("other", *[Answer(429, "TooManyRequests", retry_after="1")] * 20)
        with pytest.raises(TooManyRequests) as caught:
            server.client(clock=HastyClock()).request("GET", "/x")
        assert len(server.requests) == 11
        assert caught.value.retry_after == 1.0

    def test_close_ends_the_wait(self, server: FakeAPIServer) -> None:
        """A closed client waits no longer and sends nothing more."""
        server.inject("other", Answer(429, "TooManyRequests", retry_after="25"))
        metrics = Metrics()
        client = server.client(clock=REAL_CLOCK, metrics=metrics)
        errors: list[ApiError] = []

        def request() -> None:
            try:
                client.request("GET", "/x")
            except ApiError as error:
                errors.append(error)

        thread = threading.Thread(target=request)
        thread.start()
        eventually(lambda: metrics.retries)
        client.close()
        thread.join(60)
        assert [type(error) for error in errors] == [TooManyRequests]
        with pytest.raises(ConnectionFailed) as caught:
            client.request("GET", "/x")
        assert caught.value.reason == ConnectionFailed.CLOSED


class TestConnectionFailed:
    """Without an answer the error names the host and the cause."""

    def test_refused(self, server: FakeAPIServer) -> None:
        """Nobody listens."""
        metrics = Metrics()
        client = server.client(metrics=metrics)
        server.refuse()
        with pytest.raises(
            ConnectionFailed,
            match=rf"cannot reach the API server at {client.host}: the connection to {client.host} was refused",
        ):
            client.request("GET", "/x")
        assert metrics.requests == [("GET", "<error>", client.host)]

    def test_an_answer_that_no_library_expects(self) -> None:
        """Is one of our errors, too, and is not asked for again. (All of them: tests/unit/transport.)"""
        peer = Peer(once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n"))
        configuration = Configuration(host=peer.url.rstrip("/"))
        client = Client(configuration, Credentials(configuration))
        with pytest.raises(ConnectionFailed, match="unexpected ValueError") as caught:
            client.request("GET", "/x")
        assert caught.value.reason == Kind.UNEXPECTED
        assert peer.connections == 1
        client.close()
        peer.close()

    def test_a_read_whose_new_connection_breaks_is_sent_again(self, server: FakeAPIServer) -> None:
        """client-go rest/request.go: a second apart, ten times at most; a write is not."""
        server.inject("other", *[CloseWithoutAnswer()] * 10, Answer(200, body=b"{}"), *[CloseWithoutAnswer()] * 12)
        clock = HastyClock()
        client = server.client(clock=clock)
        assert client.request("GET", "/x") == {}
        assert clock.sleeps == [1.0] * 10
        with pytest.raises(ConnectionFailed, match=r"the connection was (reset|closed without an answer)"):
            client.request("GET", "/x")
        assert len(server.requests) == 23

    def test_a_watch_is_not_sent_again(self, server: FakeAPIServer) -> None:
        """Its reflector resumes it."""
        server.inject("watch", CloseWithoutAnswer())
        with pytest.raises(ConnectionFailed):
            server.client(clock=HastyClock()).watch(WIDGETS).open()
        assert server.verbs() == ["watch"]

    def test_idle_connection_that_was_closed(self, server: FakeAPIServer) -> None:
        """The server may close an idle connection just as it is used again: what only reads is sent again at once."""
        answer = Answer(200, body=b"{}")
        server.inject("other", answer, CloseWithoutAnswer(), answer, CloseWithoutAnswer(), CloseWithoutAnswer(), answer)
        clock = HastyClock()
        client = server.client(clock=clock)
        for _ in range(2):
            assert client.request("GET", "/x") == {}
        assert clock.sleeps == []
        assert client.request("GET", "/x") == {}
        assert clock.sleeps == [1.0]
        server.inject("other", CloseWithoutAnswer())
        with pytest.raises(ConnectionFailed):
            client.request("POST", "/x", body={})
        assert [request.method for request in server.requests] == ["GET"] * 6 + ["POST"]


def test_a_server_that_is_not_verified_is_told(caplog: pytest.LogCaptureFixture) -> None:
    configuration = Configuration(host="https://api.example.com")
    configuration.verify_ssl = False
    Client(configuration, Credentials(configuration)).close()
    (record,) = [record for record in caplog.records if "not verified" in record.message]
    assert "insecure-skip-tls-verify" in record.message


PATH = "/apis/example.com/v1/namespaces/default/widgets"
OPTIONS = {"kind": "DeleteOptions", "apiVersion": "v1"}
WRITES: dict[str, tuple[Callable[[Client], Any], tuple[Any, ...]]] = {
    "create": (
        lambda client: client.create(WIDGETS, widget("a", 1), dry_run=True),
        ("POST", PATH, {"dryRun": "All"}, widget("a", 1)),
    ),
    "update of a subresource": (
        lambda client: client.update(WIDGETS, widget("a", 1), subresource="status"),
        ("PUT", f"{PATH}/a/status", {}, widget("a", 1)),
    ),
    "patch": (
        lambda client: client.patch(WIDGETS, "a", {"spec": None}, namespace="default"),
        ("PATCH", f"{PATH}/a", {}, {"spec": None}),
    ),
    "delete": (
        lambda client: client.delete(WIDGETS, "a", namespace="default"),
        ("DELETE", f"{PATH}/a", {}, OPTIONS),
    ),
    "delete of this very object": (
        lambda client: client.delete(WIDGETS, "a", namespace="default", uid="u", resource_version="7"),
        ("DELETE", f"{PATH}/a", {}, OPTIONS | {"preconditions": {"uid": "u", "resourceVersion": "7"}}),
    ),
}


class TestRequests:
    """What goes over the wire."""

    def sent(self, server: FakeAPIServer) -> tuple[str, str, dict[str, str], Any]:
        request = server.requests[-1]
        return request.method, request.path, request.query, json.loads(request.body) if request.body else None

    @pytest.fixture(autouse=True)
    def _answers(self, server: FakeAPIServer) -> None:
        server.inject("other", *[Answer(200, body=b"{}")] * 3)

    @pytest.mark.parametrize(("call", "sent"), WRITES.values(), ids=WRITES.keys())
    def test_writes(self, server: FakeAPIServer, call: Callable[[Client], Any], sent: tuple[Any, ...]) -> None:
        """The namespace is the object's unless given; a patch is a merge patch; preconditions go into the body."""
        call(server.client())
        assert self.sent(server) == sent
        content_type = "application/merge-patch+json" if sent[0] == "PATCH" else "application/json"
        assert server.requests[-1].headers["Content-Type"] == content_type

    def test_list_and_watch_of_a_reflector(self, server: FakeAPIServer) -> None:
        """Bookmarks are asked for; a watch sends nothing before it is opened."""
        source = ListerWatcher(
            server.client(user_agent="agent/1"), WIDGETS, namespace="ns", label_selector="a=b", field_selector="c=d"
        )
        selected = {"labelSelector": "a=b", "fieldSelector": "c=d"}
        path = "/apis/example.com/v1/namespaces/ns/widgets"
        server.inject("list", Answer(200, body=b"{}"))
        source.list(limit=7, continue_="token", stop=Stop())
        assert self.sent(server) == ("GET", path, selected | {"limit": "7", "continue": "token"}, None)
        watch = source.watch(resource_version="7", timeout_seconds=300)
        assert len(server.requests) == 1
        streamed = source.watch(resource_version="7", timeout_seconds=300, send_initial_events=True)
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "7", "timeoutSeconds": "300"}
        initial = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        for stream, more in ((watch, {}), (streamed, initial)):
            server.inject("watch", Answer(410, "Expired"))
            with pytest.raises(Expired):
                stream.open()
            assert self.sent(server) == ("GET", path, selected | query | more, None)
        assert server.requests[-1].headers["User-Agent"] == "agent/1"

    def test_a_list_of_a_reflector_ends_with_its_stop(self, server: FakeAPIServer) -> None:
        server.inject("list", NoAnswer())
        stop = Stop()
        threading.Thread(target=lambda: (server.wait_for_request("list"), stop.set())).start()  # type: ignore[func-returns-value]
        with pytest.raises(Stopped):
            ListerWatcher(server.client(), WIDGETS).list(limit=None, continue_="", stop=stop)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("get", WIDGETS, "a"), "no namespace was given"),
            (("get", WIDGETS, ""), "name of a Widget is empty"),
            (("create", WIDGETS, {"metadata": {"name": "a"}}), "neither argument nor object names a namespace"),
        ],
    )
    def test_nonsense(self, server: FakeAPIServer, arguments: tuple[Any, ...], text: str) -> None:
        """Arguments that fit no request raise ValueError and send nothing."""
        method, *rest = arguments
        with pytest.raises(ValueError, match=text):
            getattr(server.client(), method)(*rest)
        with pytest.raises(ValueError, match="asked for, but the object says"):
            server.client().create(WIDGETS, widget("a", 1), namespace="other")
        assert not server.requests


class TestListTimeout:
    """A list may take longer than other requests, and how long is the caller's to say."""

    def test_is_longer(self, server: FakeAPIServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its first byte may come when any other request would have been given up."""
        monkeypatch.setattr("informers.client.REQUEST_TIMEOUT", SHORT)
        server.cluster.put("a")
        client, answer = server.client(), threading.Event()
        server.inject("other", NoAnswer())
        server.inject("list", NoAnswer(until=answer))
        threading.Timer(4 * SHORT, answer.set).start()
        assert len(client.list(WIDGETS)["items"]) == 1
        with pytest.raises(ConnectionFailed):
            client.get(WIDGETS, "a", namespace="default")


class TestRetryAfter:
    """The waits between two tries count too."""

    def test_a_wait_that_does_not_fit_is_not_begun(self, server: FakeAPIServer) -> None:
        """The error tells how long the server asks to wait; the caller may know better what to do meanwhile."""
        server.inject("other", Answer(429, "TooManyRequests", retry_after="3"))
        clock = HastyClock()
        with pytest.raises(TooManyRequests) as caught:
            server.client(clock=clock).request("GET", "/x", timeout=2.5)
        assert caught.value.retry_after == 3.0
        assert clock.sleeps == []

    def test_waits_add_up(self, server: FakeAPIServer) -> None:
        """The third wait of 3 s would be over after 9 s."""
        server.inject("other", *[Answer(503, retry_after="3")] * 10)
        clock = HastyClock()
        with pytest.raises(ApiError):
            server.client(clock=clock).request("GET", "/x", timeout=8)
        assert clock.sleeps == [3.0, 3.0]
        assert len(server.requests) == 3

    def test_the_try_after_a_wait_has_what_is_left(self, server: FakeAPIServer) -> None:
        """Not the whole timeout once more."""
        server.inject("other", Answer(503, retry_after="50"), NoAnswer())
        begun = time.monotonic()
        with pytest.raises(ConnectionFailed, match=r"within [012](\.\d)? s"):
            server.client(clock=HastyClock()).request("GET", "/x", timeout=52)
        assert time.monotonic() - begun < LONG

    def test_each_answer_is_reported_also_to_the_work(self, server: FakeAPIServer) -> None:
        server.inject("other", Answer(500), *[Answer(200, body=b"{}")] * 2)
        told: list[str] = []
        client = server.client(answered=lambda *_: told.append("client"))
        work = client.until(None, stop=Stop(), answered=lambda *_: told.append("work"))
        with pytest.raises(ApiError):
            work.request("GET", "/x")
        work.request("GET", "/x")
        client.request("GET", "/x")
        assert told == ["client", "work", "client", "work", "client"]

    def test_a_stop_ends_the_wait(self, server: FakeAPIServer) -> None:
        """Of the work, and then nothing is sent again; first tries still are."""
        server.inject("other", *[Answer(429, "TooManyRequests", retry_after="25")] * 2, Answer(200, body=b"{}"))
        metrics = Metrics()
        stop = Stop()
        client = server.client(clock=REAL_CLOCK, metrics=metrics).until(None, stop=stop)
        errors: list[ApiError] = []

        def work() -> None:
            for _ in range(2):
                with contextlib.suppress(TooManyRequests):
                    client.request("POST", "/x", body={})
                errors.append(TooManyRequests(""))
            client.request("POST", "/last", body={})

        thread = threading.Thread(target=work)
        thread.start()
        eventually(lambda: metrics.retries)
        assert not errors
        stop.set()
        thread.join(LONG)
        assert len(errors) == 2
        assert [request.path for request in server.requests] == ["/x", "/x", "/last"]


def test_how_long_all_requests_were_refused(server: FakeAPIServer, clock: VirtualClock) -> None:
    """From the first 401 until another answer."""
    refused = Answer(401, "Unauthorized")
    server.inject("other", refused, refused, Answer(200, body=b"{}"), refused)
    client, seconds = server.client(clock=clock), []
    for _ in range(4):
        with contextlib.suppress(Unauthorized):
            client.request("GET", "/x")
        clock.advance(1)
        seconds.append(client.refused_for)
    assert seconds == [1, 2, 0, 1]


class TestStop:
    """A request can be told to end at once."""

    def test_close_ends_all_requests(self, server: FakeAPIServer) -> None:
        """Of a client that is closed nobody waits for an answer."""
        server.inject("other", NoAnswer())
        client = server.client()
        threading.Thread(target=lambda: (server.wait_for_request("other"), client.close())).start()  # type: ignore[func-returns-value]
        with pytest.raises(ConnectionFailed, match="the client is closed"):
            client.request("GET", "/x")
