"""The application reconciler where caches lag and writes are refused: what a real API server cannot be made to do."""

import base64
import copy
import gc
from typing import Any

import pytest
from msgspec.structs import replace

from controller.applications.conversion import DesiredSecret
from controller.applications.secrets import reserved_secrets
from controller.compass.types import Application, Auth, Bundle, Credential, items
from controller.resources import APPLICATION, SECRET, SYNC_STATUS
from controller.settings import Settings
from informers.errors import ApiError, Conflict, ConnectionFailed, Forbidden
from informers.resource import Resource
from tests.support.assigned import basic, bundle
from tests.support.sync import NAMESPACE, Agent, Cluster, Director, application
from tests.unit.applications.conftest import NAME, SECRET_NAME

Object = dict[str, Any]


def test_nothing_is_done_before_the_director_has_answered(agent: Agent, cluster: Cluster) -> None:
    """Without a desired set, nothing is deleted."""
    cluster.put(APPLICATION, {"metadata": {"name": NAME}, "spec": {"compassMetadata": {"applicationId": "x"}}})
    agent.deliver()
    assert agent.step(NAME) is None
    assert not cluster.requests


def test_objects_in_sync_trigger_no_reconcile(agent: Agent, director: Director, cluster: Cluster) -> None:
    """Neither own writes nor what users add; a comparison of everything finds nothing."""
    two_secrets = bundle("two", auth=basic(additionalHeaders={"X": ["1"]}))
    director.applications = [
        application(NAME),
        application("none", secret=None),
        application("two", bundles=(two_secrets,)),
    ]
    agent.step_sync()
    for name in [*agent.queue]:
        assert agent.step(name) is None
    agent.deliver()
    assert not agent.queue
    for resource, objects in ((APPLICATION, cluster.applications()), (SECRET, cluster.secrets())):
        for name, obj in copy.deepcopy(objects).items():
            cluster.put(resource, {**obj, "metadata": {**obj["metadata"], "annotations": {"team": "red"}}})
            agent.deliver()
            assert not agent.queue, name
    agent.applications._last_comparison = None
    assert agent.progress.plan is not None
    assert agent.applications.differing(agent.progress.plan) == []


def test_a_change_by_others_triggers_its_application_alone(agent: Agent, director: Director, cluster: Cluster) -> None:
    """And a comparison of everything finds it, too."""
    director.applications = [application(NAME), application("other")]
    agent.settle()
    for resource, change in ((SECRET, {"data": {}}), (APPLICATION, {"spec": {"compassMetadata": {}}})):
        for obj in copy.deepcopy([*cluster.objects[resource.plural].values()]):
            name = obj["metadata"].get("labels", {}).get("app") or obj["metadata"]["name"]
            cluster.put(resource, {**obj, **change})
            agent.deliver()
            assert agent.queue.keys() == {name}
            assert agent.progress.plan is not None
            assert agent.applications.differing(agent.progress.plan) == [name]
            agent.settle()
    secret = copy.deepcopy(cluster.secrets()[SECRET_NAME])
    secret["metadata"] |= {"labels": {"app": "theirs", "bundleId": "x"}, "ownerReferences": []}
    cluster.put(SECRET, secret)
    agent.deliver()
    assert agent.queue.keys() == {NAME}, "it was a Secret of this Application"


@pytest.mark.parametrize("drift", ["Application deleted", "Secret deleted", "Secret without its labels"])
def test_drift_without_an_event_is_undone_after_a_list(
    agent: Agent, director: Director, cluster: Cluster, drift: str
) -> None:
    """The watch was interrupted from the creation on, and the list after it does not have the object."""
    resource = APPLICATION if drift.startswith("Application") else SECRET
    director.applications = [application(NAME, secret="password" if resource is SECRET else None)]
    agent.lagging = True
    agent.settle()
    (created,) = copy.deepcopy([*cluster.objects[resource.plural].values()])
    metadata = created["metadata"]
    if drift.endswith("deleted"):
        cluster.delete(resource, metadata["name"], namespace=metadata.get("namespace"), uid=metadata["uid"])
    else:
        cluster.put(resource, {**created, "metadata": {**metadata, "labels": {}}})
    agent.lagging = False
    agent.clock.advance(1)
    agent.relist()
    agent.settle()
    (repaired,) = cluster.objects[resource.plural].values()
    assert repaired["metadata"]["labels"] == metadata["labels"]
    assert {**repaired, "metadata": None} == {**created, "metadata": None}


