"""What a transport makes of each kind of answer, and what it never does with a token."""

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.compass.answers import Answer
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    Refused,
    TooLarge,
    Unavailable,
    UnexpectedAnswer,
)
from controller.compass.graphql import Transport
from controller.compass.queries import CONFIGURATION
from controller.compass.redaction import MAX_FOREIGN_TEXT
from controller.compass.tls import client_context
from informers.transport import Stop, Stopped
from tests.unit.compass.https_server import SECRET_TOKEN, Server, http

SCOPES = "insufficient scopes provided [actual=; required=application:read]"


def execute(transport: Transport, url: str, *, timeout: float = 5.0) -> Answer[Any]:
    headers = {"Connector-Token": SECRET_TOKEN, "Tenant": "tenant-1"}
    return transport.execute(url, CONFIGURATION, {"first": 1}, headers=headers, request_id="id-1", timeout=timeout)


def error(message: str, code: Any = None, path: Any = None) -> dict[str, Any]:
    return {"errors": [{"message": message, "path": path, "extensions": {"error_code": code}}], "data": None}


OATHKEEPER_404 = {
    "error": {
        "code": 404,
        "status": "Not Found",
        "request": "5c1f0d2e",
        "message": "The requested resource could not be found",
    }
}
LOGIN = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
UPSTREAM = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
JSON_TYPE = "application/json;charset=UTF-8"

BESIDE_OTHERS = [{"message": "other"}, {"message": SCOPES, "extensions": {"error_code": 23}}]

FAILURES = [
    ("token not accepted by the Connector", http(b"", 400, Content_Type=JSON_TYPE), Refused, {"status": 400}),
    ("the same without a content type", http(b"", 400), Refused, {"status": 400, "code": None}),
    (
        "401 with a GraphQL error keeps the code",
        http(error("bad token", 26), 401),
        Refused,
        {"status": 401, "code": 26},
    ),
    ("scopes", http(error(SCOPES, 23)), Refused, {"status": 200, "code": 23}),
    ("scopes without a code", http(error(SCOPES)), Refused, {"status": 200, "code": None}),
    ("scopes beside other errors", http({"data": None, "errors": BESIDE_OTHERS}), Refused, {"code": 23}),
    ("no upstream", http("no healthy upstream", 503), Unavailable, {"retry_after": None, "timed_out": False}),
    ("upstream gone", http(UPSTREAM, 503), Unavailable, {"args": (f"HTTP 503: {UPSTREAM}",)}),
    ("HTML page", http("<html><body>Bad gateway</body></html>", 502), Unavailable, {"args": ("HTTP 502",)}),
    ("empty 500", http(b"", 500), Unavailable, {"status": 500}),
    ("5xx with GraphQL", http(error("boom", 10), 500), Unavailable, {"args": ("HTTP 500: boom",)}),
    ("rate limit", http("local_rate_limited", 429, Retry_After="17"), Unavailable, {"status": 429, "retry_after": 17}),
    ("rate limit without a time", http("local_rate_limited", 429), Unavailable, {"status": 429, "retry_after": 30}),
    ("retry date", http("", 503, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), Unavailable, {"retry_after": None}),
    ("absurd retry", http("", 503, Retry_After="99999999999"), Unavailable, {"retry_after": None}),
    ("request timeout", http("", 408), Unavailable, {"status": 408, "timed_out": True}),
    ("gateway timeout", http("", 504), Unavailable, {"status": 504, "timed_out": True}),
    ("too many values for its size", http({"data": {"x": [0] * 5000}}), TooLarge, {"single": True}),
    ("null data", http({"data": None}), InvalidAnswer, {"path": "data"}),
    ("data is a list", http({"data": []}), InvalidAnswer, {"path": "data"}),
    ("errors is a text", http({"errors": "x", "data": {}}), InvalidAnswer, {"path": "errors"}),
    ("data under 404", http({"data": {"a": 1}}, 404), InvalidAnswer, {}),
    ("data under 401", http({"data": {"a": 1}}, 401), InvalidAnswer, {}),
    (
        "resolver error",
        http(error("Invalid data", 22, ["token", 1, "b"])),
        GraphQLError,
        {"args": ("graphql: Invalid data",)},
    ),
    ("tenant, HTTP 400", http(error("Tenant not found", 25), 400), Refused, {"code": 25}),
    ("validation, HTTP 422", http(error("Cannot query field"), 422), GraphQLError, {}),
    ("error without a message", http({"errors": [{}], "data": None}), GraphQLError, {}),
    ("error that is no object", http({"errors": [7], "data": None}), GraphQLError, {}),
]

