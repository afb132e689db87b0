"""What docs/troubleshooting.md quotes is what the agent prints: each quoted text is found in the texts of the source.

A quotation may have placeholders, `<host>` or `...`, where the program puts values. It may be a part of a text.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()

#: Printed by others, or typed by people.
NOT_OURS = {
    "kubectl get cc": "a command",
    "replicas": "a field of the Deployment",
    "status.connectionStatus.warning": "a field of the CompassConnection",
    "certificate verify failed": "OpenSSL",
    "the certificate of the server is not trusted: unable to get local issuer certificate": "its end is OpenSSL's",
    "insufficient scopes": "the Director",
    "unknown CA": "an alert of TLS",
    "decrypt error": "an alert of TLS",
    "certificate revoked": "an alert of TLS",
}

_PLACEHOLDER = re.compile(r"<[^>]*>|\.\.\.")
_HOLE = "\0"


@cache
def texts() -> tuple[str, ...]:
    """Every text of the program, with a hole for each value that is put in."""
    found: set[str] = set()
    for package in ("controller", "informers", "workqueue"):
        for path in (ROOT / package).rglob("*.py"):
            found.update(_texts(ast.parse(path.read_text())))
    return tuple(found)


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else _HOLE for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w+\}", _HOLE, node.value)  # filled in by str.format


def quoted() -> list[str]:
    """What the first columns of the tables quote."""
    rows = [row for row in PAGE.splitlines() if row.startswith("| ") and not row.startswith("| symptom")]
    return sorted({text for row in rows for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])} - NOT_OURS.keys())


@pytest.mark.parametrize("text", quoted())
def test_each_quoted_text_is_one_that_the_agent_prints(text: str) -> None:
    """As a part of one text; a placeholder of the page stands for a value, or for what other texts put there."""
    pattern = ".*".join(re.escape(part) for part in _PLACEHOLDER.split(text))
    if not any(re.search(pattern, candidate, re.DOTALL) for candidate in texts()):
        # With values written out: the parts between values of one text, in their order.
        assert any(_could_print(candidate, text) for candidate in texts()), f"the agent prints no such text: {text}"


def _could_print(template: str, text: str) -> bool:
    parts = template.split(_HOLE)
    if len(parts) == 1 or sum(map(len, parts)) * 3 < len(text):
        return False  # hardly anything but values
    begin = max(0, parts[0].find(text[:12]))  # the page may quote from the middle on
    parts[0] = parts[0][begin:]
    return re.fullmatch(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None
