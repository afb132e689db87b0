"""The fixtures of the integration tests of the connection."""

from tests.integration.connection.conftest import agent, authorities, cluster, crds, tokens, world

__all__ = ["agent", "authorities", "cluster", "crds", "tokens", "world"]
