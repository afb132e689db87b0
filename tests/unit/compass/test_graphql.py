"""What a transport makes of each kind of answer, and what it never does with a token."""

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.compass import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    Refused,
    Transport,
    Unavailable,
    client_context,
)
from controller.compass.graphql import Answer
from controller.compass.queries import CONFIGURATION
from controller.compass.redaction import MAX_FOREIGN_TEXT
from tests.unit.compass.https_server import SECRET_TOKEN, Server, http

SCOPES = "insufficient scopes provided [actual=; required=application:read]"


def execute(transport: Transport, url: str, *, timeout: float = 5.0) -> Answer:
    headers = {"Connector-Token": SECRET_TOKEN, "Tenant": "tenant-1"}
    return transport.execute(url, CONFIGURATION, {"a": 1}, headers=headers, request_id="id-1", timeout=timeout)


def error(message: str, code: Any = None, path: Any = None) -> dict[str, Any]:
    return {"errors": [{"message": message, "path": path, "extensions": {"error_code": code}}], "data": None}


FAILURES = [
    ("token not accepted by the Connector", http(b"", 400), Refused, {"status": 400, "code": None}),
    ("400 with blank body", http(b" \n", 400), Refused, {"status": 400}),
    ("401 with a page", http("<html>no</html>", 401), Refused, {"status": 401}),
    ("403 from a mesh", http("RBAC: access denied", 403), Refused, {"status": 403}),
    (
        "401 with a GraphQL error keeps the code",
        http(error("bad token", 26), 401),
        Refused,
        {"status": 401, "code": 26},
    ),
    ("scopes", http(error(SCOPES, 23)), Refused, {"status": 200, "code": 23}),
    ("scopes without a code", http(error(SCOPES)), Refused, {"status": 200, "code": None}),
    ("unauthorized", http(error("Unauthorized", 26)), Refused, {"code": 26}),
    ("no upstream", http("no healthy upstream", 503), Unavailable, {"status": 503, "retry_after": None}),
    ("HTML page", http("<html><body>Bad gateway</body></html>", 502), Unavailable, {"status": 502}),
    ("empty 500", http(b"", 500), Unavailable, {"status": 500}),
    ("5xx with GraphQL", http(error("boom", 10), 500), Unavailable, {"status": 500}),
    ("rate limit", http("slow down", 429, Retry_After="17"), Unavailable, {"status": 429, "retry_after": 17.0}),
    ("retry date", http("", 503, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), Unavailable, {"retry_after": None}),
    ("absurd retry", http("", 503, Retry_After="99999999999"), Unavailable, {"retry_after": None}),
    ("request timeout", http("", 408), Unavailable, {"status": 408}),
    ("not JSON", http("OK"), InvalidAnswer, {"path": ""}),
    ("empty 200", http(b""), InvalidAnswer, {"path": ""}),
    ("400 that is not empty", http("bad request", 400), InvalidAnswer, {}),
    ("404", http("nothing here", 404), InvalidAnswer, {}),
    ("redirect", http("", 302, Location="https://localhost/"), InvalidAnswer, {}),
    ("a list", http(b"[]"), InvalidAnswer, {"path": ""}),
    ("no data", http({}), InvalidAnswer, {"path": ""}),
    ("null data", http({"data": None}), InvalidAnswer, {"path": "data"}),
    ("data is a list", http({"data": []}), InvalidAnswer, {"path": "data"}),
    ("errors is a text", http({"errors": "x", "data": {}}), InvalidAnswer, {"path": "errors"}),
    ("data under 404", http({"data": {"a": 1}}, 404), InvalidAnswer, {}),
    ("resolver error", http(error("Invalid data", 22, ["a", 1, "b"])), GraphQLError, {"code": 22, "path": "a.1.b"}),
    ("tenant, HTTP 400", http(error("Tenant not found", 25), 400), Refused, {"code": 25}),
    ("validation, HTTP 422", http(error("Cannot query field"), 422), GraphQLError, {"code": None}),
    ("code is a text", http(error("x", "22")), GraphQLError, {"code": None}),
    ("code is a boolean", http(error("x", True)), GraphQLError, {"code": None}),
    ("error without a message", http({"errors": [{}]}), GraphQLError, {"code": None}),
    ("error that is no object", http({"errors": [7]}), GraphQLError, {"path": ""}),
]


