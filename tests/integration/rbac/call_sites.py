"""Every place in the program that asks something of the API server, found in its source.

A call is one of a method of Client on something that is called `client`. What it asks is followed through parameters
and constructors to the constants that callers pass: `self._client.get(self._resource, ...)` stands for one call for
each resource that the class is made with. ResourceListerWatcher lists and watches what it is made with.
"""

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from informers import Resource

ROOT = Path(__file__).parents[3]
LISTER_WATCHER = "ResourceListerWatcher"

#: Methods of Client, and the verb of HTTP that each sends; `request` is told the verb.
METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "request": "",
}


@dataclass(frozen=True, order=True)
class Call:
    """What one place asks. `resource` is "" for `request`, which is given a path.

    The verb is one of HTTP; LIST and WATCH are what an informer does for the place that makes it.
    """

    path: str
    function: str
    first_line: int
    last_line: int
    verb: str
    resource: str

    def __str__(self) -> str:
        return f"{self.path}:{self.first_line} {self.verb} {self.resource}"


#: For controllers of others, and not used by the agent.
LIBRARY = {ROOT / "controller" / "runtime" / "writes.py"}


def calls() -> set[Call]:
    """All of them in the agent."""
    modules = [_Module(path) for path in sorted((ROOT / "controller").rglob("*.py")) if path not in LIBRARY]
    return {call for module in modules for call in module.calls(modules)}


class _Module:
    def __init__(self, path: Path) -> None:
        self.path = str(path.relative_to(ROOT))
        self.name = self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.tree = ast.parse(path.read_text())
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def all_calls(self) -> list[ast.Call]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]

    def calls(self, modules: list["_Module"]) -> Iterator[Call]:
        for node in self.all_calls:
            if _called(node) == LISTER_WATCHER:
                for resource in self.values(_argument(node, 1, "resource"), modules):
                    yield self._call(node, "LIST", resource)
                    yield self._call(node, "WATCH", resource)
            if not isinstance(node.func, ast.Attribute) or node.func.attr not in METHODS or not _is_client(node.func):
                continue
            first = self.values(node.args[0], modules)
            verb = METHODS[node.func.attr]
            for value in first:
                yield self._call(node, verb or value, value if verb else "")

    def _call(self, node: ast.Call, verb: str, resource: str) -> Call:
        function = self._enclosing(node, ast.FunctionDef)
        assert isinstance(function, ast.FunctionDef)
        return Call(self.path, function.name, node.lineno, node.end_lineno or node.lineno, verb, resource)

    def values(self, expression: ast.expr, modules: list["_Module"]) -> set[str]:
        """What an expression may be: texts as they are, resources by their plural. Raises LookupError when unknown."""
        if isinstance(expression, ast.Constant):
            return {str(expression.value)}
        if isinstance(expression, ast.Name):
            if expression.id.isupper():
                value = getattr(importlib.import_module(self.name), expression.id)
                assert isinstance(value, Resource), expression.id
                return {value.plural}
            return self._passed(self._function_with(expression, expression.id), expression.id, modules)
        if isinstance(expression, ast.Attribute):
            return self._attribute(expression, modules)
        raise LookupError(f"{self.path}:{expression.lineno}: cannot tell what {ast.unparse(expression)} may be")

    def _attribute(self, expression: ast.Attribute, modules: list["_Module"]) -> set[str]:
        """Of self: what the constructor was given for it."""
        holder = self._enclosing(expression, ast.ClassDef)
        assert isinstance(holder, ast.ClassDef)
        for node in ast.walk(holder):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == ast.unparse(expression):
                return self.values(node.value, modules)
        raise LookupError(f"{self.path}:{expression.lineno}: where is {ast.unparse(expression)} set?")

    def _passed(self, function: ast.FunctionDef, parameter: str, modules: list["_Module"]) -> set[str]:
        """What callers pass for a parameter: those in the module, or everywhere when it is one of a constructor."""
        names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        position = names.index(parameter)
        called = function.name
        if names[0] == "self":
            position -= 1
            holder = self.parents[function]
            assert isinstance(holder, ast.ClassDef)
            called = holder.name if function.name == "__init__" else called
        found = {
            value
            for module in (modules if called != function.name else [self])
            for node in module.all_calls
            if _called(node) == called
            for value in module.values(_argument(node, position, parameter), modules)
        }
        if not found:
            raise LookupError(f"{self.path}:{function.lineno}: nobody calls {called}")
        return found

    def _function_with(self, node: ast.AST, parameter: str) -> ast.FunctionDef:
        while not isinstance(node, ast.FunctionDef) or parameter not in {a.arg for a in node.args.args}:
            node = self.parents[node]
        return node

    def _enclosing(self, node: ast.AST, kind: type[ast.AST]) -> ast.AST:
        while not isinstance(node, kind):
            node = self.parents[node]
        return node


def _is_client(function: ast.Attribute) -> bool:
    holder = function.value
    name = holder.attr if isinstance(holder, ast.Attribute) else holder.id if isinstance(holder, ast.Name) else ""
    return name.lstrip("_") == "client"


def _called(node: ast.Call) -> str:
    function = node.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _argument(node: ast.Call, position: int, name: str) -> ast.expr:
    for keyword in node.keywords:
        if keyword.arg == name:
            return keyword.value
    return node.args[position]
