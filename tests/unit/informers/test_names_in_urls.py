"""Text in a URL stays in its place: a name is one segment of the path, a continue token one value of the query."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from informers import Client, Resource

SECRETS = Resource("", "v1", "secrets", "Secret")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)

# The characters that have a meaning in a URL appear more often than in arbitrary text.
TEXT = st.text(st.sampled_from("./%?#&=+:@\\ a\0\n") | st.characters(), max_size=6)


class RecordingServer:
    """Answers each request with {} and records its target."""

    def __init__(self) -> None:
        targets: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: two would wait for a delayed acknowledgement

            def record(self) -> None:
                targets.append(self.path)
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_PATCH = do_DELETE = record  # noqa: N815 - the names of http.server

            def log_message(self, *_: Any) -> None:
                """No output."""

        self.targets = targets
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture(scope="module")
def server() -> Iterator[RecordingServer]:
    recording = RecordingServer()
    thread = threading.Thread(target=recording.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield recording
    recording.server.shutdown()
    thread.join()
    recording.server.server_close()


@pytest.fixture(scope="module")
def client(server: RecordingServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path: Path = tmp_path_factory.mktemp("kubeconfig") / "config"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server.server_port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": ""}}
    path.write_text(yaml.safe_dump({"clusters": [cluster], "contexts": [context], "current-context": "c"}))
    made = Client.load(str(path))
    yield made
    made.close()


def is_segment(text: str) -> bool:
    """Whether client-go accepts it (rest.IsValidPathSegmentName), and UTF-8 has a form of it."""
    encodable = not any("\ud800" <= character <= "\udfff" for character in text)
    return text not in ("", ".", "..") and not {"/", "%"} & set(text) and encodable


def sent(server: RecordingServer, request: Any, *arguments: Any, **keywords: Any) -> str | None:
    """The target of the request; None if the client refused to send it."""
    server.targets.clear()
    try:
        request(*arguments, **keywords)
    except ValueError:
        assert not server.targets
        return None
    (target,) = server.targets
    return target


def segments(target: str | None) -> list[str] | None:
    return None if target is None else [unquote(part) for part in urlsplit(target).path.split("/")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=TEXT, namespace=TEXT)
def test_a_name_is_one_segment_or_an_error(server: RecordingServer, client: Client, name: str, namespace: str) -> None:
    valid = is_segment(name) and is_segment(namespace)
    expected = ["", "api", "v1", "namespaces", namespace, "secrets", name] if valid else None
    assert segments(sent(server, client.delete, SECRETS, name, namespace=namespace)) == expected
    collection = ["", "api", "v1", "namespaces", namespace, "secrets"] if is_segment(namespace) else None
    if namespace:
        assert segments(sent(server, client.list, SECRETS, namespace=namespace)) == collection
    node = ["", "api", "v1", "nodes", name] if is_segment(name) else None
    assert segments(sent(server, client.get, NODES, name)) == node


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(TEXT, min_size=1, max_size=3))
def test_a_subresource_is_valid_segments_or_an_error(server: RecordingServer, client: Client, parts: list[str]) -> None:
    subresource = "/".join(parts)
    if not subresource:
        return
    given_parts = subresource.split("/")
    valid = all(map(is_segment, given_parts))
    expected = ["", "api", "v1", "nodes", "a", *given_parts] if valid else None
    assert segments(sent(server, client.patch, NODES, "a", {}, subresource=subresource)) == expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token=TEXT, selector=TEXT)
def test_values_of_the_query_arrive_as_given(
    server: RecordingServer, client: Client, token: str, selector: str
) -> None:
    """A continue token is opaque, so each text is allowed: the server gets the same text."""
    target = sent(server, client.list, NODES, continue_=token, label_selector=selector)
    given_values = {key: [value] for key, value in (("continue", token), ("labelSelector", selector)) if value}
    if not all(is_segment(f"x{value}".replace("/", "").replace("%", "")) for value in (token, selector)):
        assert target is None
    else:
        assert target is not None
        assert urlsplit(target).path == "/api/v1/nodes"
        assert parse_qs(urlsplit(target).query, keep_blank_values=True) == given_values


@pytest.mark.parametrize("value", [".", "..", "a/b", "a%2fb", "%2e%2e"])
@pytest.mark.parametrize("what", ["name", "namespace", "subresource"])
def test_the_error_names_the_kind_and_the_text(what: str, value: str) -> None:
    arguments = {"namespace": "n", "name": "a", "subresource": "scale"} | {what: value}
    if what == "subresource" and value == "a/b":
        assert SECRETS.path(**arguments).endswith("/a/a/b")
        return
    with pytest.raises(ValueError, match=f"{what} .* of a Secret") as caught:
        SECRETS.path(**arguments)
    assert repr(value) in str(caught.value)
