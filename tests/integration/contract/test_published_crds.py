"""The fixtures of the Go agent's CRDs agree with the published ones."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.crd_sets import GO_AGENT, crd_set

OURS = sorted(crd_set(GO_AGENT).iterdir())


def what_the_api_server_uses(crd: dict[str, Any]) -> dict[str, Any]:
    """Its spec with required lists in one order, without descriptions and without defaults that are written out."""
    spec: dict[str, Any] = _normalised(crd["spec"])
    assert not spec.pop("preserveUnknownFields", False)
    spec["names"].setdefault("listKind", f"{spec['names']['kind']}List")
    return spec


def _normalised(value: Any) -> Any:
    match value:
        case dict():
            # A property that is named description or required has a schema as its value, not a text or a list.
            return {
                key: sorted(part) if key == "required" and isinstance(part, list) else _normalised(part)
                for key, part in value.items()
                if not (key == "description" and isinstance(part, str))
            }
        case list():
            return [_normalised(part) for part in value]
        case _:
            return value


@pytest.mark.parametrize("ours", OURS, ids=lambda path: path.stem)
def test_the_fixture_is_as_published(ours: Path, published: Path) -> None:
    """Names, versions, subresources; each field with its type, nullability, limits, default and required list."""
    fixture = yaml.safe_load(ours.read_text())
    theirs = yaml.safe_load((published / f"{fixture['metadata']['name']}.crd.yaml").read_text())
    assert what_the_api_server_uses(fixture) == what_the_api_server_uses(theirs)


def test_every_published_crd_has_a_fixture(published: Path) -> None:
    assert len(OURS) == len(list(published.glob("*.crd.yaml")))
