"""What Compass sends never gets into an error or the query log, unless it is known to be harmless."""

import base64
import json
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from graphql import FieldNode, InlineFragmentNode, OperationDefinitionNode, SelectionSetNode, parse

from controller.compass import queries, types
from controller.compass.answers import Answer
from controller.compass.errors import CompassError, GraphQLError
from controller.compass.graphql import Transport
from controller.compass.http import HttpAnswer
from controller.compass.queries import CONFIGURATION, Operation
from controller.compass.redaction import (
    MAX_FOREIGN_TEXT,
    Redactor,
    first_words,
    message_without_data,
)
from controller.compass.tls import client_context

OPERATIONS = [value for value in vars(queries).values() if isinstance(value, Operation)]
SENT = "s3nt-T0ken-Aa_9"
RECEIVED = "r3ceived-T0ken-Bb_8"
CONFIGURED = {"data": {"configuration": {"token": {"token": RECEIVED}}}}
DOCUMENT = json.dumps(CONFIGURED)


class CannedHttp:
    def __init__(self, answer: HttpAnswer) -> None:
        self._answer = answer

    def post(self, *_: object, **__: object) -> HttpAnswer:
        return self._answer


@pytest.fixture(scope="module")
def logging_transport() -> Transport:
    return Transport(client_context(), log_queries=True)


def shown(
    transport: Transport,
    caplog: pytest.LogCaptureFixture,
    body: bytes,
    status: int = 200,
    operation: Operation[Any] = CONFIGURATION,
) -> str:
    """All that is shown of a call that got this answer: error, traceback, representations, query log."""
    transport._http = CannedHttp(HttpAnswer(status, body, "", content_type="application/json"))  # type: ignore[assignment]
    caplog.clear()
    parts = []
    with caplog.at_level(logging.DEBUG, logger="controller"):
        try:
            answer: Answer[Any] = transport.execute(
                "https://compass.example.com/",
                operation,
                {"csr": "c"},
                headers={"Connector-Token": SENT, "Tenant": "tenant-1"},
                request_id="id-1",
            )
            parts += [repr(answer), str(answer.error()) if answer.errors else ""]
        except CompassError as error:
            parts += traceback.format_exception(error)
            parts += [str(error.__dict__), repr(error)]
    return "".join(parts) + "".join(str(record.__dict__) for record in caplog.records)


NEARLY_JSON = {
    "a leading NUL": "\0" + DOCUMENT,
    "server-sent events": f"event: message\ndata: {DOCUMENT}\n\n",
    "JSON in JSON": json.dumps(DOCUMENT),
    "JSON in a field": json.dumps({"result": DOCUMENT}),
    "JSON in data": json.dumps({"data": DOCUMENT}),
    "JSON in data of an error": json.dumps({"data": DOCUMENT, "errors": [{"message": "no"}]}),
    "JSON in a message": json.dumps({"errors": [{"message": DOCUMENT}]}),
    "JSON in JSON in a message": json.dumps({"errors": [{"message": json.dumps(DOCUMENT)}]}),
    "JSON after words in a message": json.dumps({"errors": [{"message": f"cannot read {DOCUMENT}"}]}),
    "a secret that is named in a message": json.dumps({"errors": [{"message": f"bad token: {RECEIVED}"}]}),
    "an authorization in a message": json.dumps({"errors": [{"message": f"header Authorization: Bearer {RECEIVED}"}]}),
    "URL-encoded in a message": json.dumps({"errors": [{"message": "%7B%22token%22%3A%22" + RECEIVED}]}),
    "HTML-encoded in a message": json.dumps({"errors": [{"message": f"token&quot;:&quot;{RECEIVED}"}]}),
    "XML in a message": json.dumps({"errors": [{"message": f"<token>{RECEIVED}</token>"}]}),
    "in a path": json.dumps({"errors": [{"message": "no", "path": ["configuration", RECEIVED]}]}),
    "in extensions": json.dumps({"errors": [{"message": "no", "extensions": {"token": RECEIVED}}]}),
    "as a key": json.dumps({"data": {RECEIVED: 1}, "errors": [{"message": "no"}]}),
    "as a number of another field": json.dumps({"data": {"secret": 12345678901}, "errors": [{"message": "no"}]}),
    "JSON lines": DOCUMENT + "\n" + DOCUMENT,
    "YAML": f"token: {RECEIVED}",
    "bare": RECEIVED,
    "HTML": f"<html><body>{RECEIVED}</body></html>",
    "UTF-16": DOCUMENT.encode("utf-16"),
}