@pytest.mark.parametrize(
    ("answer", "kind", "attributes"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
def test_each_failing_answer_has_one_kind_of_error(
    transport: Transport, server: Server, answer: bytes, kind: type[CompassError], attributes: dict[str, Any]
) -> None:
    """Status and body together decide the error's type; codes and status are kept, and the call's id."""
    server.answer = lambda _: answer
    with pytest.raises(CompassError) as caught:
        execute(transport, server.url).whole()
    assert type(caught.value) is kind
    assert {name: getattr(caught.value, name) for name in attributes} == attributes
    assert caught.value.request_id == "id-1"
    assert SECRET_TOKEN not in str(caught.value)


def test_a_request_is_json_with_variables_and_carries_its_id(transport: Transport, server: Server) -> None:
    """Values travel as variables; the headers are the protocol's."""
    server.answer = lambda _: http({"data": {"x": 1}})
    assert execute(transport, server.url).whole() == {"x": 1}
    (request,) = server.requests
    assert json.loads(request.body) == {"query": CONFIGURATION.text, "variables": {"a": 1}}
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.headers["accept"] == "application/json; charset=utf-8"
    assert request.headers["x-request-id"] == "id-1"
    assert request.headers["connector-token"] == SECRET_TOKEN
    assert request.headers["tenant"] == "tenant-1"


def test_a_partial_result_keeps_data_and_errors_but_is_never_whole(transport: Transport, server: Server) -> None:
    """Errors beside data make an answer partial."""
    entry = {"message": "no", "path": ["a"], "extensions": {"error_code": 22}}
    server.answer = lambda _: http({"data": {"a": None, "b": 1}, "errors": [entry]})
    answer = execute(transport, server.url)
    assert answer.data == {"a": None, "b": 1}
    assert [(e.message, e.path, e.code) for e in answer.errors] == [("no", ("a",), 22)]
    with pytest.raises(GraphQLError):
        answer.whole()


def test_a_short_password_does_not_blur_where_an_error_is(transport: Transport, server: Server) -> None:
    """The names that the query asks for are no secrets, whatever users and passwords the answer holds."""
    entry = {"message": "no", "path": ["configuration", 0, "token", "t"]}
    data = {"configuration": [{"auth": {"credential": {"username": "u", "password": "t"}}}]}
    server.answer = lambda _: http({"data": data, "errors": [entry]})
    (told,) = execute(transport, server.url).errors
    assert told.path[:3] == ("configuration", 0, "token")
    assert "t" not in told.path[3:]


def test_an_empty_list_of_errors_is_none(transport: Transport, server: Server) -> None:
    """`errors: []` says the same as no errors."""
    server.answer = lambda _: http({"data": {"a": 1}, "errors": []})
    assert execute(transport, server.url).whole() == {"a": 1}


def test_a_refusal_is_told_before_other_errors(transport: Transport, server: Server) -> None:
    """Among several errors, the one about our rights decides."""
    entries = [{"message": "other"}, {"message": SCOPES, "extensions": {"error_code": 23}}]
    server.answer = lambda _: http({"data": None, "errors": entries})
    with pytest.raises(Refused):
        execute(transport, server.url).whole()


def test_connections_are_kept_between_calls_until_close(transport: Transport, server: Server) -> None:
    """One pool for all calls; closing drops its connections."""
    server.answer = lambda _: http({"data": {}})
    for _ in range(3):
        execute(transport, server.url)
    assert server.connections == 1
    transport.close()
    execute(transport, server.url)
    assert server.connections == 2


ECHOES = [
    ("plain", http(f"who is {SECRET_TOKEN}?", 503)),
    ("in an error", http(error(f"unknown token {SECRET_TOKEN}"))),
    ("in an error's path", http(error("x", path=["a", SECRET_TOKEN]))),
    ("cut through by the limit", http("y" * (MAX_FOREIGN_TEXT - 12) + SECRET_TOKEN, 503)),
    ("put together by stripping", http(SECRET_TOKEN[:5] + "\x00" + SECRET_TOKEN[5:], 503)),
    ("as the status line", SECRET_TOKEN.encode() + b"\r\n\r\n"),
    ("as a header line", b"HTTP/1.1 200 OK\r\n" + SECRET_TOKEN.encode() + b"\r\nContent-Length: x\r\n\r\n{}"),
    ("as a chunk size", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET_TOKEN.encode() + b"\r\n"),
    ("in broken JSON", http('{"data": {"token": "' + SECRET_TOKEN)),
]


@pytest.mark.parametrize("answer", [row[1] for row in ECHOES], ids=[row[0] for row in ECHOES])
def test_a_token_that_comes_back_is_in_no_text(
    server: Server, ca_file: Path, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the message, nor the traceback with all chained errors, nor the query log shows the token."""
    transport = Transport(client_context(ca_file=ca_file), log_queries=True)
    server.answer = lambda _: lambda connection: connection.sendall(answer)
    with caplog.at_level(logging.DEBUG), pytest.raises(CompassError) as caught:
        execute(transport, server.url, timeout=2).whole()
    transport.close()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    shown += "".join(str(record.__dict__) for record in caplog.records if record.name.startswith("controller"))
    for length in (len(SECRET_TOKEN), 8):
        assert SECRET_TOKEN[:length] not in shown


def test_text_of_a_server_is_one_short_line(transport: Transport, server: Server) -> None:
    """Control characters go, and so does everything past the limit."""
    server.answer = lambda _: http("a\x1b[31mb\r\nc\u202ed" + "e" * 1000, 503)
    with pytest.raises(Unavailable) as caught:
        execute(transport, server.url)
    text = str(caught.value).removeprefix("HTTP 503: ")
    assert len(text) == MAX_FOREIGN_TEXT
    assert text.isprintable()


def test_an_unreadable_answer_is_not_quoted(transport: Transport, server: Server) -> None:
    """A cut off answer of the Director holds passwords."""
    server.answer = lambda _: http('{"data": {"x": [{"password": "hunter2hunter2"', 500)
    with pytest.raises(Unavailable) as caught:
        execute(transport, server.url)
    assert "hunter2" not in str(caught.value)


def test_a_password_of_the_answer_is_masked_in_its_errors(transport: Transport, server: Server) -> None:
    """What the answer itself shows to be a secret is redacted from the error beside it."""
    data = {"credential": {"__typename": "BasicCredentialData", "password": "hunter2hunter2"}}
    server.answer = lambda _: http({"data": data, "errors": [{"message": "cannot use hunter2hunter2"}]})
    assert "hunter2" not in execute(transport, server.url).errors[0].message


def test_failed_calls_are_logged_with_secrets_masked_and_others_not_at_all(
    server: Server, ca_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Query logging shows operation, variables, headers and answer of a failure."""
    transport = Transport(client_context(ca_file=ca_file), log_queries=True)
    with caplog.at_level(logging.INFO, logger="controller"):
        server.answer = lambda _: http({"data": {"token": {"token": "next-token-1"}}})
        execute(transport, server.url)
        assert not caplog.records
        server.answer = lambda _: http(
            {"data": {"token": {"token": "next-token-1"}, "n": 7}, "errors": [{"message": "next-token-1 is broken"}]}
        )
        execute(transport, server.url)
    transport.close()
    (record,) = caplog.records
    shown = str(record.__dict__)
    assert record.__dict__["operation"] == "configuration"
    assert record.__dict__["variables"] == '{"a": 1}'
    assert '"n": 7' in record.__dict__["answer"]
    assert "is broken" in record.__dict__["answer"]
    assert "tenant-1" in record.__dict__["headers"]
    assert "next-token-1" not in shown
    assert SECRET_TOKEN not in shown


def test_each_call_is_observed_once(server: Server, ca_file: Path) -> None:
    """The hook gets operation, outcome and duration, partial results and exceptions included."""
    seen: list[tuple[str, str, float]] = []
    ticks = iter(range(100))
    transport = Transport(
        client_context(ca_file=ca_file),
        observe=lambda *call: seen.append(call),
        monotonic=lambda: float(next(ticks)),
    )
    for answer in (http({"data": {}}), http(error("x", 22)), http(error("x", 23)), http("", 503), http("?")):
        server.answer = lambda _, answer=answer: answer  # type: ignore[misc]
        try:
            execute(transport, server.url)
        except CompassError:
            continue
    transport.close()
    outcomes = ["success", "graphql_error", "refused", "unavailable", "invalid_answer"]
    assert seen == [("configuration", outcome, 1.0) for outcome in outcomes]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(SECRET_TOKEN),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["data", "errors", "message", "path", "extensions", "error_code", "token", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BODIES = (
    st.binary(max_size=200)
    | st.binary(max_size=50).map(lambda body: body + SECRET_TOKEN.encode() + body)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"data": JSON, "errors": st.lists(JSON, max_size=3)}).map(lambda v: json.dumps(v).encode())
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, status=st.sampled_from([200, 200, 200, 400, 401, 404, 422, 429, 500, 503]))
def test_no_answer_crashes_or_leaks(transport: Transport, server: Server, body: bytes, status: int) -> None:
    """Whatever the bytes: an answer, or a CompassError without the token."""
    server.answer = lambda _: http(body, status)
    try:
        answer = execute(transport, server.url)
        shown = repr(answer) + str(answer.error() if answer.errors else "")
    except CompassError as failure:
        shown = "".join(traceback.format_exception(failure))
    assert SECRET_TOKEN not in shown


def test_an_answer_nested_without_end_is_not_json_to_us(transport: Transport, server: Server) -> None:
    """Depth is bounded by the parser, and masking for the log is by itself."""
    server.answer = lambda _: http(b"[" * 100_000)
    with pytest.raises(InvalidAnswer):
        execute(transport, server.url)
