"""Random histories on a real API server, of the Director, of users and of two replicas of the agent.

For any order and time of faults, the cluster ends up in sync with the Director,
and what users made is as they made it. tests/unit/applications/test_histories.py has the like on virtual time.
"""

import itertools
import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from controller.applications.conversion import MANAGED_BY_LABEL
from controller.resources import APPLICATION, SECRET
from e2e.mock_compass.faults import Fault
from e2e.world import World, encoded
from informers import NotFound
from tests.chaos.sync.agents import TriedAgent
from tests.chaos.sync.scenario import (
    NAMESPACE,
    PARAMETERS,
    Object,
    Snapshot,
    assigned,
    attempted,
    basic,
    clear,
    forget_attempts,
    outcome,
    resync,
    snapshot,
)
from tests.support.agent_thread import AgentThread
from tests.support.audit_log import AuditLog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NAMES = ["mp-a", "mp-b", "mp-c"]
USERS = ["mp-u", "mp-c"]  # one of them is also assigned at times
AUTHS = {"none": None, "basic": basic("one"), "other": basic("two"), "parameters": PARAMETERS}
DESCRIPTIONS = ["first", "second"]
DIRECTOR_FAULTS = {
    "down": Fault(kind="status", target="director", status=503),
    "cut": Fault(kind="cut", target="director"),
    "refuses": Fault(kind="graphql_error", target="director", message="insufficient scopes provided"),
}

# What the Director says of a name, and what it leads to: the Application and its Secrets, as in a snapshot.
Assigned = tuple[str, str, str]
Outcomes = dict[Assigned, tuple[Any, Snapshot]]

names = st.sampled_from(NAMES)


@pytest.fixture
def outcomes(paired: World) -> Outcomes:
    """What everything that the Director can say leads to when nothing else happens."""
    found: Outcomes = {}
    agent = AgentThread(paired, CONTROLLER_SYNC_PERIOD="1h").start()
    try:
        for auth, description in itertools.product(AUTHS, DESCRIPTIONS):
            clear(paired)
            for name in NAMES:
                paired.compass.put_application(assigned(name, AUTHS[auth], description=description))
            now = outcome(paired, f"{auth}, {description}")
            for name in NAMES:
                secrets = {key: secret for key, secret in now["secrets"].items() if secret[0]["app"] == name}
                assert len(secrets) == (auth != "none")
                found[name, auth, description] = (now["applications"][name], secrets)
    finally:
        agent.stop()
    return found


