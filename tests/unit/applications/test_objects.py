"""Writes of one object: how often the same content is written, and what the cache shows of own writes at once."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.applications.objects import NotApplied, Objects, Overridden, is_being_deleted
from controller.metrics import AgentMetrics
from controller.resources import APPLICATION
from informers.errors import ApiError
from informers.indexer import Indexer
from tests.clock import VirtualClock
from tests.support.sync import Cluster

Object = dict[str, Any]


class World:
    """The cache learns of no write but by itself."""

    def __init__(self) -> None:
        self.cluster, self.clock = Cluster(), VirtualClock()
        self.objects = Objects(
            self.cluster,  # type: ignore[arg-type]
            APPLICATION,
            Indexer(APPLICATION),
            namespace=None,
            metrics=AgentMetrics(CollectorRegistry()),
            clock=self.clock,
        )

    def write(self, content: str, *, kept: bool = True) -> Object:
        wanted = {"metadata": {"name": "shop"}, "spec": {"description": content}}
        base = self.objects.read("shop")
        if base is not None:
            wanted["metadata"] = base["metadata"]
        correct: Callable[[Object], Object | None] = lambda _: None if kept else wanted  # noqa: E731
        return self.objects.write(wanted, base, content=content, correct=correct)

    def refused(self, *, kept: bool) -> Overridden:
        with pytest.raises(Overridden) as caught:
            self.write("same", kept=kept)
        return caught.value


def test_content_that_is_not_kept_is_written_with_growing_pauses() -> None:
    """From a second to five minutes, and from the beginning again after a quiet minute."""
    world = World()
    pauses = []
    for _ in range(11):
        error = world.refused(kept=False)
        assert error.stored is not None
        assert world.refused(kept=False).stored is None, "nothing is sent during the pause"
        pauses.append(error.retry_after or 0.0)
        world.clock.advance(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    world.clock.advance(61.0)
    assert world.refused(kept=False).retry_after == 1
    world.write("another")  # the pause is for one content
    assert world.refused(kept=False).retry_after == 1


def test_content_that_others_revert_is_written_ten_times() -> None:
    """That is enough for people; then the pauses grow, if each write is within a minute of the one before."""
    world = World()
    for _ in range(9):
        world.write("same")
        world.clock.advance(60.0)
    pauses = []
    for _ in range(3):
        world.write("same")
        world.cluster.edit(APPLICATION, "shop", lambda obj: obj["spec"].update(description="theirs"))
        error = world.refused(kept=True)
        assert "another client changes spec.description of the Application back" in str(error)
        pauses.append(error.retry_after or 0.0)
        world.clock.advance(pauses[-1])
    assert pauses == [1, 2, 4]
    world.clock.advance(61.0)
    world.write("same")
    world.write("same")


@pytest.mark.parametrize("finalizers", [[], ["example.com/theirs"]])
def test_a_deletion_is_seen_at_once(finalizers: list[str]) -> None:
    """An object with finalizers exists until they are removed."""
    world = World()
    world.write("x")
    world.cluster.edit(APPLICATION, "shop", lambda obj: obj["metadata"].update(finalizers=finalizers))
    base = world.objects.refresh("shop")
    assert base is not None
    world.objects.delete(base, "a reason")
    found = world.objects.get("shop")
    assert (found is not None and is_being_deleted(found)) is bool(finalizers)
    assert (found is None) is not bool(finalizers)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (413, "Payload Too Large"),
        (500, "etcdserver: request is too large"),
        (500, "rpc error: trying to send message larger than max (2 vs. 1)"),
    ],
)
def test_an_object_too_large_for_the_server_is_named(status: int, message: str) -> None:
    world = World()
    too_large = ApiError(message, status=status, reason="")
    world.cluster.failure = lambda verb, *_: too_large if verb == "create" else None
    with pytest.raises(NotApplied, match=r"TooLarge: the Application has \d\d bytes.*; shorten it in Compass"):
        world.write("x")
