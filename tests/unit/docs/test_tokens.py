"""No page has an operator store a one-time token where it is not expected."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
_COMMAND = re.compile(r"kubectl apply (?!.*--server-side).*-f -")


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_what_may_hold_a_token_is_applied_by_the_server(page: Path) -> None:
    """A client-side apply keeps a copy in an annotation; what comes from standard input may hold a token."""
    assert not _COMMAND.findall(page.read_text())
