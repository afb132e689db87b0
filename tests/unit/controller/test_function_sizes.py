"""A function of the agent fits on a screen."""

import ast
from pathlib import Path

_LINES = 50
_ROOT = Path(__file__).parents[3] / "controller"


def test_no_function_is_longer_than_a_screen() -> None:
    functions = [
        (f"{path.relative_to(_ROOT)}: {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for path in _ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 500
    assert [found for found in functions if found[1] > _LINES] == []
