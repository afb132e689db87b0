"""No regular expression of the product takes more than linear time, whatever text it is used on."""

import importlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("controller", "informers", "kubectl_compass", "workqueue")
FUNCTIONS = "search|match|fullmatch|subn?|split|findall|finditer"
SIZES = (20, 400, 6 * 1024)  # for all families
LARGE = 100 * 1024  # for the families that were the slowest at the last of these sizes
WORST_FAMILIES = 8
SECONDS = 0.5  # of the processor, for LARGE; the slowest linear one takes a tenth of it


class Expression(NamedTuple):
    place: str
    pattern: str
    flags: int
    function: str


def expressions() -> Iterator[Expression]:
    """The constants of each module, with each function that it uses them with, and the patterns inside its calls."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source, place = path.read_text(), str(path.relative_to(ROOT))
            for name in re.findall(r"^(\w+)(?:: [^=]*)? = re\.compile\(", source, re.MULTILINE):
                compiled = getattr(importlib.import_module(place[:-3].replace("/", ".")), name)
                pattern = compiled.pattern
                text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
                flags = compiled.flags & ~re.UNICODE
                for function in sorted(set(re.findall(rf"\b{name}\.({FUNCTIONS})\b", source)) or {"search"}):
                    yield Expression(f"{place}:{name}", text, flags, function)
            for function, pattern in re.findall(rf'\bre\.({FUNCTIONS})\(r"([^"]*)"', source):
                yield Expression(place, pattern, 0, function)


def pieces(pattern: str) -> list[str]:
    """Short texts that parts of the pattern may match: its words, its single characters, and what is in neither."""
    classes = {r"\s": " ", r"\d": "0", r"\w": "a", r"\S": "a"}
    found = [classes.get(text, text[-1:]) for text in re.findall(r"\\.|[^\w()\[\]{}|*+?^$\\]", pattern)]
    words = re.findall(r"\w+", re.sub(r"\\.", " ", pattern))
    return list(dict.fromkeys([*words, *(word[0] for word in words), *found, " ", "\n", "a", "!"]))


def families(pattern: str) -> Iterator[tuple[str, str, str]]:
    """A beginning, what is repeated, and an end that does not match."""
    parts = pieces(pattern)
    repeated = [*parts, *(first + second for first, second in itertools.permutations(parts[:5], 2))]
    yield from (("", part, end) for part in repeated for end in ("", "\0"))
    yield from ((begin, part, "\0") for begin in parts[:8] for part in parts[:5])


def seconds(expression: Expression, text: str) -> float:
    compiled = re.compile(expression.pattern, expression.flags)
    call: Any = getattr(compiled, expression.function)
    began = time.thread_time()
    result = call("", text) if expression.function in ("sub", "subn") else call(text)
    if expression.function == "finditer":
        for _ in result:
            pass
    return time.thread_time() - began


ALL = list(expressions())


def test_the_expressions_are_found() -> None:
    """Nothing is compared with nothing."""
    assert len(ALL) > 15
    assert {place.split("/")[0] for place, *_ in ALL} >= {"controller", "informers"}


def allowed(size: int) -> float:
    return SECONDS * size / LARGE + 0.02


def worst(expression: Expression) -> tuple[float, str, int]:
    """Seconds, the family and the size of the slowest text. Ends at the first that is too slow."""
    slowest = (0.0, "", 0)
    found: list[tuple[float, tuple[str, str, str]]] = []
    for family in families(expression.pattern):
        for size in SIZES:
            last = measured(expression, family, size)
            if last[0] > allowed(size):
                return last
        found.append((last[0], family))
    for _, family in sorted(found, reverse=True)[:WORST_FAMILIES]:
        slowest = max(slowest, measured(expression, family, LARGE))
    return slowest


def measured(expression: Expression, family: tuple[str, str, str], size: int) -> tuple[float, str, int]:
    begin, part, end = family
    text = begin + part * (size // len(part)) + end
    took = seconds(expression, text)
    if took > allowed(size):
        took = min(took, seconds(expression, text))  # not by chance
    return took, f"{begin!r} {part!r} {end!r}", size


@pytest.mark.parametrize("expression", ALL, ids=lambda e: f"{e.place}-{e.function}")
def test_it_is_linear(expression: Expression) -> None:
    took, family, size = worst(expression)
    assert took <= allowed(size), f"{expression}: {took:.2f} s for {size} bytes of {family}"


@pytest.mark.parametrize("pattern", [r"^\s*(?:data|event|id|retry):", r"\s*\[errorID=", r"(a+)+$", r"(a|a)*b"])
def test_the_families_find_what_is_not_linear(pattern: str) -> None:
    took, _, size = worst(Expression("", pattern, re.MULTILINE, "search"))
    assert took > allowed(size)
