"""The leader is killed while it creates a thousand Applications: the standby finishes the work within a lease."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.resources import APPLICATION
from e2e.cluster import Object
from e2e.scenarios.local import LocalTarget

APPLICATIONS = 1000
KILL_AT = 200  # there are this many, and more are being written
LEASE_SECONDS = 10.0
MORE_SECONDS = 10.0  # to notice, and to do the rest, on a machine that does nothing else


@pytest.fixture
def target(tmp_path: Path) -> Iterator[LocalTarget]:
    target = LocalTarget(tmp_path)
    try:
        yield target
    finally:
        target.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_applications_survive_the_leader(target: LocalTarget) -> None:
    """All are there within the lease and 10 s more; what the first leader has written is not written again."""
    target.connect()
    standing = len(target.applications())
    identity, leader = target.lease_holder(), target.wait_for_leader()
    target.compass.generate(APPLICATIONS)
    target.wait_for("the first of them", lambda: _count(target) > standing)
    began = time.monotonic()
    target.wait_for("some of them", lambda: _count(target) >= standing + KILL_AT)
    pace = (time.monotonic() - began) / KILL_AT
    target.kill(leader)
    killed = time.monotonic()
    before = target.applications()
    assert standing + KILL_AT <= len(before) < standing + APPLICATIONS, "killed too late to show anything"

    target.wait_for("another leader", lambda: target.lease_holder() not in ("", identity))
    taken_over = time.monotonic() - killed
    target.wait_for("all of them", lambda: _count(target) == standing + APPLICATIONS)
    took = time.monotonic() - killed
    target.wait_for_state("Synchronized")
    target.wait_for("the count", lambda: _synced(target) == standing + APPLICATIONS)

    print(
        f"killed with {len(before)} of {standing + APPLICATIONS}, written in {pace * 1000:.0f} ms each; "
        f"another led {taken_over:.1f} s later, all were there {took:.1f} s later"
    )
    after = target.applications()
    assert {name: _version(after[name]) for name in before} == {name: _version(obj) for name, obj in before.items()}
    assert {obj["metadata"]["generation"] for obj in after.values()} == {1}
    left = standing + APPLICATIONS - len(before)
    assert took < LEASE_SECONDS + max(MORE_SECONDS, 3 * pace * left)  # a busy machine is slow at everything


def _count(target: LocalTarget) -> int:
    """Without reading them all, which would slow down what is measured."""
    page = target.client.list(APPLICATION, limit=1)
    left: int = page["metadata"].get("remainingItemCount", 0)
    return len(page["items"]) + left


def _synced(target: LocalTarget) -> int:
    counts: Object = ((target.connection() or {}).get("status") or {}).get("applications") or {}
    synced: int = counts.get("synced", 0)
    return synced


def _version(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
