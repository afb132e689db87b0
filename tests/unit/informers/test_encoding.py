"""JSON with and without the compiled parser."""

import json
import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest

from informers import encoding


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


@pytest.mark.parametrize("text", ["", "[1,]", '{"a":1,}', "[1 2]", '{"a" 1}', "[", '{"a":', "1 2", "01", '"\n"'])
def test_nonsense(parser: Any, text: str) -> None:
    """Is none."""
    with pytest.raises(ValueError):
        parser.decode(text.encode())


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_depth(parser: Any, begin: str, end: str) -> None:
    """Far more levels than any object has are read; too many are an error of the text."""
    assert parser.decode((begin * 900 + "1" + end * 900).encode())
    with pytest.raises(ValueError):
        parser.decode((begin * 100_000 + "1" + end * 100_000).encode())


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
