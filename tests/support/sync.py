"""The sync and application reconcilers over a cluster and a Director in memory: every step is the test's.

The caches of the cluster are fed by the test, so they can lag as long as a test wants; a real server cannot be made to.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from controller import fields
from controller.applications.progress import Progress
from controller.applications.reconciler import ApplicationReconciler
from controller.applications.secrets import BY_APPLICATION, owning_applications, reserved_secrets
from controller.applications.sync import SyncReconciler
from controller.compass.errors import CompassError
from controller.compass.types import ApiDefinition, Application, Assignment, IncompleteApplication, Viewer
from controller.connection import status as cc
from controller.connection.backoff import Backoff
from controller.connection.clients import CompassClients
from controller.connection.credentials import CredentialsReplaced, CredentialsStore, Registration
from controller.connection.observations import Health
from controller.connection.store import ConnectionStore
from controller.metrics import AgentMetrics
from controller.resources import APPLICATION, CONNECTION_NAME, SECRET
from controller.runtime.controller import ReconcileFailed
from controller.settings import Settings
from informers.errors import ApiError, KubernetesError
from informers.indexer import Indexer
from informers.resource import Resource, object_key
from tests.clock import VirtualClock
from tests.support.assigned import basic, bundle, listed
from tests.support.object_store import ObjectStore, copied

NAMESPACE = "kyma-system"

Object = dict[str, Any]
Failure = Callable[[str, Resource, str], ApiError | None]
Watcher = Callable[[str, Object | None, Object | None], None]


def application(name: str, *, secret: str | None = "password", identifier: str = "", **more: Any) -> Application:
    """An application of one bundle with one API; with `secret` None there are no credentials."""
    identifier = identifier or f"id-{name}"
    apis = (ApiDefinition(f"{identifier}-api", "API", f"https://{name}.example"),)
    main = bundle(f"{identifier}-bundle", "Main", basic("user", secret) if secret else None, apis=apis)
    return Application(id=identifier, name=name, bundles=listed(*more.pop("bundles", (main,))), **more)


class Cluster(ObjectStore):
    """Caches see a change when `deliver` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[str] = Counter()
        self.failure: Failure = lambda _method, _resource, _name: None
        self.answers_are_lost = False  # what fails is done nevertheless
        self._lost: ApiError | None = None
        self.mutate: Callable[[Resource, Object], None] = lambda _resource, _obj: None  # an admission policy
        self._watchers: list[Watcher] = []

    def create(self, resource: Resource, obj: Object, **more: Any) -> Object:
        assert not {"uid", "resourceVersion"} & obj["metadata"].keys(), "an API server refuses it"
        stored = super().create(resource, obj, **more)
        self._answered()
        return stored

    def update(self, resource: Resource, obj: Object, **more: Any) -> Object:
        assert obj["metadata"].get("resourceVersion"), "without a resourceVersion it overwrites what it has not seen"
        stored = super().update(resource, obj, **more)
        self._answered()
        return stored

    def delete(self, resource: Resource, name: str, *, uid: str | None = None, **more: Any) -> None:
        assert uid, "a deletion without the uid may hit another object of that name"
        super().delete(resource, name, uid=uid, **more)
        self._answered()

    def put(self, resource: Resource, obj: Object) -> Object:
        present = self.objects[resource.plural].get(object_key(obj))
        uid = present["metadata"]["uid"] if present else f"uid-{self._next_version()}"
        return super().put(resource, {**obj, "metadata": {**obj["metadata"], "uid": uid}})

    def applications(self) -> dict[str, Object]:
        return self.objects[APPLICATION.plural]

    def secrets(self) -> dict[str, Object]:
        return {obj["metadata"]["name"]: obj for obj in self.objects[SECRET.plural].values()}

    def watch(self, watcher: Watcher) -> None:
        self._watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers.remove(watcher)

    def _arrived(self, verb: str, resource: Resource, name: str) -> None:
        self.requests[f"{verb} {resource.kind}"] += 1
        error = self.failure(verb, resource, name)
        self._lost = error if self.answers_are_lost else None
        if error is not None and not self.answers_are_lost:
            raise error

    def _answered(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _admitted(self, resource: Resource, obj: Object) -> Object:
        self.mutate(resource, obj)
        return super()._admitted(resource, obj)

    def _happened(self, resource: Resource, old: Object | None, new: Object | None, *, seen: bool) -> None:
        for watcher in self._watchers:
            watcher(resource.plural, old, new)


def _selected(plural: str, obj: Object | None) -> Object | None:
    """What a watch with the agent's label selector sees of an object."""
    if plural == SECRET.plural and obj is not None:
        return obj if {"app", "bundleId"} <= fields.labels(obj).keys() else None
    return obj


class Director:
    """Answers what the test sets."""

    def __init__(self) -> None:
        self.applications: list[Application] = []
        self.incomplete: list[IncompleteApplication] = []
        self.labels: dict[str, Any] = {"isNormalized": "true"}
        self.error: CompassError | None = None
        self.label_error: CompassError | None = None
        self.fetches = 0
        self.viewer_id: str | None = "runtime"

    def viewer(self, *, request_id: str) -> Viewer | None:
        assert request_id
        return None if self.viewer_id is None else Viewer(self.viewer_id, "RUNTIME")

    def fetch(self, runtime_id: str, *, request_id: str) -> Assignment:
        assert request_id.startswith(f"{runtime_id}_")
        self.fetches += 1
        if self.error is not None:
            raise self.error
        return Assignment(tuple(self.applications), tuple(self.incomplete), dict(self.labels))

    def set_runtime_label(self, runtime_id: str, key: str, value: str, *, request_id: str) -> None:
        assert request_id.startswith(f"{runtime_id}_")
        if self.label_error is not None:
            raise self.label_error
        self.labels[key] = value


@dataclass
class Recorder:
    events: list[tuple[str, str, str, str]] = field(default_factory=list)

    def event(self, obj: Object, type_: str, reason: str, message: str) -> None:
        assert "uid" in obj["metadata"] or {"apiVersion", "kind"} <= obj.keys()
        assert type_ in ("Normal", "Warning")
        assert isinstance(message, str)
        assert message
        self.events.append((obj["metadata"]["name"], type_, reason, message))

    def of(self, reason: str) -> list[tuple[str, str]]:
        """Object and message of the Events with that reason."""
        return [(name, message) for name, _, found, message in self.events if found == reason]


class _Connections:
    """The ConnectionStore of these tests: the CompassConnection is a dict."""

    def __init__(self, agent: "Agent", clock: VirtualClock) -> None:
        self.object: Object | None = {
            "metadata": {"name": CONNECTION_NAME, "uid": "cc-1", "annotations": {}},
            "spec": {},
            "status": {"connectionState": "Connected"},
        }
        self.writes = 0
        self._agent = agent
        self._clock = clock

    def get(self, name: str) -> Object | None:
        assert name == CONNECTION_NAME
        return self.object

    def apply_to(self, connection: Object, change: Callable[[Object], None]) -> Object | None:
        if self.object is None or self.object["metadata"]["uid"] != connection["metadata"]["uid"]:
            return None
        wanted = copied(self.object)
        change(wanted)
        cc.derive_conditions(wanted, now=self._clock.time())
        if wanted != self.object:
            self.writes += 1
            self.object = wanted
            self._agent.sync_due = True  # the event of its own write
        return self.object


@dataclass
class _StoredCredentials:
    registration: Registration
    fingerprint: str = "first"
    not_after: float = float("inf")


class _CompassClients:
    def __init__(self, director: Director) -> None:
        self._director = director

    def director(self, credentials: _StoredCredentials, registration: Registration) -> Director:
        assert credentials.registration is registration
        return self._director


class Agent:
    """Both reconcilers, one step at a time. The keyword arguments replace their collaborators."""

    def __init__(
        self,
        cluster: Cluster,
        director: Director,
        clock: VirtualClock | None = None,
        *,
        health: Health | None = None,
        connections: ConnectionStore | None = None,
        credentials: CredentialsStore | None = None,
        clients: CompassClients | None = None,
        **settings: Any,
    ) -> None:
        self.cluster, self.director = cluster, director
        self.clock = clock or VirtualClock()
        self.recorder = Recorder()
        self.sync_due = True
        self.queue: dict[str, int] = {}
        self.priorities: list[tuple[str, int]] = []
        self.connections = _Connections(self, self.clock)
        self.credentials = _StoredCredentials(
            Registration(runtime_id="runtime", tenant="t", connector_url="https://c", director_url="https://d")
        )
        self.registry = CollectorRegistry()
        self.metrics = AgentMetrics(self.registry)
        self._indexers = {
            APPLICATION.plural: Indexer(APPLICATION),
            SECRET.plural: Indexer(SECRET, {BY_APPLICATION: owning_applications}),
        }
        self._undelivered: list[tuple[str, Object | None, Object | None, str]] = []
        self.lagging = False
        self.progress = Progress()
        self.progress.subscribe(self._conclude)
        self.applications = ApplicationReconciler(
            cluster,  # type: ignore[arg-type]
            applications=self._indexers[APPLICATION.plural],
            secrets=self._indexers[SECRET.plural],
            namespace=NAMESPACE,
            reserved=reserved_secrets(Settings(**settings)),
            progress=self.progress,
            recorder=self.recorder,  # type: ignore[arg-type]
            metrics=self.metrics,
            clock=self.clock,
        )
        if health is None:
            health = Health(self.clock)
            health.connector_answered()
        self.health = health
        self.sync = SyncReconciler(
            settings=Settings(**settings),
            connections=connections or self.connections,  # type: ignore[arg-type]
            credentials=credentials or self,  # type: ignore[arg-type]
            clients=clients or _CompassClients(director),  # type: ignore[arg-type]
            applications=self.applications,
            workers=self,  # type: ignore[arg-type]
            progress=self.progress,
            health=health,
            backoff=Backoff(cap=20.0, clock=self.clock, random=lambda: 0.0),
            internal_backoff=Backoff(cap=20.0, clock=self.clock, random=lambda: 0.0),
            recorder=self.recorder,  # type: ignore[arg-type]
            metrics=self.metrics,
            clock=self.clock,
            jitter=lambda: 0.0,
        )
        self.workers = 8
        self._began: dict[str, float] = {}  # monotonic start of each reconcile in progress
        self.delayed: dict[str, float] = {}  # monotonic time at which a name is due again
        cluster.now = self.clock.time
        self.relist()
        cluster.watch(self._watched)

    # What the reconcilers take for their collaborators.

    def load(self) -> _StoredCredentials:
        return self.credentials

    @contextmanager
    def unchanged(self, credentials: _StoredCredentials) -> Iterator[None]:
        try:
            yield
        finally:
            if self.credentials.fingerprint != credentials.fingerprint:
                raise CredentialsReplaced

    def enqueue(self, name: str, *, priority: int = 0) -> None:
        self.queue[name] = max(priority, self.queue.get(name, priority))
        self.priorities.append((name, priority))

    def seconds_without_answer(self) -> dict[str, float]:
        return {name: self.clock.monotonic() - began for name, began in self._began.items()}

    def _conclude(self) -> None:
        self.sync_due = True

    # Steps.

    def end(self) -> None:
        """As if killed: it does nothing any more."""
        self.cluster.unwatch(self._watched)

    def relist(self, objects: Mapping[str, Mapping[str, Object]] | None = None) -> None:
        """The caches become what the cluster is now, or what `objects` says, whatever was missed on the way."""
        self._undelivered.clear()
        version = self.cluster.version
        if objects is None:
            objects = self.cluster.objects
        else:
            listed = [obj for of_kind in objects.values() for obj in of_kind.values()]
            version = max((int(obj["metadata"]["resourceVersion"]) for obj in listed), default=1)
        for plural, indexer in self._indexers.items():
            seen = {key: obj for key, obj in objects[plural].items() if _selected(plural, obj)}
            before = indexer.replace(copied(seen), str(version), listed_at=self.clock.monotonic())
            for key in {**before, **seen}:
                self._trigger(plural, before.get(key), seen.get(key))
            for written in indexer.missed().values():
                self._trigger(plural, written, None)

    def deliver(self, count: int | None = None) -> None:
        """Feed the caches with the next `count` changes, None for all."""
        for _ in range(len(self._undelivered) if count is None else min(count, len(self._undelivered))):
            plural, old, new, version = self._undelivered.pop(0)
            old, new = _selected(plural, old), _selected(plural, new)
            indexer = self._indexers[plural]
            if new is not None:
                indexer.put(object_key(new), new, version)
            elif old is not None:
                indexer.remove(object_key(old), version)
            self._trigger(plural, old, new)

    def step(self, name: str) -> KubernetesError | ReconcileFailed | None:
        """Reconcile one Application; gives its failure, but raises an error of the program."""
        self.queue.pop(name, None)
        self.delayed.pop(name, None)
        self._began[name] = self.clock.monotonic()
        try:
            again = self.applications.reconcile(name).requeue_after
            if again is not None:
                self.delayed[name] = self.clock.monotonic() + again
        except (KubernetesError, ReconcileFailed) as error:  # the controller would queue it again
            return error
        finally:
            del self._began[name]
        return None

    def step_sync(self) -> float | None:
        """Reconcile the CompassConnection; returns the seconds until the next call."""
        self.sync_due = False
        return self.sync.reconcile(CONNECTION_NAME).requeue_after

    def settle(self, *, rounds: int = 50) -> None:
        """Run until nothing is queued. What fails is tried once in each round, ten times at the most."""
        failures: Counter[str] = Counter()
        for name, at in self.delayed.items():
            if at <= self.clock.monotonic():
                self.queue.setdefault(name, 0)
        for _ in range(rounds):
            if self.sync_due:
                self.step_sync()
            if not self.lagging:
                self.deliver()
            for name in sorted(self.queue, key=lambda name: -self.queue[name]):
                if self.step(name) is not None:
                    failures[name] += 1
                    if failures[name] < 10:
                        self.enqueue(name)
            if not self.lagging:
                self.deliver()
            if not self.queue and not self.sync_due:
                return
        raise AssertionError(f"still busy after {rounds} rounds: {self.queue}, sync {self.sync_due}")

    def cycle(self, seconds: float = 30.0) -> None:
        """Let a period pass, and settle."""
        self.clock.advance(seconds)
        self.sync_due = True
        self.settle()

    @property
    def connection(self) -> Object:
        assert self.connections.object is not None
        return self.connections.object

    @property
    def status(self) -> Object:
        status: Object = self.connection["status"]
        return status

    @property
    def state(self) -> str:
        state: str = self.status["connectionState"]
        return state

    @property
    def sync_error(self) -> str:
        error: str = self.status["synchronizationStatus"].get("error", "")
        return error

    def _watched(self, plural: str, old: Object | None, new: Object | None) -> None:
        if plural in self._indexers:
            version = str(self.cluster.version)
            self._undelivered.append((plural, old and copied(old), new and copied(new), version))

    def _trigger(self, plural: str, old: Object | None, new: Object | None) -> None:
        """As the watches of the controller do."""
        is_secret = plural == SECRET.plural
        if (self.applications.secret_may_need_work if is_secret else self.applications.application_may_need_work)(
            old, new
        ):
            for obj in filter(None, (old, new)):
                for name in owning_applications(obj) if is_secret else (obj["metadata"]["name"],):
                    self.queue.setdefault(name, 0)