@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("body", NEARLY_JSON.values(), ids=NEARLY_JSON)
def test_a_body_that_is_nearly_json_shows_nothing(
    logging_transport: Transport, caplog: pytest.LogCaptureFixture, body: str | bytes, status: int
) -> None:
    """Neither a secret that we sent nor one that only the answer holds, in no form that it came in."""
    raw = body.encode() if isinstance(body, str) else body
    for secret in (RECEIVED, SENT):
        text = shown(logging_transport, caplog, raw.replace(RECEIVED.encode(), secret.encode()), status)
        assert secret not in text
        assert secret[:8] not in text
        assert base64.b64encode(DOCUMENT.encode()).decode()[:40] not in text
    assert "12345678901" not in text
    assert "Call to Compass failed" in text


TEXTS = {
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure": None,
    "the latest reset reason: remote connection failure, transport failure reason: delayed connect error: 111": None,
    "local_rate_limited": None,
    "Payload Too Large": None,
    "404 page not found\n": "404 page not found",
    "RBAC: access denied": None,
    "default backend - 404": "default backend",
    "Backend maintenance until tomorrow, see the status page.": None,
    "NO HEALTHY UPSTREAM hunter2": "NO HEALTHY UPSTREAM",
    "": None,
    "hunter2 and more": "",
    "1234": "",
    "the token swordfish": "the",
    "password: swordfish": "",
    "event: message": "",
    "a=b": "",
    "words " * 100: " ".join(["words"] * 20),
    "\u00fcmlaut": "",
    "<html><head><title>404 Not Found</title></head><body>secret</body>": "404 Not Found",
    "<!DOCTYPE html>\n<HTML><TITLE>\n Sign in\n to Example </TITLE>": "Sign in to Example",
    "<html><title>503 Service Temporarily Unavailable | x</title>": "503 Service Temporarily Unavailable",
    "<html><body>no title</body></html>": "",
    "<html><title>without an end": "",
    "<html>" + " " * 10_000 + "<title>late</title>": "",
}


@pytest.mark.parametrize(("text", "words"), TEXTS.items(), ids=lambda value: str(value)[:40])
def test_text_of_proxies_is_shown_up_to_a_possible_value(text: str, words: str | None) -> None:
    """Of a page only the title is read. None: the whole text."""
    expected = text if words is None else words
    for content_type in ("", "text/html" if "<" in text else "text/plain"):
        assert first_words(text.encode(), content_type) == expected


MESSAGES = {
    "insufficient scopes provided [actual=; required=application:read]": None,
    "Invalid data [reason=page size must be between 1 and 200]": None,
    "The operation is not allowed [reason=requesting runtime should be in same scenario as the requested application "
    "resource]": None,
    'Cannot query field "viewer" on type "Query".': None,
    "Tenant not found [externalTenant=6f0c1a4e-0000-4000-8000-000000000001]": None,
    "Internal Server Error [reason: input: runtime doesn't exist]": None,
    "invalid token provided": None,
    'Error while signing: {"csr": "x"}': "Error while signing: (followed by data)",
    "{}": "(followed by data)",
    "x" * 5000: "a message of 5000 characters",
}


@pytest.mark.parametrize(("message", "text"), MESSAGES.items(), ids=lambda value: str(value)[:40])
def test_messages_of_the_director_are_shown_up_to_data(message: str, text: str | None) -> None:
    """None: the whole message."""
    assert message_without_data(message) == (message if text is None else text)


def definition(operation: Operation[Any]) -> OperationDefinitionNode:
    (found,) = parse(operation.text).definitions
    assert isinstance(found, OperationDefinitionNode)
    return found