class Histories(RuleBasedStateMachine):
    """`replicas` has the leader first, as long as nothing but the rules stops one."""

    def __init__(self, world: World, outcomes: Outcomes) -> None:
        super().__init__()
        self.world, self.outcomes = world, outcomes
        self.assigned: dict[str, Assigned] = {}
        self.users: dict[str, Object] = {}
        self.replicas: list[TriedAgent] = []
        self.a_leader_died = False

    @initialize()
    def begin(self) -> None:
        clear(self.world)
        forget_attempts(self.world)
        self.replicas = [self._replica(), self._replica()]

    def _replica(self) -> TriedAgent:
        agent = TriedAgent(self.world, LEADER_ELECTION="true", CONTROLLER_SYNC_PERIOD="2s")
        agent.start()
        return agent

    # --- the Director ---

    @rule(name=names, auth=st.sampled_from([*AUTHS]), description=st.sampled_from(DESCRIPTIONS))
    def assign(self, name: str, auth: str, description: str) -> None:
        self.world.compass.put_application(assigned(name, AUTHS[auth], description=description))
        self.assigned[name] = (name, auth, description)

    @rule(name=names)
    def unassign(self, name: str) -> None:
        if self.assigned.pop(name, None):
            self.world.compass.state.remove_application(f"id-{name}")

    @rule(fault=st.sampled_from([None, *DIRECTOR_FAULTS]))
    def director_fails(self, fault: str | None) -> None:
        self.world.compass.faults.clear()
        if fault is not None:
            self.world.compass.faults.add(DIRECTOR_FAULTS[fault])

    # --- users ---

    @rule(name=names, what=st.sampled_from(["description", "services", "managed-by", "team"]))
    def edit_application(self, name: str, what: str) -> None:
        patches: dict[str, Object] = {
            "description": {"spec": {"description": "edited"}},
            "services": {"spec": {"services": []}},
            "managed-by": {"metadata": {"labels": {MANAGED_BY_LABEL: None}}},
            "team": {"metadata": {"labels": {"team": "red"}}},
        }
        if name not in self.users:
            with suppress(NotFound):
                self.world.client.patch(APPLICATION, name, patches[what])

    @rule(name=names)
    def delete_application(self, name: str) -> None:
        self.world.remove(APPLICATION, name)
        self.users.pop(name, None)

    @rule(name=names, what=st.sampled_from(["delete", "data", "labels", "owner"]))
    def tamper_with_secret(self, name: str, what: str) -> None:
        patches: dict[str, Object] = {
            "data": {"data": {"password": encoded("edited")}},
            "labels": {"metadata": {"labels": None}},
            "owner": {"metadata": {"ownerReferences": None}},
        }
        for secret in self.world.secrets().values():  # those that still have their labels
            metadata = secret["metadata"]
            if metadata["labels"]["app"] != name or (what == "labels" and not metadata.get("ownerReferences")):
                continue
            if what == "delete":
                self.world.remove(SECRET, metadata["name"], NAMESPACE)
            else:
                with suppress(NotFound):
                    self.world.client.patch(SECRET, metadata["name"], patches[what], namespace=NAMESPACE)

    @rule(name=st.sampled_from(USERS))
    def make_own_application(self, name: str) -> None:
        if name not in self.world.applications():
            self.users[name] = self.world.put(
                APPLICATION, {"metadata": {"name": name}, "spec": {"description": "mine"}}
            )

    # --- the machinery ---

    @rule(every=st.integers(0, 4), lost=st.booleans())
    def writes_fail(self, every: int, *, lost: bool) -> None:
        for agent in self.replicas:
            agent.weather.every, agent.weather.answers_are_lost = every, lost

    @rule(events=st.integers(0, 5))
    def watches_go_silent(self, events: int) -> None:
        for agent in self.replicas:
            agent.go_blind(after_events=events)

    @rule()
    def watches_are_listed_anew(self) -> None:
        for agent in self.replicas:
            agent.see()

    @rule()
    def leader_changes(self) -> None:
        """It gives the lease back, the other one takes over with its caches as they are, and a new one stands by."""
        self.replicas.pop(0).stop()
        self.replicas.append(self._replica())

    @rule(writes=st.integers(1, 12))
    def leader_dies(self, writes: int) -> None:
        """In the middle of its work; the lease has to expire. Once in a history, as that takes a while."""
        if not self.a_leader_died:
            self.a_leader_died = True
            self.replicas[0].die_after(writes)

    @rule()
    def attempt(self) -> None:
        """Let the agents come as far as they can."""
        forget_attempts(self.world)
        resync(self.world)
        self.world.wait_for("an attempt", lambda: attempted(self.world), timeout=120)

    # --- what must hold ---

    def teardown(self) -> None:
        """All disturbance ends: then the cluster equals the Director."""
        try:
            self._settle()
        finally:
            for agent in self.replicas:
                agent.stop()

    def _settle(self) -> None:
        self.world.compass.faults.clear()
        self.writes_fail(0, lost=False)
        self.watches_are_listed_anew()
        for _ in range(2):  # and then it stays so
            self.attempt()
            with suppress(TimeoutError):
                self.world.wait_for("the end", lambda: self._found() == self._wanted(), timeout=180)
            assert self._found() == self._wanted()
        present = self.world.applications()
        assert {name: present[name] for name in self.users} == self.users

    def _wanted(self) -> Snapshot:
        outcomes = [self.outcomes[what] for name, what in self.assigned.items() if name not in self.users]
        wanted = {application[1]["compassMetadata"]["applicationId"]: application for application, _ in outcomes}
        return {"applications": wanted, "secrets": {key: one for _, many in outcomes for key, one in many.items()}}

    def _found(self) -> Snapshot:
        """The Applications of the agent by id, without what users add to them.

        Secrets whose every owner is gone are nobody's: the garbage collection of a cluster removes them, which does
        not run here.
        """
        now = snapshot(self.world)
        applications = {}
        for name, (labels, spec) in now["applications"].items():
            if name not in self.users:
                own = {key: value for key, value in labels.items() if key != "team"}
                applications[spec["compassMetadata"]["applicationId"]] = (own, spec)
        secrets = {
            name: secret
            for name, secret in now["secrets"].items()
            if not secret[2] or any(exists for _, exists in secret[2])
        }
        return {"applications": applications, "secrets": secrets}


# The same histories in every run, as far as agents and a real server allow; HISTORIES=N tries N new ones.
_NEW = os.environ.get("HISTORIES")


def test_every_history_ends_as_the_director_says(paired: World, outcomes: Outcomes, log: AuditLog) -> None:
    """And every write on the way says which version it replaces."""
    log.clear()
    run_state_machine_as_test(
        lambda: Histories(paired, outcomes),  # type: ignore[arg-type]
        settings=settings(
            max_examples=int(_NEW or 12),
            derandomize=_NEW is None,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],  # a history that ends badly takes minutes: it is shown as it is
            suppress_health_check=[*HealthCheck],
        ),
    )
    assert not [str(write) for write in log.writes("applications", "secrets") if not write.names_its_version]
