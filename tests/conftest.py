"""How the tests are spread over processes."""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Integration tests of one folder share their API servers, so they stay together; others share a file at most."""
    for item in items:
        path = item.path.relative_to(_HERE)
        shared = path.parent if path.parts[0] == "integration" else path
        item.add_marker(pytest.mark.xdist_group(str(shared)))
