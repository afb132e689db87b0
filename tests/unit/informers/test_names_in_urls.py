"""Text in a URL stays in its place: a name is one segment of the path, a continue token one value of the query."""

import contextlib
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from informers import Client, Resource
from tests.fake_api_server.server import Answer, FakeAPIServer

SECRETS = Resource("", "v1", "secrets", "Secret")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)

# The characters that have a meaning in a URL appear more often than in arbitrary text.
TEXT = st.text(st.sampled_from("./%?#&=+:@\\ a\0\n") | st.characters(exclude_categories=["Cs"]), max_size=6)


def is_segment(text: str) -> bool:
    """Whether client-go accepts it (rest.IsValidPathSegmentName)."""
    return text not in ("", ".", "..") and not {"/", "%"} & set(text)


def segments(resource: Resource, *arguments: str | None) -> list[str] | None:
    """Those of the path; None if it is refused."""
    with contextlib.suppress(ValueError):
        path = urlsplit(f"http://host{resource.path(*arguments)}").path
        return [unquote(part) for part in path.split("/")]
    return None


@given(name=TEXT, namespace=TEXT)
def test_a_name_is_one_segment_or_an_error(name: str, namespace: str) -> None:
    valid = is_segment(name) and is_segment(namespace)
    expected = ["", "api", "v1", "namespaces", namespace, "secrets", name] if valid else None
    assert segments(SECRETS, namespace, name) == expected


@given(subresource=st.lists(TEXT, min_size=1, max_size=3).map("/".join).filter(bool))
def test_a_subresource_is_valid_segments_or_an_error(subresource: str) -> None:
    parts = subresource.split("/")
    expected = ["", "api", "v1", "nodes", "a", *parts] if all(map(is_segment, parts)) else None
    assert segments(NODES, None, "a", subresource) == expected


@pytest.fixture
def client(server: FakeAPIServer) -> Client:
    return server.client()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=TEXT.filter(is_segment), token=TEXT, selector=TEXT)
def test_name_and_values_arrive_as_given(
    server: FakeAPIServer, client: Client, name: str, token: str, selector: str
) -> None:
    """A continue token is opaque, so each text is allowed: the server gets the same text."""
    server.inject("other", *[Answer(200, body=b"{}")] * 2)
    client.get(NODES, name)
    client.list(NODES, continue_=token, label_selector=selector)
    one, many = server.requests[-2:]
    assert unquote(one.path) == f"/api/v1/nodes/{name}"
    assert many.query == {key: value for key, value in (("continue", token), ("labelSelector", selector)) if value}


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