def test_a_repair_by_another_client_ends_a_failure(synced: Agent, director: Director, cluster: Cluster) -> None:
    """A change that brings an object in sync triggers a reconcile, which removes the failure."""
    cluster.failure = lambda method, *_: Forbidden("no", status=403) if method == "update" else None
    director.applications = [application(NAME, secret="changed", description="changed")]
    synced.cycle()
    assert synced.state == "ResourceApplicationFailed"
    cluster.failure = lambda *_: None
    other = Agent(cluster, director)
    other.settle()
    other.end()
    for _ in (SECRET, APPLICATION):
        synced.queue.clear()
        synced.deliver(1)
        assert synced.queue.keys() == {NAME}
    synced.settle()
    synced.cycle(1)
    assert synced.state == "Synchronized"


def test_the_server_overrules_a_lagging_cache(synced: Agent, director: Director, cluster: Cluster) -> None:
    """A conflict has the object read; the work then ends with the cache still in the past."""
    synced.lagging = True
    user = copy.deepcopy(cluster.applications()[NAME])
    user["metadata"]["labels"]["team"] = "red"
    user["spec"]["description"] = "edited"
    cluster.put(APPLICATION, user)
    director.applications = [application(NAME, description="new", secret="changed")]
    synced.cycle()
    stored = cluster.applications()[NAME]
    assert stored["spec"]["description"] == "new"
    assert stored["metadata"]["labels"]["team"] == "red"
    assert synced.state == "Synchronized"
    assert cluster.requests["get Application"] == 1
    assert not synced.recorder.of("ApplicationFailed")


@pytest.mark.parametrize("resource", [APPLICATION, SECRET])
def test_created_by_another_leader_and_not_in_the_cache_yet(
    agent: Agent, director: Director, cluster: Cluster, resource: Resource
) -> None:
    """AlreadyExists is answered by reading; an object that is right already is not written."""
    director.applications = [application(NAME)]
    other = Agent(cluster, director)
    agent.lagging = True
    other.settle()
    other.end()
    cluster.requests.clear()
    if resource is SECRET:
        agent.deliver(1)
    agent.settle()
    assert agent.state == "Synchronized"
    assert cluster.requests["update Secret"] == cluster.requests["update Application"] == 0
    assert cluster.requests[f"get {resource.kind}"] == 1


def test_a_deletion_spares_what_became_a_users(synced: Agent, director: Director, cluster: Cluster) -> None:
    """An Application that a user took over since the cache saw it is not deleted; the credentials of Compass are."""
    synced.lagging = True
    mine = copy.deepcopy(cluster.applications()[NAME])
    del mine["spec"]["compassMetadata"]
    mine = cluster.put(APPLICATION, mine)
    director.applications = []
    synced.cycle()
    assert cluster.applications() == {NAME: mine}
    assert not cluster.secrets()


@pytest.mark.parametrize("while_running", [True, False])
def test_an_application_taken_over_by_a_user_loses_its_secrets(
    synced: Agent, director: Director, cluster: Cluster, while_running: bool
) -> None:
    """compassMetadata removed by hand, then unassigned: the Secrets that the agent made go, and nothing else."""
    mine = copy.deepcopy(cluster.applications()[NAME])
    del mine["spec"]["compassMetadata"]
    reference = cluster.secrets()[SECRET_NAME]["metadata"]["ownerReferences"]
    their_metadata = {"name": "theirs", "namespace": NAMESPACE, "ownerReferences": reference}
    theirs = cluster.put(SECRET, {"metadata": {**their_metadata, "labels": {"app": "x", "bundleId": "y"}}, "data": {}})
    if not while_running:
        synced.end()
    mine = cluster.put(APPLICATION, mine)
    if while_running:
        synced.cycle()
        assert SECRET_NAME in cluster.secrets(), "removed while Compass still assigns the application"
    director.applications = []
    agent = synced if while_running else Agent(cluster, director)
    agent.cycle()
    assert cluster.applications() == {NAME: mine}
    assert cluster.secrets() == {"theirs": theirs}
    agent.priorities.clear()
    agent.cycle()
    assert agent.priorities == [], "it is reconciled repeatedly"


