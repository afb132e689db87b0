"""JSON that the quick parser does not take."""

import json
import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from informers import encoding
from informers.encoding import _Decoder, decode
from tests.fake_api_server.objects import widget, widget_list
from tests.fake_api_server.server import Answer, FakeAPIServer, Raw
from tests.fake_api_server.waiting import eventually
from tests.unit.informers.conftest import Start, informer_of

DEEP = 9_000  # an API server takes 10,000 levels
NUMBERS = st.integers(-(2**63), 2**64 - 1)  # what the API has
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
)


@pytest.fixture(params=["orjson", "json"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, and as it is where nothing compiled is installed."""
    if request.param == "orjson":
        return encoding
    monkeypatch.setitem(sys.modules, "orjson", None)
    spec = find_spec("informers.encoding")
    assert spec is not None
    assert spec.loader is not None
    alone = module_from_spec(spec)
    spec.loader.exec_module(alone)
    return alone


@given(VALUES, st.sampled_from([None, 0, 3]))
def test_slow_decoder_reads_what_json_is(value: Any, indent: int | None) -> None:
    """Whatever it is, with and without spaces."""
    text = json.dumps(value, indent=indent)
    assert _Decoder(text).value() == value
    assert decode(text.encode()) == value


@given(
    VALUES, st.integers(0, 200), st.sampled_from(['"', ",", ":", "[", "]", "{", "}", "1", " ", "x", "\\", "\n", "-"])
)
def test_slow_decoder_takes_nothing_else(value: Any, at: int, extra: str) -> None:
    """With a character too many, the verdict is that of the standard library."""
    text = json.dumps(value)
    text = text[: at % (len(text) + 1)] + extra + text[at % (len(text) + 1) :]
    try:
        expected: Any = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            _Decoder(text).value()
    else:
        assert _Decoder(text).value() == expected


@pytest.mark.parametrize("text", ["", "[1,]", '{"a":1,}', "[1 2]", '{"a" 1}', "[", '{"a":', "1 2", "01", '"\n"', "NaN"])
def test_nonsense(parser: Any, text: str) -> None:
    """Is none."""
    with pytest.raises(ValueError):
        parser.decode(text.encode())


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_depth(parser: Any, begin: str, end: str) -> None:
    """Costs memory only."""
    value = parser.decode((begin * DEEP + "1" + end * DEEP).encode())
    depth = 0
    while value != 1:
        (value,) = value.values() if isinstance(value, dict) else value
        depth += 1
    assert depth == DEEP


def test_what_the_quick_writer_does_not_take(parser: Any) -> None:
    """Is written slowly, or refused in words."""
    value: Any = 1
    for _ in range(400):
        value = {"a": value}
    assert json.loads(parser.encode(value)) == value
    assert json.loads(parser.encode({"a": "\ud800"})) == {"a": "\ud800"}
    with pytest.raises(TypeError):
        parser.encode({"a": object()})
    for _ in range(100_000):  # Python 3.13 writes as deep as an API server reads
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        parser.encode(value)


DEEP_OBJECT = json.dumps(widget("deep", 2, nested="HERE")).replace('"HERE"', "[" * DEEP + "]" * DEEP)


def test_deep_object_in_a_list(server: FakeAPIServer, start: Start) -> None:
    """It is cached like the others, with the detector of changes looking on."""
    page = json.dumps(widget_list([widget("a", 1), "HERE"], 1)).replace('"HERE"', DEEP_OBJECT)  # type: ignore[list-item]
    server.inject("list", Answer(200, body=page.encode()))
    informer = informer_of(server)
    start(informer)
    eventually(lambda: informer.indexer.keys() == ["default/a", "default/deep"])
    server.cluster.put("b")
    eventually(lambda: len(informer.indexer) == 3)
    assert server.verbs() == ["list", "watch"]


def test_deep_object_in_a_watch(server: FakeAPIServer, start: Start) -> None:
    """It costs no new list."""
    server.cluster.put("a")
    server.inject("watch", Raw(f'{{"type": "ADDED", "object": {DEEP_OBJECT}}}\n'.encode()))
    informer = informer_of(server)
    start(informer)
    eventually(lambda: informer.indexer.by_key("default/deep"))
    server.cluster.put("b")
    eventually(lambda: sorted(informer.indexer.keys()) == ["default/a", "default/b", "default/deep"])
    assert server.verbs() == ["list", "watch"]
