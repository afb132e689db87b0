"""The fixtures of the integration tests of the connection."""

from tests.integration.conftest import servers_with
from tests.integration.connection.conftest import agent, authorities, cluster, crds, tokens, world

__all__ = ["agent", "authorities", "cluster", "crds", "servers_with", "tokens", "world"]
