"""No regular expression of the product takes more than linear time, whatever text it is used on."""

import ast
import importlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("controller", "informers", "kubectl_compass", "workqueue")
FUNCTIONS = ("search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer")
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
    """Each constant pattern, with each function that its module uses it with."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text()
            if not re.search(r"\bre\.", source):
                continue
            tree = ast.parse(source)
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _of_re(node)]
            names = {
                target.id: node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Assign) and node.value in calls
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for call in calls:
                assert isinstance(call.func, ast.Attribute)
                place = f"{path.relative_to(ROOT)}:{call.lineno}"
                if call.func.attr == "compile":
                    name = next((name for name, value in names.items() if value is call), "")
                    used = {_used_function(node, name) for node in ast.walk(tree)} - {""} or {"search"}
                else:
                    used = {call.func.attr}
                if call.func.attr == "escape":
                    continue
                try:
                    pattern = ast.literal_eval(call.args[0])
                except ValueError:
                    if place.startswith("controller/compass/redaction.py"):
                        continue  # an alternative of literals
                    compiled = getattr(
                        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)), name
                    )
                    pattern = compiled.pattern
                if isinstance(pattern, bytes):
                    pattern = pattern.decode("latin-1")
                for function in sorted(used):
                    yield Expression(place, pattern, _flags(call), function)


def _of_re(call: ast.Call) -> bool:
    function = call.func
    return isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re"


def _used_function(node: ast.AST, name: str) -> str:
    """The function if this is a use of the expression with the name, else ""."""
    is_use = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    return node.attr if is_use and isinstance(node, ast.Attribute) and node.attr in FUNCTIONS else ""


def _flags(call: ast.Call) -> int:
    given = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
    names = {node.attr for value in given for node in ast.walk(value) if isinstance(node, ast.Attribute)}
    flags = 0
    for name in names:
        flags |= getattr(re, name)
    return flags


def pieces(pattern: str, flags: int) -> list[str]:
    """Short texts that the parts of the pattern match: of each literal run, each class, and what is in neither."""
    found: dict[str, None] = {}

    def walk(parsed: Any) -> None:
        run = ""
        for operation, argument in parsed:
            kind = str(operation)
            if kind == "LITERAL":
                run += chr(argument)
                found[chr(argument)] = None
                continue
            if run:
                found[run] = None
                run = ""
            if kind == "IN":
                for item, value in argument:
                    if str(item) == "LITERAL":
                        found[chr(value)] = None
                    elif str(item) == "RANGE":
                        found[chr(value[0])] = None
                    elif str(item) == "CATEGORY":
                        found[{"CATEGORY_SPACE": " ", "CATEGORY_DIGIT": "0"}.get(str(value), "a")] = None
            elif kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
                walk(argument[2])
            elif kind == "SUBPATTERN":
                walk(argument[3])
            elif kind == "BRANCH":
                for branch in argument[1]:
                    walk(branch)
            elif kind in ("ASSERT", "ASSERT_NOT"):
                walk(argument[1])
            elif kind == "ATOMIC_GROUP":
                walk(argument)
        if run:
            found[run] = None

    walk(parser.parse(pattern, flags))
    return [*found, *(text for text in (" ", "\n", "a", "!") if text not in found)]


def families(pattern: str, flags: int) -> Iterator[tuple[str, str, str]]:
    """A beginning, what is repeated, and an end that does not match."""
    parts = pieces(pattern, flags)
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
    for family in families(expression.pattern, expression.flags):
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
