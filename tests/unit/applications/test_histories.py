"""Random histories: whatever happens in whatever order, the cluster ends up in sync with the Director."""

import copy
import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.applications.conversion import MANAGED_BY_LABEL
from controller.compass.errors import Refused, Unavailable
from controller.resources import APPLICATION, SECRET
from informers.errors import ApiError, Forbidden, ServerError
from informers.resource import Resource
from tests.support.sync import NAMESPACE, Agent, Cluster, Director, application

NAMES = ["a", "b", "c", "d"]
USERS = ["users", "d"]  # one of them is also assigned at times

Object = dict[str, Any]
names = st.sampled_from(NAMES)


class Histories(RuleBasedStateMachine):
    """Director changes, edits and deletions by users, refused writes, lagging caches, restarts and new leaders."""

    @initialize()
    def begin(self) -> None:
        self.cluster, self.director = Cluster(), Director()
        self.agent = Agent(self.cluster, self.director)
        self.users: dict[str, Object] = {}
        self.past = copy.deepcopy(self.cluster.objects)

    # --- the Director ---

    @rule(name=names, secret=st.sampled_from([None, "one", "two"]), description=st.sampled_from(["", "x", "y"]))
    def assign(self, name: str, secret: str | None, description: str) -> None:
        self.unassign(name)
        self.director.applications.append(application(name, secret=secret, description=description))

    @rule(name=names)
    def unassign(self, name: str) -> None:
        self.director.applications = [one for one in self.director.applications if one.name != name]

    @rule(error=st.sampled_from([None, Unavailable("down"), Refused("insufficient scopes")]))
    def director_fails(self, error: Unavailable | Refused | None) -> None:
        self.director.error = error

    @rule()
    def fetch(self) -> None:
        self.agent.clock.advance(30)
        self.agent.step_sync()

    # --- users ---

    @rule(name=names, field=st.sampled_from(["description", "services", "labels", "managed-by"]))
    def edit_application(self, name: str, field: str) -> None:
        if name in self.cluster.applications() and name not in self.users:
            edited = copy.deepcopy(self.cluster.applications()[name])
            if field == "managed-by":
                edited["metadata"]["labels"].pop(MANAGED_BY_LABEL, None)
            else:
                edited["spec"][field] = {"description": "edited", "services": [], "labels": {}}[field]
            self.cluster.put(APPLICATION, edited)

    @rule(name=names)
    def label_application(self, name: str) -> None:
        if name in self.cluster.applications() and name not in self.users:
            edited = copy.deepcopy(self.cluster.applications()[name])
            edited["metadata"].setdefault("labels", {})["team"] = "red"
            self.cluster.put(APPLICATION, edited)

    @rule(name=names)
    def delete_application(self, name: str) -> None:
        if name in self.cluster.applications():
            self.cluster.remove(APPLICATION, name)
            self.users.pop(name, None)

    @rule(name=names, what=st.sampled_from(["delete", "data", "labels", "owner"]))
    def tamper_with_secret(self, name: str, what: str) -> None:
        secret = self.cluster.secrets().get(f"{name}-id-{name}-bundle")
        if secret is None:
            return
        if what == "delete":
            self.cluster.remove(SECRET, secret["metadata"]["name"], NAMESPACE)
            return
        edited = copy.deepcopy(secret)
        if what == "data":
            edited["data"] = {"password": "b3RoZXI="}
        elif what == "labels" and edited["metadata"]["ownerReferences"]:
            edited["metadata"]["labels"] = {}
        elif what == "owner" and edited["metadata"]["labels"]:
            edited["metadata"]["ownerReferences"] = []
        self.cluster.put(SECRET, edited)

    @rule(name=st.sampled_from(USERS))
    def make_own_application(self, name: str) -> None:
        if name not in self.cluster.applications():
            self.users[name] = self.cluster.put(APPLICATION, {"metadata": {"name": name}, "spec": {"tenant": "mine"}})

    # --- the machinery ---

    @rule(count=st.integers(1, 5))
    def work(self, count: int) -> None:
        for name in [*self.agent.queue][:count]:
            if self.agent.step(name) is not None:
                self.agent.enqueue(name)

    @rule(count=st.integers(1, 3))
    def deliver(self, count: int) -> None:
        self.agent.deliver(count)

    @rule()
    def watch_breaks(self) -> None:
        """Every event since the last one delivered is lost; the cache is listed anew."""
        self.agent.relist()

    @rule(
        every=st.integers(0, 4),
        error=st.sampled_from([Forbidden("no", status=403), ServerError("x", status=500)]),
        lost=st.booleans(),
    )
    def writes_fail(self, every: int, error: ApiError, *, lost: bool) -> None:
        """`lost`: the write is done, and its answer does not arrive."""
        self.cluster.answers_are_lost = lost

        def failure(method: str, _resource: Resource, _name: str) -> ApiError | None:
            fails = every and method != "get" and self.cluster.requests.total() % every == 0
            return error if fails else None

        self.cluster.failure = failure

    @rule()
    def restart(self) -> None:
        """Killed, or another leader: nothing is remembered."""
        self.agent.end()
        self.agent = Agent(self.cluster, self.director)

    @rule()
    def remember(self) -> None:
        self.past = copy.deepcopy(self.cluster.objects)

    @rule()
    def restart_in_the_past(self) -> None:
        """The API server that answers now has a watch cache that stands still."""
        self.restart()
        self.agent.relist(self.past)

    # --- what must hold ---

    @invariant()
    def objects_of_users_are_untouched(self) -> None:
        for name, obj in getattr(self, "users", {}).items():
            assert self.cluster.applications()[name] == obj

    @invariant()
    def what_was_found_equal_before_makes_no_difference(self) -> None:
        """A comparison that skips what it has compared already finds what one from the beginning finds."""
        agent = getattr(self, "agent", None)
        plan = agent.progress.plan if agent is not None else None
        if plan is None:
            return
        found = agent.applications.differing(plan)  # type: ignore[union-attr]
        agent.applications._last_comparison = None  # type: ignore[union-attr]
        assert agent.applications.differing(plan) == found  # type: ignore[union-attr]

    def teardown(self) -> None:
        """All disturbance ends, and caches catch up: then the cluster equals the Director.

        Before they do, safety is all that can be asked for: a cache that shows the wanted state hides every drift.
        """
        if not hasattr(self, "agent"):
            return
        self.cluster.failure = lambda *_: None
        self.director.error = None
        self.agent.queue = dict.fromkeys(self.agent.queue, 0)
        self.agent.cycle(400)
        self.agent.relist()
        for _ in range(3):
            self.agent.cycle(400)
        assigned = {one.name: one for one in self.director.applications if one.name not in self.users}
        managed = {name: obj for name, obj in self.cluster.applications().items() if name not in self.users}
        assert managed.keys() == assigned.keys()
        expected = Cluster()
        fresh = Director()
        fresh.applications = [*assigned.values()]
        Agent(expected, fresh).settle()
        for name, obj in managed.items():
            assert obj["spec"] == expected.applications()[name]["spec"]
        assert self.cluster.secrets().keys() == expected.secrets().keys()
        for name, secret in self.cluster.secrets().items():
            assert secret["data"] == expected.secrets()[name]["data"]
            owner = managed[secret["metadata"]["labels"]["app"]]["metadata"]
            assert [r["uid"] for r in secret["metadata"]["ownerReferences"]] == [owner["uid"]]


# The same histories in every run, so that a failure belongs to the change that is tested; HISTORIES=N tries N new ones.
_NEW = os.environ.get("HISTORIES")

TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(_NEW or 40), derandomize=_NEW is None, stateful_step_count=40, deadline=None
)