CONFIGURED = {
    "data": {"configuration": {"certificateSigningRequestInfo": {"subject": "CN=x", "keyAlgorithm": "rsa2048"}}}
}

UNEXPECTED = [
    ("unknown path of the gateway", http(OATHKEEPER_404, 404, Content_Type=JSON_TYPE), "JSON, but not GraphQL"),
    ("unknown path of another server", http("404 page not found\n", 404), '"404 page not found"'),
    ("login page", http(LOGIN, 200, Content_Type="text/html; charset=utf-8"), "text/html, not JSON"),
    ("page of a proxy, 403", http(LOGIN, 403, Content_Type="text/html"), "HTTP 403, text/html, not JSON"),
    ("empty 401", http("", 401), "HTTP 401, no content type, empty"),
    ("403 from a mesh", http("RBAC: access denied", 403, Content_Type="text/plain"), '"RBAC: access denied"'),
    ("empty 400 of a page", http("", 400, Content_Type="text/html"), "HTTP 400, text/html, empty"),
    ("400 with a page", http(LOGIN, 400), "HTTP 400, no content type, not JSON"),
    ("too large", http("Payload Too Large", 413, Content_Type="text/plain"), '"Payload Too Large"'),
    ("text under 200", http("OK"), "HTTP 200, no content type, not JSON"),
    ("empty 200", http(b""), "HTTP 200, no content type, empty"),
    ("a list", http(b"[]"), "JSON, but not GraphQL"),
    ("null", http(b"null"), "JSON, but not GraphQL"),
    ("no data", http({}), "JSON, but not GraphQL"),
    ("nested without end", http(b"[" * 100_000), "not JSON"),
    ("errors of another API", http({"errors": [{"title": "no"}]}, 404), "JSON, but not GraphQL"),
    ("errors without anything", http({"errors": []}), "JSON, but not GraphQL"),
    ("redirect", http("", 302, Location="https://login.example.com/?token=x"), "a redirect to login.example.com"),
    ("redirect within the host", http("", 301, Location="/login"), "a redirect to another path"),
    ("redirect to nowhere", http("", 307, Location="https://[::"), "a redirect to an unknown place"),
    ("a content type that is text", http("OK", Content_Type="s3cr3t"), "HTTP 200, no content type, not JSON"),
]


