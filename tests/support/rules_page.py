"""Writes the tables of docs/connection.md from the docstrings of the rules: `python -m tests.support.rules_page`."""

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from controller.connection.rules import PAIRING, WITH_CREDENTIALS, WITHOUT_CREDENTIALS

PAGE = Path(__file__).parents[2] / "docs" / "connection.md"

_TABLES: tuple[tuple[str, Sequence[Callable[..., Any]]], ...] = (
    ("without credentials", WITHOUT_CREDENTIALS),
    ("with credentials", WITH_CREDENTIALS),
    ("pairing", PAIRING),
)


def row(rule: Callable[..., Any]) -> str:
    """The docstring has the condition and, after the last colon, what is done."""
    text = " ".join((inspect.getdoc(rule) or "").split()).removesuffix(".")
    when, _, then = text.rpartition(": ")
    return f"| `{rule.__name__}` | {when} | {then} |"


def render(page: str) -> str:
    """The page with the current tables between their marks."""
    for name, rules in _TABLES:
        begin, end = f"<!-- rules: {name} -->\n", "<!-- end of rules -->"
        table = "\n".join(["| rule | when | then |", "|---|---|---|", *map(row, rules)])
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        parts = re.split(pattern, page, flags=re.DOTALL)
        if len(parts) != 2:
            raise ValueError(f"{PAGE} has no place for the rules {name}")
        page = f"{parts[0]}{begin}\n{table}\n\n{end}{parts[1]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