@pytest.mark.parametrize("name", sorted(reserved_secrets(Settings())))
def test_compass_cannot_name_a_secret_of_the_agents_own(
    agent: Agent, director: Director, cluster: Cluster, name: str
) -> None:
    """Not to create it, and not to change one that carries its labels: it is an InvalidSecret, and reported."""
    prefix, _, bundle_id = name.partition("-")
    (bundle,) = items(application(prefix).bundles)
    director.applications = [application(prefix, bundles=(replace(bundle, id=bundle_id),))]
    agent.settle()
    assert not cluster.secrets()
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": prefix, "bundleId": bundle_id}}
    own = cluster.put(SECRET, {"metadata": metadata, "data": {"key": "eA=="}})
    agent.cycle()
    director.applications = []
    agent.cycle()
    assert cluster.secrets() == {name: own}
    (event,) = agent.recorder.of("InvalidSecret")
    assert name in event[1]


def test_repeated_conflicts_are_reported(synced: Agent, director: Director, cluster: Cluster) -> None:
    """Not nine in a row, but ten. The sync concludes, names the Application, and goes on trying."""
    conflicts = 9

    def conflict(method: str, resource: Resource, _name: str) -> ApiError | None:
        nonlocal conflicts
        if (method, resource) != ("update", APPLICATION) or not conflicts:
            return None
        conflicts -= 1
        return Conflict("changed", status=409, reason="Conflict")

    cluster.failure = conflict
    director.applications = [application(NAME, description="new")]
    synced.cycle()
    assert (synced.state, synced.recorder.of("ApplicationFailed")) == ("Synchronized", [])
    conflicts = 1_000
    director.applications = [application(NAME, description="newer"), application("other")]
    synced.cycle()
    assert synced.state == "ResourceApplicationFailed"
    assert f"{NAME}: another client changes it all the time: 10 writes in a row met a newer version (changed" in (
        synced.sync_error
    )
    assert "other" in cluster.applications()
    cluster.failure = lambda *_: None
    synced.cycle()
    assert synced.state == "Synchronized"


def test_a_programming_error_is_reported_by_its_type_alone(synced: Agent, director: Director, cluster: Cluster) -> None:
    """Whatever is raised, the sync concludes; the text may quote data and is shown nowhere."""

    def broken(_method: str, _resource: Resource, name: str) -> ApiError | None:
        if name == "broken":
            raise KeyError("password")
        return None

    cluster.failure = broken
    director.applications = [application(NAME), application("broken")]
    synced.clock.advance(30)
    synced.step_sync()
    with pytest.raises(KeyError):
        synced.step("broken")
    synced.settle()
    assert synced.state == "ResourceApplicationFailed"
    assert "unexpected KeyError" in synced.sync_error
    assert "password" not in str(synced.recorder.events) + synced.sync_error


def test_a_refused_secret_delays_nothing_else(agent: Agent, director: Director, cluster: Cluster) -> None:
    """Of three bundles one has a Secret that is refused, and the Secret of another is a user's, which is tried again
    after a pause only: the other Secret and the Application are written, and what is refused is tried again at once.
    """
    bundles = tuple(items(application(name).bundles)[0] for name in (NAME, "second", "third"))
    director.applications = [application(NAME, bundles=bundles)]
    cluster.put(SECRET, {"metadata": {"name": "shop-id-third-bundle", "namespace": NAMESPACE}, "data": {}})

    def refuse(_method: str, resource: Resource, name: str) -> ApiError | None:
        return Forbidden("exceeded quota", status=403) if resource is SECRET and "shop-bundle" in name else None

    cluster.failure = refuse
    agent.settle()
    assert len(cluster.applications()[NAME]["spec"]["services"]) == 3
    assert cluster.secrets().keys() == {"shop-id-second-bundle", "shop-id-third-bundle"}
    assert "shop-id-shop-bundle" in agent.sync_error
    assert "exceeded quota" in agent.sync_error
    assert len(agent.recorder.of("ApplicationFailed")) == 10, "the Event counts the tries"
    assert agent.status["applications"] == {"desired": 1, "synced": 0, "failed": 1, "failing": [NAME]}


