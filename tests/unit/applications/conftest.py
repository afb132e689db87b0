"""A cluster, a Director and an agent in memory."""

import pytest

from tests.support.sync import Agent, Cluster, Director


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def director() -> Director:
    return Director()


@pytest.fixture
def agent(cluster: Cluster, director: Director) -> Agent:
    return Agent(cluster, director)
