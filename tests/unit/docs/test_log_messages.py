"""The house style of log messages in docs/development.md: the logger, the message, the keys."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted(
    path for name in ("workqueue", "informers", "controller", "examples") for path in (ROOT / name).rglob("*.py")
)
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}

#: The format of the Go agent, which collectors of its log expect.
AS_THE_GO_AGENT = {"Logging stopped.", "Cluster metrics logged successfully."}


def calls(path: Path) -> Iterator[ast.Call]:
    """The calls that write a line of the log."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            logger = ast.unparse(node.func.value)
            if logger == "log" or "getLogger" in logger or logger.endswith("_line"):
                yield node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_logger_of_a_module_is_called_log(path: Path) -> None:
    """ruff recognises loggers by this name."""
    assigned = re.findall(r"^(\w+) = logging\.getLogger\(", path.read_text(), re.MULTILINE)
    assert set(assigned) <= {"log"}


@pytest.mark.parametrize(
    "path", [path for path in FILES if list(calls(path))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_messages_are_constants_in_one_form(path: Path) -> None:
    """A capital letter first, no full stop, values in `extra` only, keys in lowerCamelCase."""
    for call in calls(path):
        message, *values = call.args
        assert not values, ast.unparse(call)
        if isinstance(message, ast.Constant) and str(message.value) not in AS_THE_GO_AGENT:
            assert re.fullmatch(r"[A-Z].*[^.]", str(message.value)), message.value
        assert not isinstance(message, ast.JoinedStr), ast.unparse(call)
        for keyword in call.keywords:
            if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
                keys = [key.value for key in keyword.value.keys if isinstance(key, ast.Constant)]
                assert all(re.fullmatch(r"[a-z][a-zA-Z]*(ID)?", str(key)) for key in keys), ast.unparse(call)
