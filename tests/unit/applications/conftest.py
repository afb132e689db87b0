"""A cluster, a Director and an agent in memory."""

import pytest

from tests.support.sync import Agent, Cluster, Director, application

NAME = "shop"
SECRET_NAME = "shop-id-shop-bundle"


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def director() -> Director:
    return Director()


@pytest.fixture
def agent(cluster: Cluster, director: Director) -> Agent:
    return Agent(cluster, director)


@pytest.fixture
def synced(agent: Agent, director: Director, cluster: Cluster) -> Agent:
    """One Application with one Secret, in sync."""
    director.applications = [application(NAME)]
    agent.settle()
    assert agent.state == "Synchronized"
    assert cluster.secrets().keys() == {SECRET_NAME}
    cluster.requests.clear()
    agent.recorder.events.clear()
    return agent
