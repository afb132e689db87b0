"""The sync reconciler on virtual time: when it fetches, what it publishes, and what it reports."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from controller.applications.deletions import CONFIRM_DELETIONS
from controller.applications.progress import Plan
from controller.compass.errors import CompassError, InvalidAnswer, Refused, Unavailable
from controller.compass.types import Assignment, IncompleteApplication, Viewer
from controller.connection.observations import CompassService
from controller.resources import APPLICATION, SYNC_STATUS
from informers.errors import Forbidden
from tests.support.sync import Agent, Cluster, Director, Object, application

PERIOD = 20.0


def _assign(director: Director, count: int, prefix: str = "app") -> None:
    director.applications = [application(f"{prefix}-{number:03d}") for number in range(count)]


@pytest.fixture
def synced(agent: Agent, director: Director, cluster: Cluster) -> Agent:
    """Ten Applications, in sync."""
    _assign(director, 10)
    agent.settle()
    assert agent.state == "Synchronized"
    cluster.requests.clear()
    agent.recorder.events.clear()
    return agent


def _set_resync_now(agent: Agent) -> None:
    agent.connection["spec"]["resyncNow"] = True
    agent.sync_due = True


def _confirm(agent: Agent, value: str) -> None:
    agent.connection["metadata"]["annotations"][CONFIRM_DELETIONS] = value
    agent.sync_due = True


def _annotation(agent: Agent) -> str | None:
    value: str | None = agent.connection["metadata"]["annotations"].get(CONFIRM_DELETIONS)
    return value


def _printed_confirmation(agent: Agent) -> str:
    """The value in the command that the status gives."""
    found = re.search(
        rf"kubectl annotate --overwrite compassconnection (\S+) {CONFIRM_DELETIONS}=(\S+)", agent.sync_error
    )
    assert found is not None
    assert found[1] == "compass-connection"
    return found[2]


def test_a_change_during_a_sync_is_compared_with_its_plan(
    synced: Agent, director: Director, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison finds it equal; a worker must not write what the plan before wants, as nothing would see that."""
    name = "app-000"
    edited = copy.deepcopy(cluster.applications()[name])
    edited["spec"]["description"] = "new"
    cluster.put(APPLICATION, edited)
    synced.deliver()
    director.applications[0] = msgspec.structs.replace(director.applications[0], description="new")
    compare = synced.applications.differing

    def compare_and_work(plan: Plan) -> list[str]:
        found = compare(plan)
        assert name in synced.queue
        assert synced.step(name) is None
        return found

    monkeypatch.setattr(synced.applications, "differing", compare_and_work)
    synced.cycle()
    assert cluster.applications()[name]["spec"]["description"] == "new"


# --- when ---


@pytest.mark.parametrize("error", [None, Refused("insufficient scopes")], ids=["answered", "refused"])
def test_an_answer_for_replaced_credentials_is_discarded(
    synced: Agent, director: Director, error: CompassError | None
) -> None:
    """A pairing switches over during a fetch: the answer is neither applied nor reported, and the next fetch begins at
    once, with the new credentials.
    """
    ask = director.fetch

    def switch_meanwhile(runtime_id: str, *, request_id: str) -> Assignment:
        director.fetch = ask  # type: ignore[method-assign]
        synced.credentials = replace(synced.credentials, fingerprint="second")
        if error is not None:
            raise error
        return Assignment((), (), {})

    director.fetch = switch_meanwhile  # type: ignore[method-assign]
    fetches = director.fetches
    synced.clock.advance(PERIOD)
    assert synced.step_sync() == 0.0
    synced.settle()
    assert len(synced.cluster.applications()) == 10
    assert (synced.state, synced.recorder.events, director.fetches) == ("Synchronized", [], fetches)
    synced.cycle(0)
    assert director.fetches == fetches + 1


