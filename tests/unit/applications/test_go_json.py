"""JSON to the byte as Go writes it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.applications.conversion import go_json

CASES = [
    ({}, "{}"),
    ({"b": ["1"], "a": ["2", "3"]}, '{"a":["2","3"],"b":["1"]}'),
    ({"B": [], "a": None}, '{"B":[],"a":null}'),
    ({"a": ["<b>&c"]}, r'{"a":["\u003cb\u003e\u0026c"]}'),
    ({"<": [">"]}, r'{"\u003c":["\u003e"]}'),
    ({"a": ["\u2028\u2029"]}, r'{"a":["\u2028\u2029"]}'),
    ({"a": ["\u00fc\U0001f600\x7f"]}, '{"a":["\u00fc\U0001f600\x7f"]}'),
    ({"a": ['"\\/']}, r'{"a":["\"\\/"]}'),
    ({"a": ["\n\r\t\b\f\x00\x1f"]}, r'{"a":["\n\r\t\b\f\u0000\u001f"]}'),
    ({"\uffff": ["1"], "\U00010000": ["2"]}, '{"\uffff":["1"],"\U00010000":["2"]}'),  # sorted by code point, as by byte
]


@pytest.mark.parametrize(("value", "expected"), CASES, ids=[case[1] for case in CASES])
def test_maps_are_written_as_go_does(value: dict[str, list[str] | None], expected: str) -> None:
    """Compact, sorted, and escaped for HTML."""
    assert go_json(value) == expected


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.dictionaries(TEXT, st.lists(TEXT, max_size=3) | st.none(), max_size=5))
def test_the_json_decodes_to_the_same_value(value: dict[str, list[str] | None]) -> None:
    """Escaping changes the text and not the value."""
    written = go_json(value)
    assert json.loads(written) == value
    assert not set("<>&\u2028\u2029") & set(written)