def test_an_unreachable_server_ends_the_attempt(synced: Agent, director: Director, cluster: Cluster) -> None:
    """No point in trying each further Secret, with a connect timeout for each."""
    bundles = tuple(items(application(f"b{number}").bundles)[0] for number in range(20))
    director.applications = [application(NAME, bundles=bundles)]
    cluster.failure = lambda *_: ConnectionFailed("refused")
    synced.clock.advance(30)
    synced.step_sync()
    assert isinstance(synced.step(NAME), ConnectionFailed)
    assert cluster.requests.total() == 1


def test_a_secret_is_there_before_the_application_names_it(synced: Agent, director: Director, cluster: Cluster) -> None:
    """The gateway never meets a reference to a Secret that is not there yet, nor to one that is gone already."""
    order: list[tuple[str, str]] = []

    def note(method: str, resource: Resource, _name: str) -> None:
        order.append((method, resource.kind))

    cluster.failure = note
    director.applications = [application(NAME, bundles=items(application("second").bundles))]
    synced.cycle()
    assert order == [("create", "Secret"), ("update", "Application"), ("delete", "Secret")]


@pytest.mark.parametrize("taken", ["ownerReferences", "labels"])
@pytest.mark.parametrize("left", [[], [application(NAME, secret=None)]], ids=["unassigned", "bundle without"])
def test_an_unwanted_secret_without_owner_or_labels_is_deleted(
    synced: Agent, director: Director, cluster: Cluster, taken: str, left: list[Application]
) -> None:
    """One of the two was taken away while no agent ran. Without owner, labels and name say whose it was, also when the
    Application is gone; without labels no watch shows it, and the Application that is there still names it.
    """
    (bundle,) = items(director.applications[0].bundles)
    both = replace(bundle, defaultInstanceAuth=basic(additionalHeaders={"X": ["1"]}))
    director.applications = [application(NAME, bundles=(both,))]
    synced.cycle()
    synced.end()
    for secret in copy.deepcopy([*cluster.secrets().values()]):
        del secret["metadata"][taken]
        cluster.put(SECRET, secret)
    if taken == "ownerReferences" and not left:
        cluster.remove(APPLICATION, NAME)
    director.applications = left
    Agent(cluster, director).settle()
    assert not cluster.secrets()


def test_a_secret_that_an_application_only_names_is_spared(synced: Agent, director: Director, cluster: Cluster) -> None:
    """A user may write any name into an Application; what does not belong to it is not removed with it."""
    theirs = cluster.put(SECRET, {"metadata": {"name": "theirs", "namespace": NAMESPACE}, "data": {"key": "eA=="}})
    edited = copy.deepcopy(cluster.applications()[NAME])
    edited["spec"]["services"][0]["entries"][0]["credentials"]["secretName"] = "theirs"
    synced.end()
    cluster.put(APPLICATION, edited)
    director.applications = []
    Agent(cluster, director).settle()
    assert cluster.secrets() == {"theirs": theirs}


def test_a_foreign_secret_with_our_labels_is_taken_over_at_once(
    agent: Agent, director: Director, cluster: Cluster
) -> None:
    """So a user solves the clash of names: without waiting for the next try. No watch shows an owner alone."""
    metadata = {"name": SECRET_NAME, "namespace": NAMESPACE, "labels": {"app": "theirs", "bundleId": "x"}}
    foreign = cluster.put(SECRET, {"metadata": metadata, "data": {"theirs": "eA=="}})
    director.applications = [application(NAME)]
    agent.settle()
    assert cluster.secrets()[SECRET_NAME] == foreign
    assert not cluster.requests["get Secret"]
    foreign["metadata"]["labels"] = {"app": NAME, "bundleId": f"id-{NAME}-bundle"}
    cluster.put(SECRET, foreign)
    agent.settle()
    ours = copy.deepcopy(cluster.secrets()[SECRET_NAME])
    assert "password" in ours["data"]
    owner = ours["metadata"].pop("ownerReferences")
    del ours["metadata"]["labels"]
    cluster.put(SECRET, ours)
    agent.settle()
    assert "does not belong" in agent.sync_error
    ours["metadata"]["ownerReferences"] = owner
    cluster.put(SECRET, ours)
    agent.clock.advance(6.0)
    agent.settle()
    assert "labels" in cluster.secrets()[SECRET_NAME]["metadata"]


