"""What is lost between the Markdown of a page and the site."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from release.code_blocks import differences

ROOT = Path(__file__).parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("[eiw]*/README.md")])

STEPS = "1. Do this:\n\n       kubectl get cc\n       kubectl get pods\n\n2. Then that.\n"


def test_a_command_that_became_prose_is_a_difference() -> None:
    """Python-Markdown makes this of an indent of seven spaces; the second step then begins a list of its own."""
    html = "<ol><li><p>Do this:</p><p>kubectl get cc kubectl get pods</p></li></ol><ol><li>Then that.</li></ol>"
    assert differences(STEPS, html) == [
        "no code block of its own: 'kubectl get cc'",
        "no numbered list with 2 steps",
    ]


def test_a_page_with_all_blocks_and_lists_has_no_difference() -> None:
    """Colours, copy buttons and blocks of the API reference do not matter."""
    html = (
        "<ol><li><p>Do this:</p><div><pre><span></span><code>kubectl<b> get cc</b>\nkubectl get pods\n</code></pre>"
        "</div></li><li>Then that.</li></ol><pre>a signature</pre>"
    )
    assert differences(STEPS, html) == []


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