@pytest.mark.parametrize(("answer", "text"), [row[1:] for row in UNEXPECTED], ids=[row[0] for row in UNEXPECTED])
def test_an_answer_that_is_not_graphql_is_unexpected(
    transport: Transport, server: Server, answer: bytes, text: str
) -> None:
    """It says nothing about credentials. The error names the answer and the URL to check, without the URL's query."""
    server.answer = lambda _: answer
    with pytest.raises(UnexpectedAnswer) as caught:
        execute(transport, f"{server.url}?key=in-the-query").whole()
    assert str(caught.value).startswith(f"unexpected answer from {server.url}: HTTP ")
    assert text in str(caught.value)
    assert "; check the URL" in str(caught.value)
    assert str(caught.value.status) in answer.split(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    ("answer", "kind", "attributes"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
def test_each_failing_answer_has_one_kind_of_error(
    transport: Transport, server: Server, answer: bytes, kind: type[CompassError], attributes: dict[str, Any]
) -> None:
    """Status and body together decide the error's type; codes and status are kept."""
    server.answer = lambda _: answer
    with pytest.raises(CompassError) as caught:
        execute(transport, server.url).whole()
    assert type(caught.value) is kind
    assert {name: getattr(caught.value, name) for name in attributes} == attributes
    assert SECRET_TOKEN not in str(caught.value)


def test_a_request_is_json_with_variables_and_carries_its_id(transport: Transport, server: Server) -> None:
    """Values travel as variables; the headers are the protocol's."""
    server.answer = lambda _: http(CONFIGURED)
    assert execute(transport, server.url).whole().configuration.certificateSigningRequestInfo.keyAlgorithm == "rsa2048"
    (request,) = server.requests
    assert json.loads(request.body) == {"query": CONFIGURATION.text, "variables": {"first": 1}}
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.headers["accept"] == "application/json; charset=utf-8"
    assert request.headers["x-request-id"] == "id-1"
    assert request.headers["connector-token"] == SECRET_TOKEN
    assert request.headers["tenant"] == "tenant-1"


def test_a_partial_result_has_data_and_errors(transport: Transport, server: Server) -> None:
    """Errors beside data make an answer partial."""
    entry = {"message": "no", "path": ["token"], "extensions": {"error_code": 22}}
    server.answer = lambda _: http({**CONFIGURED, "errors": [entry]})
    answer = execute(transport, server.url)
    assert answer.data is not None
    assert answer.data.configuration.certificateSigningRequestInfo.keyAlgorithm == "rsa2048"
    assert [(e.message, e.path, e.code) for e in answer.errors] == [("an error at token, code 22", ("token",), 22)]
    with pytest.raises(GraphQLError):
        answer.whole()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.permutations(
        [
            {"message": "Internal Server Error", "extensions": {"error_code": 10}, "path": ["a", 0]},
            {"message": "Internal Server Error", "extensions": {"error_code": 10}, "path": ["a", 1]},
            {"message": "insufficient scopes [required=b]", "extensions": {"error_code": 23}},
            {"message": "insufficient scopes [required=a]", "extensions": {"error_code": 23}},
            {"message": "aaa"},
        ]
    ),
    kept=st.integers(min_value=1, max_value=5),
)
def test_the_order_of_errors_does_not_matter(
    transport: Transport, server: Server, entries: list[dict[str, Any]], kept: int
) -> None:
    """The Director sends them in a new order each time; the error that is reported stays the same."""
    some = entries[:kept]
    failures = []
    for order in (some, some[::-1], sorted(some, key=str)):
        server.answer = lambda _, order=order: http({"data": None, "errors": order})  # type: ignore[misc]
        failures.append(execute(transport, server.url).error())
    assert len({(type(failure), str(failure), failure.__dict__.get("code")) for failure in failures}) == 1


@pytest.mark.parametrize(
    ("code", "path", "read"),
    [
        (22, ["token", 1, "b"], (22, ("token", 1, "?"))),
        ("22", "token", (None, ())),
        (True, None, (None, ())),
    ],
)
def test_code_and_path_of_an_error_are_read_if_they_are_such(
    transport: Transport, server: Server, code: Any, path: Any, read: tuple[Any, Any]
) -> None:
    """A name that was not asked for may be anything, so it is not in the path."""
    server.answer = lambda _: http(error("x", code, path))
    (entry,) = execute(transport, server.url).errors
    assert (entry.code, entry.path) == read


UUIDS = ("1c6f8a2e-5b1e-4d5c-9a52-0d7a4f0f3a11", "9d0c4a3b-7f9c-4b36-8f5e-2a2f1f5f6c22")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("Internal Server Error [errorID={}]", "Internal Server Error"),
        ("Internal Server Error [errorID={}, reason: input: x]", "Internal Server Error [reason: input: x]"),
        ("a: Internal Server Error [errorID={}, reason: y] b", "a: Internal Server Error [reason: y] b"),
    ],
)
def test_the_error_id_is_not_part_of_the_message(transport: Transport, server: Server, sent: str, message: str) -> None:
    """The same error has the same text; the id is kept separately, for a search in the Director's log."""
    for uuid in UUIDS:
        server.answer = lambda _, uuid=uuid: http(error(sent.format(uuid), 10))  # type: ignore[misc]
        answer = execute(transport, server.url)
        assert (str(answer.error()), answer.errors[0].error_id) == (f"graphql: {message}", uuid)
        assert answer.errors[0].description == f"{message} (code 10, errorID {uuid})"