def test_a_deletion_spares_a_secret_that_became_a_users(synced: Agent, director: Director, cluster: Cluster) -> None:
    """A user took owner and labels away since the cache saw it: nothing distinguishes it from a Secret of theirs."""
    synced.lagging = True
    mine = copy.deepcopy(cluster.secrets()[SECRET_NAME])
    del mine["metadata"]["ownerReferences"], mine["metadata"]["labels"]
    mine = cluster.put(SECRET, mine)
    director.applications = []
    synced.cycle()
    assert not cluster.applications()
    assert cluster.secrets() == {SECRET_NAME: mine}


@pytest.mark.parametrize("labels", [None, {"app": "theirs", "bundleId": "x"}], ids=["hidden", "visible"])
def test_a_foreign_secret_of_that_name_is_left_alone(
    agent: Agent, director: Director, cluster: Cluster, labels: dict[str, str] | None
) -> None:
    """It is reported, and stays when the Application goes; when it is gone, ours takes its place."""
    metadata = {"name": SECRET_NAME, "namespace": NAMESPACE, **({"labels": labels} if labels else {})}
    foreign = cluster.put(SECRET, {"metadata": metadata, "data": {"theirs": "eA=="}})
    for assigned in ([application(NAME)], [], [application(NAME)]):
        director.applications = assigned
        agent.cycle()
        assert cluster.secrets()[SECRET_NAME] == foreign
        assert ("does not belong" in agent.sync_error) is bool(assigned)
    cluster.remove(SECRET, SECRET_NAME, NAMESPACE)
    agent.clock.advance(6.0)  # no watch shows a Secret without our labels
    agent.settle()
    assert agent.state == "Synchronized"
    assert "password" in cluster.secrets()[SECRET_NAME]["data"]


def test_an_immutable_secret_is_replaced_when_its_data_is_wrong(
    synced: Agent, director: Director, cluster: Cluster
) -> None:
    """The server refuses to change its data, so it is deleted and made anew; its labels are corrected."""
    secret = copy.deepcopy(cluster.secrets()[SECRET_NAME]) | {"immutable": True}
    labels, secret["metadata"]["labels"] = secret["metadata"]["labels"], {"app": NAME, "bundleId": "edited"}
    uid = cluster.put(SECRET, secret)["metadata"]["uid"]
    synced.settle()
    metadata = cluster.secrets()[SECRET_NAME]["metadata"]
    assert (metadata["uid"], metadata["labels"]) == (uid, labels)
    director.applications = [application(NAME, secret="changed")]
    synced.cycle()
    assert cluster.secrets()[SECRET_NAME]["metadata"]["uid"] != uid
    assert synced.state == "Synchronized"


def test_an_immutable_secret_that_finalizers_keep_is_reported(
    synced: Agent, director: Director, cluster: Cluster
) -> None:
    """It is deleted once, and replaced when it is gone."""

    def keep(obj: dict[str, Any]) -> None:
        obj["immutable"], obj["metadata"]["finalizers"] = True, ["example.com/keep"]

    cluster.edit(SECRET, SECRET_NAME, keep, NAMESPACE)
    synced.settle()
    director.applications = [application(NAME, secret="changed")]
    cluster.requests.clear()
    synced.cycle()
    assert (synced.state, cluster.requests["delete Secret"]) == ("ResourceApplicationFailed", 1)
    assert "other components have to remove their finalizers" in synced.sync_error
    assert cluster.requests.total() < 10
    cluster.remove(SECRET, SECRET_NAME, NAMESPACE)
    synced.settle()
    assert "deletionTimestamp" not in cluster.secrets()[SECRET_NAME]["metadata"]
    synced.cycle()
    assert synced.state == "Synchronized"


def test_secrets_whose_application_is_gone_are_removed(synced: Agent, director: Director, cluster: Cluster) -> None:
    """Killed between the two deletions, or deleted by a user while no agent ran: the next start finds them."""
    synced.end()
    cluster.remove(APPLICATION, NAME)
    director.applications = []
    restarted = Agent(cluster, director)
    for name in [*restarted.queue]:  # the events of the first list come before the Director's answer
        restarted.step(name)
    restarted.settle()
    assert not cluster.secrets()


