"""Pages read the same in CommonMark, of the repository, and in Python-Markdown, which makes the site."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("[eiw]*/README.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_in_lists_are_indented_as_both_dialects_want(page: Path) -> None:
    """Four columns for each list around a block; CommonMark is content with less, Python-Markdown is not."""
    lines = page.read_text().splitlines()
    depth, wrong = 0, []
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        depth += {"list_item_open": 1, "list_item_close": -1}.get(token.type, 0)
        if depth and token.map and _is_later_block(token, lines):
            line = lines[token.map[0]]
            indent = len(line) - len(line.lstrip())
            if indent != 4 * depth + (4 if token.type == "code_block" else 0):
                wrong.append(f"{token.map[0] + 1}: {line}")
    assert wrong == []


def _is_later_block(token: Token, lines: list[str]) -> bool:
    """Not the first line of a list item, which has the bullet."""
    assert token.map is not None
    return token.type in ("code_block", "fence", "paragraph_open") and not re.match(
        r"\s*([-*+]|\d+[.)])\s", lines[token.map[0]]
    )
