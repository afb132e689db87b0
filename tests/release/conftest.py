"""Tests of what a release consists of. They need commands that nothing else needs: `make test-release` gets them."""

from tests.integration.conftest import control_plane

__all__ = ["control_plane"]
