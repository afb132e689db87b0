"""Names and segments, to the byte."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.applications import names

TEXT = st.text(st.characters(codec="utf-8"), max_size=80) | st.from_regex(
    r"(mp-)?[A-Za-z0-9 ._\-\u0130]{0,80}", fullmatch=True
)
UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

APPLICATION_NAMES = [
    ("webshop", "mp-webshop"),
    ("mp-webshop", "mp-webshop"),
    ("mp-webshop-eu-2", "mp-webshop-eu-2"),
    ("mp-Foo", "mp-mp-foo"),
    ("mp-a--b", "mp-mp-a-b"),
    ("mp-a-", "mp-mp-a"),
    ("mp-a.b", "mp-mp-a-b"),
    ("mp", "mp-mp"),
    ("mp-", "mp-mp"),
    ("", "mp"),
    ("---", "mp"),
    ("Web Shop", "mp-web-shop"),
    ("Web  (EU) Shop!", "mp-web-eu-shop"),
    ("-shop-", "mp-shop"),
    ("\u0130stanbul", "mp-istanbul"),  # U+0130 lowers to a plain i, by code point
    ("\u212aelvin", "mp-kelvin"),  # the Kelvin sign lowers to k
    ("K\u00d6LN", "mp-k-ln"),
    ("\u00c4\u00d6", "mp"),
    ("\U0001f600", "mp"),
    ("a_b", "mp-a-b"),
    ("x" * 300, "mp-" + "x" * 300),
]


@pytest.mark.parametrize(("name", "expected"), APPLICATION_NAMES)
def test_application_names_are_normalised(name: str, expected: str) -> None:
    """Prefix, lower case, dashes for the rest; fixed points with the prefix stay."""
    assert names.application_name(name) == expected


@given(TEXT)
def test_a_normalised_name_is_a_fixed_point(name: str) -> None:
    """Normalising twice changes nothing more, but for the lone prefix; the form is always the same."""
    once = names.application_name(name)
    assert re.fullmatch(r"mp(-[a-z0-9]+)*", once)
    assert names.application_name(once) == (once if once != "mp" else "mp-mp")


SEGMENTS = [
    ("Orders API v2", "orders-api-v2"),
    ("", ""),
    ("---", ""),
    ("-a-", "a"),
    ("a__b..c", "a-b-c"),
    ("\u00c4pfel", "pfel"),
    ("\u0130x", "x"),
    ("K\u00f6ln", "k-ln"),
    ("x" * 57, "x" * 57),
    ("x" * 58, "x" * 57),
    ("-" + "x" * 57, "x" * 56),  # cut before the leading dash goes
    ("x" * 56 + " yz", "x" * 56 + "-"),  # a dash may remain where it was cut
    ("x" * 56 + " ", "x" * 56),
]


@pytest.mark.parametrize(("name", "expected"), SEGMENTS)
def test_segments(name: str, expected: str) -> None:
    """Dashes, lower case, one trailing dash, 57 bytes, one leading dash: in this order."""
    assert names.segment(name) == expected


@given(TEXT)
def test_a_segment_is_short_and_plain(name: str) -> None:
    """Whatever the name: fit for a path."""
    assert re.fullmatch(r"([a-z0-9]+-?)*", names.segment(name))
    assert len(names.segment(name).encode()) <= 57


def test_service_names() -> None:
    """Segment and the first five digits of the id's SHA-1; an empty segment leaves the digits alone."""
    digits = hashlib.sha1(UUID.encode()).hexdigest()[:5]
    assert digits == "2b873"
    assert names.service_name("order-handling", UUID) == "order-handling-2b873"
    assert names.service_name("", UUID) == "2b873"
    assert names.service_name("x" * 56 + "-", UUID) == "x" * 56 + "--2b873"


SECRET_NAMES = [
    ("mp-shop", f"mp-shop-{UUID}", f"params-mp-shop-{UUID}"),
    ("a" * 26, f"{'a' * 26}-{UUID}", f"params-{'a' * 19}-{UUID}"),
    ("a" * 27, f"{'a' * 26}-{UUID}", f"params-{'a' * 19}-{UUID}"),
    ("a" * 25 + "-b", f"{'a' * 25}--{UUID}", f"params-{'a' * 19}-{UUID}"),
]


@pytest.mark.parametrize(("application", "secret", "params"), SECRET_NAMES)
def test_secret_names(application: str, secret: str, params: str) -> None:
    """26 bytes before the bundle's id, the prefix included; 63 in all with a UUID."""
    assert names.secret_name(application, UUID) == secret
    assert names.params_secret_name(application, UUID) == params
    assert len(names.secret_name("a" * 100, UUID)) == 63


@given(TEXT, TEXT)
def test_secret_names_cut_bytes_and_do_not_fail(application: str, bundle_id: str) -> None:
    """A character may be cut through; the id follows verbatim."""
    for name in (names.secret_name(application, bundle_id), names.params_secret_name(application, bundle_id)):
        assert name.endswith(f"-{bundle_id}")
    if application.isascii():
        assert names.secret_name(application, "b") == f"{application[:26]}-b"


OBJECT_NAMES = [
    ("a", True),
    ("mp-shop.eu", True),
    ("a" * 253, True),
    ("0", True),
    ("a" * 254, False),
    ("", False),
    ("Shop", False),
    ("a b", False),
    ("-a", False),
    ("a-", False),
    ("a..b", False),
    ("a.-b", False),
    ("a/b", False),
    ("a\n", False),
    ("\u00e4", False),
    ("a_b", False),
]


@pytest.mark.parametrize(("name", "valid"), OBJECT_NAMES)
def test_object_names(name: str, valid: bool) -> None:
    """RFC 1123 subdomains of at most 253 characters."""
    assert (names.name_problem(name) is None) is valid


LABEL_VALUES = [
    ("", True),
    ("a", True),
    ("A_b.c-1", True),
    ("a" * 63, True),
    ("a" * 64, False),
    ("-a", False),
    ("a.", False),
    ("a b", False),
    ("a\n", False),
    ("\u00e4", False),
]


@pytest.mark.parametrize(("value", "valid"), LABEL_VALUES)
def test_label_values(value: str, valid: bool) -> None:
    """At most 63 of a small alphabet."""
    assert (names.label_value_problem(value) is None) is valid


@pytest.mark.parametrize(("name", "whole"), [("a" * 253, True), ("a" * 254, False), ("a\n", False), ("\ud800", False)])
def test_names_that_kubernetes_refuses_are_shown_short(name: str, whole: bool) -> None:
    """And printable, whatever they are; two that begin alike stay two."""
    shown = names.shown_name(name)
    assert (shown == name) is whole
    assert shown.isprintable()
    assert len(shown) <= 253
    assert names.shown_name(f"{name}\r") != shown


def test_a_name_of_two_million_characters_is_a_short_line() -> None:
    shown = names.shown_name("a" * 2_000_000)
    assert "2000000 characters" in shown
    assert len(shown) < 100