def test_an_unchanged_cycle_costs_one_status_write(synced: Agent, director: Director, cluster: Cluster) -> None:
    """Ten quiet periods: ten fetches, ten status writes, nothing else."""
    writes, fetches = synced.connections.writes, director.fetches
    for _ in range(10):
        synced.cycle(PERIOD)
    assert (synced.connections.writes - writes, director.fetches - fetches) == (10, 10)
    assert not cluster.requests
    assert not synced.recorder.events


def test_it_fetches_once_a_period_whatever_triggers_it(synced: Agent, director: Director) -> None:
    """Events of the CompassConnection, its own writes included, cause no earlier fetch."""
    fetches = director.fetches
    for _ in range(19):
        synced.cycle(1)
    synced.clock.advance(0.5)
    assert synced.step_sync() == 0.5
    assert director.fetches == fetches
    synced.cycle(0.5)
    assert director.fetches == fetches + 1


def test_resync_now_may_be_withdrawn_while_it_is_read(
    synced: Agent, director: Director, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches, connection = director.fetches, copy.deepcopy(synced.connection)
    connection["spec"]["resyncNow"] = True
    monkeypatch.setattr(synced.connections, "get", lambda _: connection)
    synced.step_sync()
    assert (director.fetches, synced.state) == (fetches + 1, "Synchronized")


@pytest.mark.parametrize("error", [None, Unavailable("down")], ids=["answered", "failing"])
def test_resync_now_acts_at_once_and_once(synced: Agent, director: Director, error: CompassError | None) -> None:
    """Also if the last fetch failed just now. The flag is reset with the fetch; what follows is the usual back-off."""
    director.error = error
    synced.cycle(PERIOD)
    fetches = director.fetches
    _set_resync_now(synced)
    synced.settle()
    assert director.fetches == fetches + 1
    assert "resyncNow" not in synced.connection["spec"]
    for _ in range(5):
        synced.sync_due = True
        synced.settle()
    assert director.fetches == fetches + 1


def test_resync_now_in_a_loop_is_granted_once_a_pause(synced: Agent, director: Director) -> None:
    """The first at once, those that follow after the pause, none is lost; the pause is at least a second."""
    for pause, settings in ((10.0, {"minimal_sync_time": 10.0}), (1.0, {"minimal_sync_time": 0.0})):
        agent = Agent(synced.cluster, director, sync_period=3600.0, **settings)  # type: ignore[arg-type]
        agent.settle()
        began, fetches = agent.clock.monotonic(), director.fetches
        for _ in range(1000):
            _set_resync_now(agent)
            wait = agent.step_sync()
            agent.settle()
            assert wait is not None
            agent.clock.advance(min(wait, pause / 100))
        passed = agent.clock.monotonic() - began
        assert passed > 5 * pause
        assert director.fetches - fetches == 1 + int(passed / pause)


def test_failures_are_tried_again_with_growing_delays(agent: Agent, director: Director) -> None:
    """1, 2, 4, 8, 16 s, then the cap; a Retry-After of the Director is kept to."""
    director.error = Unavailable("down")
    delays = []
    for _ in range(6):
        delay = agent.step_sync()
        assert delay is not None
        delays.append(delay)
        agent.clock.advance(delay)
    assert delays == [1, 2, 4, 8, 16, 20]
    director.error = Unavailable("wait", retry_after=15)
    agent.credentials.fingerprint = "second"
    assert agent.step_sync() == 15


@pytest.mark.parametrize("what", ["runtime", "certificate", "object"])
def test_a_new_runtime_certificate_or_object_is_synced_at_once(synced: Agent, director: Director, what: str) -> None:
    """What was fetched for another Runtime, or before a reconnect, does not count; resyncNow delays nothing."""
    _set_resync_now(synced)
    synced.settle()
    fetches = director.fetches
    if what == "runtime":
        synced.credentials.registration = replace(synced.credentials.registration, runtime_id="another")
        director.viewer_id = "another"
    elif what == "certificate":
        synced.credentials.fingerprint = "second"
    else:
        synced.connection["metadata"]["uid"] = "cc-2"
        synced.connection["status"] = {"connectionState": "Connected"}
    director.applications = [application("only")]
    synced.connection["spec"] = {"resyncNow": True}
    synced.sync_due = True
    synced.settle()
    assert director.fetches == fetches + 1
    assert synced.cluster.applications().keys() == {"only"}
    assert synced.state == "Synchronized"


def test_a_slow_director_gets_a_pause(cluster: Cluster, director: Director) -> None:
    """After an answer that takes longer than the period, the next fetch waits."""
    agent = Agent(cluster, director, minimal_sync_time=10.0)
    fetch = director.fetch

    def slow(runtime_id: str, *, request_id: str) -> object:
        agent.clock.advance(60)
        return fetch(runtime_id, request_id=request_id)

    director.fetch = slow  # type: ignore[method-assign,assignment]
    assert agent.step_sync() == 10


@pytest.mark.parametrize("state", ["ConnectionFailed", "", "unheard of"])
def test_without_a_connection_nothing_is_fetched(agent: Agent, director: Director, state: str) -> None:
    """There must be a connection first; a failed maintenance still allows it."""
    agent.status["connectionState"] = state
    agent.settle()
    assert director.fetches == 0
    agent.status["connectionState"] = "ConnectionMaintenanceFailed"
    agent.sync_due = True
    agent.settle()
    assert director.fetches == 1


def test_an_expired_certificate_is_not_used(agent: Agent, director: Director) -> None:
    """The Director would refuse it. The clock may be wrong, so it is looked at again."""
    agent.credentials.not_after = agent.clock.time()
    assert agent.step_sync() == 60.0
    assert director.fetches == 0


@pytest.mark.parametrize("answers", [("another",), (None, "another")], ids=["before the fetch", "after it"])
def test_a_certificate_of_another_runtime_synchronises_nothing(
    agent: Agent, director: Director, cluster: Cluster, answers: tuple[str | None, ...]
) -> None:
    """And the Director is asked for the owner with growing pauses."""
    viewers = [*answers]

    def viewer(*, request_id: str) -> Viewer | None:
        name = viewers.pop(0)
        return Viewer(name, "RUNTIME") if name else None

    director.viewer = viewer  # type: ignore[method-assign]
    director.applications = [application("shop")]
    assert agent.step_sync() == 1
    assert (viewers, agent.step_sync()) == ([], 1), "asked again without a pause"
    viewers.append("another")
    agent.clock.advance(1)
    assert agent.step_sync() == 2
    assert agent.progress.plan is None
    assert not cluster.requests


def test_a_director_without_the_owner_query_is_asked_twice(
    agent: Agent, director: Director, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be older than the query: a fetch that succeeds in between settles it."""
    asked: list[str] = []
    monkeypatch.setattr(director, "viewer", lambda *, request_id: asked.append(request_id))
    for _ in range(3):
        agent.cycle()
        assert (agent.state, len(asked)) == ("Synchronized", 2)
    assert all(asked), "a call without a request id"


def test_an_unexpected_error_is_reported_by_its_type(agent: Agent, director: Director) -> None:
    """Its text may contain data. The next attempt is after a pause."""

    def broken(*_: object, **__: object) -> Assignment:
        director.fetches += 1
        raise KeyError("password")

    director.fetch = broken  # type: ignore[method-assign]
    assert [agent.step_sync() for _ in range(2)] == [1, 1]
    assert director.fetches == 1
    assert agent.state == "SynchronizationFailed"
    assert "Failed to fetch configuration: an error that the agent does not expect (KeyError)" in agent.sync_error
    assert "password" not in str(agent.recorder.events) + agent.sync_error


# --- what ---


def test_settings_of_applications_are_applied(cluster: Cluster, director: Director) -> None:
    director.applications = [application("shop")]
    Agent(cluster, director, central_gateway_url="http://gateway", skip_apps_tls_verify=True).settle()
    spec = cluster.applications()["shop"]["spec"]
    assert spec["services"][0]["entries"][0]["centralGatewayUrl"] == "http://gateway/shop/main/api"
    assert spec["skipVerify"] is True


def test_failing_fetches_change_nothing(synced: Agent, director: Director, cluster: Cluster) -> None:
    """No object changes, drift is still undone, and the status shows the failure until a fetch succeeds."""
    for error in (Unavailable("down"), InvalidAnswer("is null", path="runtime"), Refused("insufficient scopes")):
        director.error = error
        synced.cycle(PERIOD)
        assert synced.state in ("SynchronizationFailed", "ConnectionMaintenanceFailed")
        assert re.fullmatch(
            rf"Failed to fetch configuration: x-request-id: runtime_\S+ failed: {re.escape(str(error))}",
            synced.sync_error,
        )
        event = ("compass-connection", f"Failed to fetch configuration: {error}")
        assert synced.recorder.of("SynchronizationFailed")[-1] == event
        assert not cluster.requests
    (refusal,) = synced.health.observations().refusals
    assert (refusal.by, refusal.certificate) == (CompassService.DIRECTOR, "first")
    assert refusal.failure.text == "insufficient scopes"
    cluster.remove(APPLICATION, "app-000")
    synced.settle()
    assert "app-000" in cluster.applications()
    assert "insufficient scopes" in synced.sync_error
    director.error = None
    synced.cycle(PERIOD)
    assert synced.state == "Synchronized"
    assert not synced.health.observations().refusals


def test_an_outcome_does_not_hide_a_failing_director(synced: Agent, director: Director, cluster: Cluster) -> None:
    """With resyncNow a fetch fails within the period; reverted drift then does not lead to Synchronized."""
    director.error = Unavailable("down")
    synced.clock.advance(5)
    _set_resync_now(synced)
    synced.settle()
    cluster.failure = lambda *_: Forbidden("no", status=403)
    cluster.remove(APPLICATION, "app-000")
    synced.settle()
    cluster.failure = lambda *_: None
    synced.enqueue("app-000")
    synced.settle()
    assert synced.state == "SynchronizationFailed"


def test_after_a_restart_what_is_stored_is_in_memory_once(synced: Agent, director: Director, cluster: Cluster) -> None:
    """The set that is desired shares the values of the cache."""
    synced.end()
    restarted = Agent(cluster, director)
    restarted.step_sync()
    plan = restarted.progress.plan
    assert plan is not None
    for obj in restarted.applications.managed():
        assert plan.desired.by_name[obj["metadata"]["name"]].spec["services"] is obj["spec"]["services"]


def test_changes_come_before_new_applications_and_deletions(synced: Agent, director: Director) -> None:
    """A change, and drift (priority 0), must not wait behind thousands of others."""
    _assign(director, 9)
    director.applications[0] = application("app-000", description="changed")
    director.applications += [application("new")]
    synced.priorities.clear()
    synced.clock.advance(PERIOD)
    synced.step_sync()
    priorities = dict(synced.priorities)
    assert priorities["app-000"] > 0 > priorities["new"] == priorities["app-009"]
    assert synced.priorities[0][0] == "app-000"


def test_a_failed_application_does_not_delay_drift(synced: Agent, director: Director, cluster: Cluster) -> None:
    """Its retry with each sync goes behind drift (priority 0), until Compass changes it."""
    cluster.failure = lambda verb, *_: Forbidden("no", status=403) if verb == "update" else None
    director.applications[0] = application("app-000", description="changed")
    expected = (True, False, False, True)
    for description, is_urgent in zip(("changed", "changed", "changed", "changed again"), expected, strict=True):
        director.applications[0] = application("app-000", description=description)
        synced.priorities.clear()
        synced.clock.advance(PERIOD)
        synced.step_sync()
        assert (dict(synced.priorities)["app-000"] > 0) is is_urgent
        synced.settle()


def test_an_incomplete_application_is_reported_and_left(synced: Agent, director: Director, cluster: Cluster) -> None:
    """The others are applied; an Event is written once. The object changes in the annotation that says so alone."""
    before = cluster.applications()["app-000"]
    _assign(director, 9)
    director.applications[0] = application("app-001", description="changed")
    del director.applications[1]
    director.incomplete = [IncompleteApplication("id-app-000", "app-000", "bundles: refused")]
    for _ in range(3):
        synced.cycle(PERIOD)
        assert "bundles: refused" in synced.sync_error
    after = cluster.applications()["app-000"]
    assert after["metadata"]["annotations"] == {SYNC_STATUS: "Incomplete"}
    assert {**after, "metadata": 0} == {**before, "metadata": 0}
    assert cluster.requests["update Application"] == 2, "the changed one, and the annotation once"
    assert cluster.applications()["app-001"]["spec"]["description"] == "changed"
    assert "app-009" not in cluster.applications()
    assert [name for name, _ in synced.recorder.of("Incomplete")] == ["app-000"]
    assert synced.status["applications"] == {"desired": 9, "synced": 8, "failed": 1, "failing": ["app-000"]}


def test_ten_failures_are_named_and_the_rest_counted(synced: Agent, director: Director, cluster: Cluster) -> None:
    cluster.failure = lambda *_: Forbidden("no", status=403)
    director.applications += [application(f"new-{number:02d}") for number in range(15)]
    synced.cycle(PERIOD)
    assert "new-09" in synced.sync_error
    assert "new-10" not in synced.sync_error
    assert "and 5 more" in synced.sync_error
    assert synced.status["applications"]["failed"] == 15
    assert synced.status["applications"]["synced"] == 10


def test_a_recovery_is_reported_without_a_fetch(synced: Agent, director: Director, cluster: Cluster) -> None:
    """A second after the last write at the earliest: failures that come and go are not a write each."""
    cluster.failure = lambda *_: Forbidden("no", status=403)
    director.applications += [application("new")]
    synced.cycle(PERIOD)
    assert synced.state == "ResourceApplicationFailed"
    fetches = director.fetches
    cluster.failure = lambda *_: None
    synced.enqueue("new")
    synced.settle()
    assert synced.state == "ResourceApplicationFailed"
    synced.cycle(1)
    assert synced.state == "Synchronized"
    assert director.fetches == fetches
    assert [event[1:3] for event in synced.recorder.events if event[0] != "new"] == [
        ("Warning", "ResourceApplicationFailed"),
        ("Normal", "Synchronized"),
    ]


def test_metrics_show_results_and_state_of_each_sync(agent: Agent, director: Director, cluster: Cluster) -> None:
    """A sync that has failed leaves the time of the last successful one."""

    def metric(name: str, **labels: str) -> float | None:
        return agent.registry.get_sample_value(f"compass_runtime_agent_{name}", labels)

    agent.clock.advance(5)
    director.applications = [application("one")]
    agent.step_sync()
    agent.clock.advance(2)
    agent.settle()
    succeeded = agent.clock.time()
    assert metric("sync_duration_seconds_sum") == 2
    assert metric("syncs_total", result="success") == 1
    for kind in ("Application", "Secret"):
        assert metric("object_writes_total", kind=kind, operation="create") == 1
    assert metric("connection_state", state="Synchronized") == 1
    assert agent.health.observations().sync_state == "Synchronized"
    assert agent.status["connectionStatus"]["lastSuccess"] == "2026-01-01T00:00:00Z"
    director.applications.append(application("two"))
    cluster.failure = lambda *_: Forbidden("no", status=403)
    agent.cycle()
    assert [metric("applications", status=status) for status in ("desired", "synced", "failed")] == [2, 1, 1]
    assert metric("connection_state", state="ResourceApplicationFailed") == 1
    director.error = Unavailable("down")
    agent.cycle()
    director.error, director.applications, cluster.failure = None, [application("one")], lambda *_: None
    director.labels, director.label_error = {"isNormalized": "true"}, Unavailable("read only")
    agent.cycle()
    assert [metric("syncs_total", result=result) for result in ("success", "error")] == [1, 3]
    assert metric("last_successful_sync_timestamp_seconds") == succeeded
    agent.status["connectionState"] = "ConnectionFailed"
    agent.cycle()
    assert metric("connection_state", state="ConnectionFailed") == 1


# --- deletions ---


def test_a_mass_deletion_is_reported(synced: Agent, director: Director, cluster: Cluster) -> None:
    """One Event, and the deletions are done. Neither Applications of users count, nor those that are being deleted."""
    leaving = {"name": "leaving", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/theirs"]}
    cluster.put(APPLICATION, {"metadata": leaving, "spec": {"compassMetadata": {}}})
    for number in range(5):
        cluster.put(APPLICATION, {"metadata": {"name": f"users-{number}"}, "spec": {}})
    synced.deliver()
    _assign(director, 4)
    synced.cycle(PERIOD)
    assert len(cluster.applications()) == 4 + 6
    assert synced.recorder.of("MassDeletion") == [("compass-connection", "6 of 10 Applications are being deleted")]
    _assign(director, 2)
    synced.cycle(PERIOD)
    assert len(synced.recorder.of("MassDeletion")) == 1


def test_too_many_deletions_wait_for_a_confirmation(cluster: Cluster, director: Director) -> None:
    """Held as a whole, shown in state, error and Event; creations and changes go on; a confirmation acts at once and
    stays valid until all of them are done.
    """
    agent = Agent(cluster, director, max_deletion_percent=50)
    _assign(director, 10)
    agent.settle()
    _assign(director, 4)
    director.applications += [application("new")]
    for _ in range(3):
        agent.cycle(PERIOD)
    assert len(cluster.applications()) == 11
    assert agent.state == "ResourceApplicationFailed"
    assert "app-004, app-005, app-006, app-007, app-008 and 1 more" in agent.sync_error
    assert len(agent.recorder.of("DeletionsHeld")) == 1
    assert not agent.recorder.of("MassDeletion")
    agent.priorities.clear()
    agent.cycle(PERIOD)
    assert agent.priorities == [], "what is held needs no work"

    fetches = director.fetches
    for text in ("5", "6", "many", "-6", "६", "", "9" * 5000):
        _confirm(agent, text)
        agent.settle()
    assert director.fetches == fetches, "a confirmation of another set causes a fetch"
    _confirm(agent, _printed_confirmation(agent))
    cluster.failure = lambda method, *_: Forbidden("no", status=403) if method == "delete" else None
    agent.settle()
    assert director.fetches == fetches + 1
    cluster.failure = lambda *_: None
    agent.cycle(PERIOD)
    assert len(cluster.applications()) == 5, "what was confirmed, and failed at first, is held again"
    assert _annotation(agent) is None
    assert not agent.recorder.of("ConfirmationVoid")
    agent.cycle(1)
    assert agent.state == "Synchronized"


def _holding(cluster: Cluster, director: Director, *, assigned: int = 10, left: int = 4) -> Agent:
    """An agent that holds the deletions of those that are assigned no longer."""
    agent = Agent(cluster, director, max_deletion_percent=50)
    _assign(director, assigned)
    agent.settle()
    _assign(director, left)
    agent.cycle(PERIOD)
    return agent


@pytest.mark.parametrize("afterwards", [10, 3], ids=["assigned again", "more are gone"])
def test_a_confirmation_of_another_set_is_void(cluster: Cluster, director: Director, afterwards: int) -> None:
    """The confirmation is removed, an Event says so, and it confirms nothing later."""
    agent = _holding(cluster, director)
    confirmation = _printed_confirmation(agent)
    _assign(director, afterwards)
    agent.clock.advance(PERIOD)
    _confirm(agent, confirmation)
    agent.settle()
    assert len(cluster.applications()) == 10
    assert _annotation(agent) is None
    assert len(agent.recorder.of("ConfirmationVoid")) == 1
    _assign(director, 4)
    agent.cycle(PERIOD)
    assert len(cluster.applications()) == 10, "an old confirmation has released a later deletion"


def test_restored_applications_have_another_confirmation(cluster: Cluster, director: Director) -> None:
    """The latest Event has the valid one."""
    agent = _holding(cluster, director, assigned=2, left=0)
    restored = cluster.applications().pop("app-000")
    cluster.put(APPLICATION, copy.deepcopy(restored))
    agent.deliver()
    agent.cycle(PERIOD)
    latest = agent.recorder.of("DeletionsHeld")[-1][1]
    assert _printed_confirmation(agent) in latest


def test_a_confirmation_before_the_first_fetch_is_valid(cluster: Cluster, director: Director) -> None:
    """The agent was restarted between the message and the command; the same set has the same name."""
    first = _holding(cluster, director)
    confirmation = _printed_confirmation(first)
    first.end()
    second = Agent(cluster, director, max_deletion_percent=50)
    _confirm(second, confirmation)
    second.settle()
    assert len(cluster.applications()) == 4


# --- labels ---


def test_labels_are_reported_when_absent_or_different(agent: Agent, director: Director) -> None:
    director.labels["runtime_consoleUrl"] = "https://old"
    agent.settle()
    assert director.labels["runtime_consoleUrl"] == "https://console.kyma.local"
    assert director.labels["runtime_eventServiceUrl"] == "https://gateway.kyma.local"
    director.label_error = Unavailable("must not be called")
    agent.cycle(PERIOD)
    assert agent.state == "Synchronized"


def test_failing_labels_do_not_undo_the_sync(agent: Agent, director: Director, cluster: Cluster) -> None:
    """State MetadataUpdateFailed with both errors; the Applications are there; the next cycle tries again."""
    director.label_error = Unavailable("read only")
    _assign(director, 3)
    agent.settle()
    assert len(cluster.applications()) == 3
    assert agent.state == "MetadataUpdateFailed"
    assert "runtime_consoleUrl: read only" in agent.sync_error
    assert "runtime_eventServiceUrl: read only" in agent.sync_error
    director.label_error = None
    agent.cycle(PERIOD)
    assert agent.state == "Synchronized"


def test_a_sync_does_not_overwrite_a_lost_connection(
    agent: Agent, director: Director, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the connection that a conflict brings stays, and no Event says that it is in sync."""
    apply_to = agent.connections.apply_to
    states: list[str] = []

    def lose_the_connection(connection: Object, change: Callable[[Object], None]) -> Object | None:
        change(copy.deepcopy(connection))
        agent.connection["status"]["connectionState"] = "ConnectionMaintenanceFailed"
        stored = apply_to(connection, change)
        states.append(agent.state)
        return stored

    monkeypatch.setattr(agent.connections, "apply_to", lose_the_connection)
    agent.step_sync()
    assert states == ["ConnectionMaintenanceFailed"]
    assert not agent.recorder.events


def test_an_own_write_that_a_later_list_lacks_is_checked_again(
    synced: Agent, director: Director, cluster: Cluster
) -> None:
    """What was found equal was the write; the API server was restored since, and what it has counts."""
    synced.lagging = True
    before = copy.deepcopy(cluster.objects)
    director.applications[3] = application("app-003", description="new")
    synced.cycle(PERIOD)
    assert synced.state == "Synchronized"
    synced.priorities.clear()
    synced.cycle(PERIOD)
    assert not synced.priorities
    synced.clock.advance(1)
    synced.relist(before)
    synced.priorities.clear()
    synced.cycle(PERIOD)
    assert [name for name, _ in synced.priorities] == ["app-003"]
