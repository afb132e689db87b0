"""Generate docs/crd.md from the CRD: `python -m tests.support.crd_page` writes the page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CRD = ROOT / "config/crd/compassconnections.yaml"
PAGE = ROOT / "docs/crd.md"

Object = dict[str, Any]

_HEAD = """# CompassConnection

This page is generated from [the CRD](../config/crd/compassconnections.yaml) by `python -m tests.support.crd_page`.

There is one CompassConnection, `compass-connection`, without a namespace. The agent creates it if no provisioner has
created it before. See the example in [config/samples](../config/samples/compassconnection.yaml), and the meaning of
states and conditions in [operations.md](operations.md#states).
"""


def render() -> str:
    """The whole page."""
    crd = yaml.safe_load(CRD.read_text())
    (version,) = crd["spec"]["versions"]
    names = crd["spec"]["names"]
    schema = version["schema"]["openAPIV3Schema"]
    parts = [
        _HEAD,
        _table(
            ("property", "value"),
            [
                ("API", f"`{crd['spec']['group']}/{version['name']}`"),
                ("kind", f"`{names['kind']}`"),
                ("plural", f"`{names['plural']}`"),
                ("short name", ", ".join(f"`{name}`" for name in names["shortNames"])),
                ("scope", crd["spec"]["scope"]),
                ("subresources", ", ".join(f"`{name}`" for name in version["subresources"])),
            ],
        ),
        "## Columns of kubectl get\n",
        _table(
            ("column", "from"),
            [
                (column["name"] + (" (with `-o wide`)" if column.get("priority") else ""), f"`{column['jsonPath']}`")
                for column in version["additionalPrinterColumns"]
            ],
        ),
    ]
    for part in ("spec", "status"):
        body = schema["properties"][part]
        parts += [f"## {part}\n", body["description"] + "\n"]
        if rules := list(_rules(part, body)):
            parts.append("\n".join(f"- `{path}`: {message}" for path, message in rules) + "\n")
        parts.append(_table(("field", "type", "meaning"), list(_fields("", body))))
    return "\n".join(parts)


def _fields(prefix: str, schema: Object) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield f"`{path}`", _type(field), _meaning(field, required=name in required)
        yield from _fields(f"{path}.", field)
        if field["type"] == "array":
            yield from _fields(f"{path}[].", field["items"])


def _type(schema: Object) -> str:
    kind: str = schema["format"] if "format" in schema else schema["type"]
    return f"{_type(schema['items'])} array" if kind == "array" else kind


def _meaning(field: Object, *, required: bool) -> str:
    parts = [field.get("description", "").rstrip(".")]
    if required:
        parts.append("Required")
    if "default" in field:
        parts.append(f"Default: `{field['default']}`")
    if "enum" in field:
        parts.append("One of " + ", ".join(f"`{value}`" for value in field["enum"]))
    if "pattern" in field:
        parts.append(f"Must match `{field['pattern']}`")
    return " ".join(f"{part}." for part in parts if part)


def _rules(path: str, schema: Object) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule["message"]
    for name, field in schema.get("properties", {}).items():
        yield from _rules(f"{path}.{name}", field)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("|" + "|".join(f" {cell} " if cell != "---" else cell for cell in line) + "|\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(render())
