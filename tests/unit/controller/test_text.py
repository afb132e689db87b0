"""Text of others does no harm where it is shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.text import clean, clean_lines, printable

ROWS = [
    ("plain", "caf\u00e9 \u2192 \u6e2f", "caf\u00e9 \u2192 \u6e2f"),
    ("line ends", "a\nb\r\tc\u2028d", r"a\nb\r\tc\u2028d"),
    ("escape sequences", "\x1b[31mred\x9b0m", r"\u001b[31mred\u009b0m"),
    ("direction of writing", "\u202egnp.exe", r"\u202egnp.exe"),
    ("invisible", "a\u200bb\x00", r"a\u200bb\u0000"),
    ("lone surrogate", "\ud800", r"\ud800"),
    ("beyond the basic plane", "\U000e0041", r"\udb40\udc41"),
]


@pytest.mark.parametrize(("text", "shown"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()), st.integers(min_value=1, max_value=50))
def test_any_text_is_printable_and_bounded(text: str, limit: int) -> None:
    """Whatever it was: one line, no controls, never longer than the limit; short plain text is itself."""
    shown = clean(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    if text.isprintable() and len(text) <= limit:
        assert shown == text


@given(st.text(st.characters(codec="utf-8")))
def test_inside_json_the_meaning_stays(text: str) -> None:
    """Escapes are those of JSON, so a document that was made printable says the same."""
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


def test_two_megabytes_cost_no_more_than_what_is_shown() -> None:
    assert clean("x" * 2_000_000, 253) == "x" * 252 + "\u2026"


@given(st.text(st.characters()), st.integers(min_value=1, max_value=50))
def test_lines_of_any_text_are_printable_and_bounded_together(text: str, limit: int) -> None:
    shown = clean_lines(text, limit)
    assert all(line.isprintable() for line in shown)
    assert len("\n".join(shown)) <= limit
    if len(text) < limit and text.replace("\n", "").isprintable():
        assert "\n".join(shown) == text


def test_lines_stay_lines() -> None:
    assert clean_lines("invalid settings:\n  A=1\x1b\n  B=2", 100) == ["invalid settings:", "  A=1\\u001b", "  B=2"]