ECHOES = [
    ("cut through by the limit", http("y" * (MAX_FOREIGN_TEXT - 12) + SECRET_TOKEN, 503)),
    ("put together by stripping", http(SECRET_TOKEN[:5] + "\x00" + SECRET_TOKEN[5:], 503)),
    ("as the status line", SECRET_TOKEN.encode() + b"\r\n\r\n"),
    ("as a header line", b"HTTP/1.1 200 OK\r\n" + SECRET_TOKEN.encode() + b"\r\nContent-Length: x\r\n\r\n{}"),
    ("as a chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET_TOKEN.encode() + b"\r\n"),
]


@pytest.mark.parametrize("answer", [row[1] for row in ECHOES], ids=[row[0] for row in ECHOES])
def test_a_token_that_comes_back_is_in_no_text(
    server: Server, ca_file: Path, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the message, nor the traceback with all chained errors, nor the query log shows the token.

    Other bodies: test_redaction.py.
    """
    transport = Transport(client_context(ca_file=ca_file), log_queries=True)
    server.answer = lambda _: lambda connection: connection.sendall(answer)
    with caplog.at_level(logging.DEBUG), pytest.raises(CompassError) as caught:
        execute(transport, server.url, timeout=2).whole()
    transport.close()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    shown += "".join(str(record.__dict__) for record in caplog.records if record.name.startswith("controller"))
    for length in (len(SECRET_TOKEN), 8):
        assert SECRET_TOKEN[:length] not in shown


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, "cannot use hunter2"),
        ({"viewer": None, "n": [1, {}]}, "cannot use hunter2"),
        ({"credential": {"password": "hunter2"}}, "an error at configuration, code 22"),
        ({"a": [0, 'q"'], "b": None}, "an error at configuration, code 22"),
    ],
    ids=str,
)
def test_an_error_beside_texts_shows_its_place_and_code(
    transport: Transport, server: Server, data: Any, shown: str
) -> None:
    """It may repeat a secret of the answer in any form."""
    server.answer = lambda _: http(error("cannot use hunter2", 22, ["configuration", 3]) | {"data": data})
    assert execute(transport, server.url).errors[0].message == shown


def test_each_call_is_observed_once(server: Server, ca_file: Path) -> None:
    """The hook gets operation, outcome and duration, partial results and exceptions included."""
    seen: list[tuple[str, str, float]] = []
    now = 0.0

    def after_a_second(answer: bytes) -> bytes:
        nonlocal now
        now += 1.0
        return answer

    transport = Transport(
        client_context(ca_file=ca_file),
        observe=lambda *call: seen.append(call),
        monotonic=lambda: now,
    )
    answers = [http(CONFIGURED), http(error("x", 22)), http(error("x", 23))]
    for answer in (*answers, http("", 503), http("?"), http({"data": []})):
        server.answer = lambda _, answer=answer: after_a_second(answer)  # type: ignore[misc]
        try:
            execute(transport, server.url)
        except CompassError:
            continue
    transport.close()
    outcomes = ["success", "graphql_error", "refused", "unavailable", "unexpected_answer", "invalid_answer"]
    assert seen == [("configuration", outcome, 1.0) for outcome in outcomes]


def test_a_call_that_a_stop_ends_is_no_failure(ca_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the end of the process or of a term: neither an outcome nor a line in the log."""
    stop = Stop()
    stop.set()
    seen: list[tuple[str, str, float]] = []
    transport = Transport(
        client_context(ca_file=ca_file), log_queries=True, observe=lambda *call: seen.append(call), stop=stop
    )
    with caplog.at_level(logging.DEBUG, logger="controller"), pytest.raises(Stopped):
        execute(transport, "https://localhost:1/graphql")
    transport.close()
    assert (seen, caplog.messages) == ([], [])