def test_secrets_of_an_application_with_a_problem_stay(synced: Agent, director: Director, cluster: Cluster) -> None:
    """What cannot be read is left as it is, Secrets included."""
    clash = [application(NAME), application(NAME, identifier="another")]
    director.applications = clash
    cluster.remove(APPLICATION, NAME)
    synced.cycle()
    assert SECRET_NAME in cluster.secrets()
    synced.priorities.clear()
    synced.cycle()
    assert synced.priorities == [], "it is reconciled repeatedly"


def test_a_problem_is_not_noted_on_an_application_of_a_user(agent: Agent, director: Director, cluster: Cluster) -> None:
    """Nor on one that is being deleted."""
    theirs = cluster.put(APPLICATION, {"metadata": {"name": NAME}, "spec": {"tenant": "mine"}})
    metadata = {"name": "leaving", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/theirs"]}
    leaving = cluster.put(APPLICATION, {"metadata": metadata, "spec": {"compassMetadata": {"applicationId": "x"}}})
    director.applications = [
        application(name, identifier=f"{name}-{n}") for name in (NAME, "leaving") for n in range(2)
    ]
    for _ in range(2):
        agent.cycle()
    assert cluster.applications() == {NAME: theirs, "leaving": leaving}
    assert len(agent.recorder.of("DuplicateName")) == 2


def test_withdrawn_credentials_are_reported(synced: Agent, director: Director, cluster: Cluster) -> None:
    """Hidden credentials look like none: the Secret goes, with an Event. A bundle that is gone is no news."""
    (bundle,) = items(director.applications[0].bundles)
    director.applications = [application(NAME, bundles=(replace(bundle, defaultInstanceAuth=None),))]
    synced.cycle()
    assert not cluster.secrets()
    message = f"The Director no longer returns credentials or parameters of a bundle; removed: {SECRET_NAME}"
    assert synced.recorder.of("CredentialsVanished") == [(NAME, message)]
    director.applications = [application(NAME)]
    synced.cycle()
    director.applications = [application(NAME, bundles=())]
    synced.cycle()
    assert not cluster.secrets()
    assert len(synced.recorder.of("CredentialsVanished")) == 1


def test_unsupported_credentials_are_reported_once(agent: Agent, director: Director, cluster: Cluster) -> None:
    """An Event when it is so, also for an Application that needs no write, and again only when it changes."""

    def with_kind(kind: str | None) -> Bundle:
        (bundle,) = items(application(NAME).bundles)
        return replace(bundle, defaultInstanceAuth=Auth(Credential(kind)) if kind else None)

    director.applications = [application(NAME, bundles=(with_kind(None),))]
    agent.settle()
    cluster.requests.clear()
    for kind, events in (("X", 1), ("X", 1), ("Y", 2), (None, 2), ("X", 3)):
        director.applications = [application(NAME, bundles=(with_kind(kind),))]
        agent.cycle()
        assert len(agent.recorder.of("CredentialsNotServed")) == events
    agent.priorities.clear()
    agent.cycle()
    assert agent.priorities == []
    assert not cluster.requests
    cluster.put(APPLICATION, {**cluster.applications()[NAME], "spec": {"compassMetadata": {}}})
    agent.settle()
    assert cluster.requests["update Application"] == 1
    assert len(agent.recorder.of("CredentialsNotServed")) == 3
    for assigned in ([], director.applications):
        director.applications = assigned
        agent.cycle()
    assert len(agent.recorder.of("CredentialsNotServed")) == 4, "no Event for a new Application"


def _sync_status(cluster: Cluster, name: str = NAME) -> str:
    status: str = cluster.applications()[name]["metadata"]["annotations"][SYNC_STATUS]
    return status


def test_an_annotation_shows_the_sync_status(agent: Agent, director: Director, cluster: Cluster) -> None:
    """One word in an annotation, in the write that makes it true; a write of its own only when the word changes."""
    director.applications = [application(NAME)]
    agent.settle()
    assert (_sync_status(cluster), cluster.requests["update Application"]) == ("Synced", 0)

    def refuse(method: str, resource: Resource, _name: str) -> ApiError | None:
        return Forbidden("exceeded quota", status=403) if (method, resource) == ("update", SECRET) else None

    cluster.failure = refuse
    director.applications = [application(NAME, secret="changed")]
    for _ in range(3):
        agent.cycle()
    assert (_sync_status(cluster), cluster.requests["update Application"]) == ("SecretsFailed", 1)
    cluster.failure = lambda *_: None
    agent.cycle()
    assert (_sync_status(cluster), cluster.requests["update Application"]) == ("Synced", 2)
    director.applications *= 2
    for _ in range(3):
        agent.cycle()
    assert (_sync_status(cluster), cluster.requests["update Application"]) == ("DuplicateName", 3)
    director.applications = [application(NAME, description="changed", secret="changed")]
    for _ in range(3):
        agent.cycle()
    assert (_sync_status(cluster), cluster.requests["update Application"]) == ("Synced", 4)


def test_an_annotation_shows_a_held_deletion(cluster: Cluster, director: Director) -> None:
    """Until it is assigned again."""
    agent = Agent(cluster, director, max_deletion_percent=0)
    director.applications = [application(NAME)]
    agent.settle()
    director.applications = []
    for _ in range(3):
        agent.cycle()
    assert (_sync_status(cluster), cluster.requests["update Application"]) == ("DeletionHeld", 1)
    assert cluster.secrets()
    director.applications = [application(NAME)]
    agent.cycle()
    assert _sync_status(cluster) == "Synced"


def test_with_a_limit_what_a_backup_restores_waits_for_a_fetch(cluster: Cluster, director: Director) -> None:
    """Deleted by its events, it would not be counted."""
    first = Agent(cluster, director)
    director.applications = [application(f"app-{number}") for number in range(4)]
    first.settle()
    backup = copy.deepcopy(list(cluster.applications().values()))
    director.applications = []
    first.cycle()
    first.end()
    agent = Agent(cluster, director, max_deletion_percent=50)
    agent.settle()
    for obj in backup:
        cluster.put(APPLICATION, obj)
    agent.settle()
    assert len(cluster.applications()) == 4
    agent.cycle()
    assert len(cluster.applications()) == 4
    assert "4 of 4 Applications would be deleted" in agent.sync_error


def test_with_a_limit_one_restored_after_its_deletion_waits(cluster: Cluster, director: Director) -> None:
    """The deletion was allowed for the object before it."""
    agent = Agent(cluster, director, max_deletion_percent=50)
    director.applications = [application(f"app-{number}") for number in range(4)]
    agent.settle()
    backup = copy.deepcopy(cluster.applications()["app-0"])
    del director.applications[0]
    agent.cycle()
    assert len(cluster.applications()) == 3
    cluster.put(APPLICATION, backup)
    agent.settle()
    assert len(cluster.applications()) == 4
    agent.cycle()
    assert len(cluster.applications()) == 3


def test_a_missing_sync_status_alone_causes_no_write(synced: Agent, cluster: Cluster) -> None:
    """The Go agent has left thousands of them: the upgrade writes none that is right."""
    plain = copy.deepcopy(cluster.applications()[NAME])
    del plain["metadata"]["annotations"]
    cluster.put(APPLICATION, plain)
    synced.settle()
    synced.cycle()
    assert not cluster.requests


def test_a_foreign_application_costs_no_request(agent: Agent, director: Director, cluster: Cluster) -> None:
    """It is reported in every sync, and read from the cache only."""
    mine = cluster.put(APPLICATION, {"metadata": {"name": NAME}, "spec": {"description": "mine"}})
    director.applications = [application(NAME)]
    agent.settle()
    agent.cycle()
    assert agent.state == "ResourceApplicationFailed"
    assert "not managed by Compass" in agent.sync_error
    assert len(agent.recorder.of("ApplicationFailed")) == 1
    assert cluster.applications()[NAME] == mine
    assert not cluster.requests
    cluster.remove(APPLICATION, NAME)
    agent.settle()
    agent.cycle(1)
    assert agent.state == "Synchronized"


def test_values_of_a_deleted_secret_are_not_kept(synced: Agent, director: Director, cluster: Cluster) -> None:
    """Also if it was compared and never written, because a user deleted it."""
    director.applications = [application(NAME, secret="rotated")]
    synced.clock.advance(20)
    synced.step_sync()
    synced.queue.clear()
    cluster.remove(SECRET, SECRET_NAME, NAMESPACE)
    cluster.remove(APPLICATION, NAME)
    director.applications = []
    synced.cycle(20)
    value = base64.b64encode(b"rotated").decode()
    kept = [obj for obj in gc.get_objects() if isinstance(obj, DesiredSecret) and value in obj.data.values()]
    assert kept == []