def filled(
    selections: SelectionSetNode | None, canaries: list[str], answer: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An answer to a selection with a canary in every field, of all kinds of credentials.

    Kinds may share a field, so the fragments fill one `answer`.
    """
    answer = {} if answer is None else answer
    for node in selections.selections if selections else ():
        if isinstance(node, InlineFragmentNode):
            filled(node.selection_set, canaries, answer)
        elif isinstance(node, FieldNode) and node.name.value in answer:
            continue
        elif isinstance(node, FieldNode) and node.selection_set is not None:
            answer[node.name.value] = [filled(node.selection_set, canaries), filled(node.selection_set, canaries)]
        elif isinstance(node, FieldNode):
            canaries.append(f"canary-{node.name.value}-{len(canaries)}")
            inner: Any = {"X": [canaries[-1]], "Y": None} if node.name.value.startswith("additional") else canaries[-1]
            answer[node.name.value] = inner
    return answer


@pytest.mark.parametrize("operation", OPERATIONS, ids=[f"{o.name}-{n}" for n, o in enumerate(OPERATIONS)])
def test_no_secret_of_any_operation_is_shown(
    logging_transport: Transport, caplog: pytest.LogCaptureFixture, operation: Operation[Any]
) -> None:
    """An error beside the data repeats all of it; nothing of it is in any text or log."""
    canaries: list[str] = []
    data = filled(definition(operation).selection_set, canaries)
    errors = [{"message": f"cannot use {canary}"} for canary in canaries] + [{"message": "boom"}]
    shown_text = shown(
        logging_transport, caplog, json.dumps({"data": data, "errors": errors}).encode(), operation=operation
    )
    assert "Call to Compass failed" in shown_text
    assert "canary" not in shown_text


def test_the_query_log_has_no_body_and_no_header(
    logging_transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    """Operation, ids, status, size, duration, request id, and the errors."""
    entry = {"message": "no such page [errorID=4711]", "path": ["configuration"], "extensions": {"error_code": 22}}
    data = {"configuration": {"certificateSigningRequestInfo": {"subject": "O=verbatim"}}}
    body = json.dumps({"data": data, "errors": [entry] * 30}).encode()
    assert "verbatim" not in shown(logging_transport, caplog, body)
    (record,) = (record for record in caplog.records if record.levelno == logging.INFO)
    logged = {
        name: record.__dict__[name] for name in ("operation", "outcome", "status", "bytes", "requestID", "errors")
    }
    errors = [*["an error at configuration, code 22 (code 22, path configuration)"] * 20, "and 10 more"]
    assert logged == {
        "operation": "configuration",
        "outcome": "graphql_error",
        "status": 200,
        "bytes": len(body),
        "requestID": "id-1",
        "errors": errors,
    }
    assert record.__dict__["variables"] == {}
    assert record.__dict__["seconds"] < 60


def test_no_representation_of_credentials_shows_them() -> None:
    """Of all kinds there are, and of a bundle's headers and parameters."""
    names = [field.name for field in msgspec.structs.fields(types.Credential)]
    credential = types.Credential(**{name: "kind" if name == "typename" else "canary" for name in names})
    parameters = {"X": ["canary"]}
    auth = types.Auth(credential, additionalHeaders=parameters, additionalQueryParams=parameters)
    assert repr(types.Bundle("b", "n", defaultInstanceAuth=auth)).count("Credential('kind')") == 1
    assert "canary" not in repr(types.Bundle("b", "n", defaultInstanceAuth=auth))
    assert "canary" not in repr(types.SigningOffer("s", "k", token="canary"))
    assert "canary" not in repr(types.TokenOf("canary"))


def test_a_secret_is_masked_in_each_form_it_may_come_in() -> None:
    """As it is, inside JSON, in a URL, in base64."""
    secret = 'p"w/ä&'
    for form in (secret, json.dumps(secret), "p%22w%2F%C3%A4%26", base64.b64encode(secret.encode()).decode()):
        assert "[redacted]" in Redactor([secret]).clean(f"x {form} y")


def _secrets() -> list[dict[str, Any]]:
    return [{"credential": {"password": f"{n:010d}"[: n % 10 + 1] + "x" * (n % 300)}} for n in range(5_000)]


# What took minutes: texts for a regular expression, many texts, and many secrets that they may repeat.
_HOSTILE: dict[str, Callable[[], dict[str, Any]]] = {
    "one text": lambda: {"errors": [{"message": "\n" * 4000} for _ in range(80)]},
    "line ends": lambda: {"errors": [{"message": f"{n}" + "\n" * 3900} for n in range(175)]},
    "spaces": lambda: {"errors": [{"message": " " * 3990 + f"{n}"} for n in range(175)]},
    "many": lambda: {"errors": [{"message": f"error {n}"} for n in range(50_000)]},
    "secrets": lambda: {"data": {"x": _secrets()}, "errors": [{"message": f"error {n} xxxxxxx"} for n in range(1_250)]},
}


@pytest.mark.parametrize("hostile", _HOSTILE.values(), ids=_HOSTILE)
def test_no_answer_stops_the_process(
    logging_transport: Transport, caplog: pytest.LogCaptureFixture, hostile: Callable[[], dict[str, Any]]
) -> None:
    """A megabyte of errors is read in linear time: other threads do not wait for them."""
    body = json.dumps(hostile()).encode()
    assert len(body) <= 2 * 2**20
    began = time.thread_time()
    shown(logging_transport, caplog, body)
    assert time.thread_time() - began < 2.0


def test_an_error_of_two_megabytes_is_short(logging_transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    """Its message, and its place."""
    entry = {"message": "m" * 2_000_000, "path": ["p" * 2_000_000]}
    body = json.dumps({"data": None, "errors": [entry]}).encode()
    assert len(shown(logging_transport, caplog, body)) < 20_000
    answer = logging_transport.execute(
        "https://compass.example.com/", CONFIGURATION, {}, headers={"Connector-Token": SENT}, request_id=""
    )
    error = answer.error()
    assert isinstance(error, GraphQLError)
    assert len(str(error)) <= MAX_FOREIGN_TEXT + 20
    assert answer.errors[0].path == ("?",)
