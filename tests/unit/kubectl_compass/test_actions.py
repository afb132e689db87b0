"""When a synchronisation that was asked for counts as done."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.applications.deletions import CONFIRM_DELETIONS, fingerprint
from controller.resources import COMPASS_CONNECTION, CONNECTION_NAME, DELETION_HELD, SYNC_STATUS
from controller.settings import Settings
from kubectl_compass import actions, status
from kubectl_compass.arguments import Connect
from kubectl_compass.cluster import Cluster, Failed
from kubectl_compass.terminal import Terminal
from tests.clock import VirtualClock
from tests.support.object_store import ObjectStore

Object = dict[str, Any]


def connection(attempt: str, *, state: str = "Synchronized", asked: bool = False) -> Object:
    return {
        "metadata": {"uid": "u"},
        "spec": {"resyncNow": True} if asked else {},
        "status": {"connectionState": state, "synchronizationStatus": {"lastAttempt": attempt}},
    }


@dataclass
class FakeCluster:
    """`answers`: the CompassConnection at each look, `applications` the lists; the last one for ever."""

    answers: list[Object]
    patches: list[Object] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    applications: list[list[Object]] = field(default_factory=lambda: [[]])
    replicas: None = None
    agent: None = None
    namespace: str = "kyma-system"

    @property
    def client(self) -> "FakeCluster":
        return self

    def connection(self) -> Object:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def patch(self, _resource: object, _name: str, patch: Object) -> Object:
        self.patches.append(patch)
        return {}

    def delete(self, *_: object, **__: object) -> None:
        pass

    def list(self, *_: object, **__: object) -> Object:
        return {
            "metadata": {},
            "items": self.applications.pop(0) if len(self.applications) > 1 else self.applications[0],
        }

    def leader(self) -> str:
        return "pod-1"

    def is_missing(self) -> bool:
        return False


def resync(clock: VirtualClock, *answers: Object) -> tuple[int, int, float, Object]:
    """Exit status, how often it was asked for, the seconds it took, and the result."""
    cluster, out = FakeCluster(list(answers)), io.StringIO()
    terminal = Terminal("json", out=out, err=io.StringIO(), clock=clock)
    code = actions.resync(cluster, terminal, timeout=60)  # type: ignore[arg-type]
    assert cluster.patches[0] == {"spec": {"resyncNow": True}}
    return code, len(cluster.patches), clock.monotonic(), json.loads(out.getvalue())


def test_an_outcome_after_the_flag_is_gone(clock: VirtualClock) -> None:
    """That of a synchronisation which was under way before is none."""
    code, asked, seconds, report = resync(
        clock,
        connection("1"),
        connection("1", asked=True),
        connection("2", asked=True),
        connection("2"),
        connection("3"),
    )
    assert (code, asked, seconds) == (0, 1, 1.5)
    assert report["state"] == "Synchronized"


def test_a_failure_is_an_outcome(clock: VirtualClock) -> None:
    code, *_ = resync(clock, connection("1"), connection("2", state="SynchronizationFailed"))
    assert code == 1


def test_nothing_that_changes_is_asked_for_once_more(clock: VirtualClock) -> None:
    """The times in the status are whole seconds, so the same outcome in the same second writes nothing."""
    before = connection("1")
    code, asked, seconds, _ = resync(clock, *[before] * 30, connection("2"))
    assert (code, asked) == (0, 2)
    assert seconds < 20


def test_an_agent_that_does_nothing(clock: VirtualClock) -> None:
    code, asked, seconds, report = resync(clock, connection("1", asked=True))
    assert (code, asked, seconds) == (1, 1, 60.0)
    assert report["exists"] is True


def held(name: str) -> Object:
    metadata = {"name": name, "uid": f"uid of {name}", "annotations": {SYNC_STATUS: DELETION_HELD}}
    return {"metadata": metadata, "spec": {"compassMetadata": {"applicationId": "x"}}}


def confirm(cluster: FakeCluster, clock: VirtualClock, *, answer: bool = True) -> tuple[int, list[str]]:
    """Exit status, and the questions."""
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return answer

    terminal = Terminal("json", out=io.StringIO(), err=io.StringIO(), clock=clock)
    code = actions.confirm_deletions(cluster, terminal, confirm=ask, timeout=60)  # type: ignore[arg-type]
    return code, asked


@pytest.mark.parametrize(("left", "code"), [([], 0), ([held("b")], 1)])
def test_exactly_the_deletions_that_were_shown_are_confirmed(
    clock: VirtualClock, left: list[Object], code: int
) -> None:
    """Once, however long it takes. If one of them exists after the synchronisation, the agent did not delete them."""
    value = fingerprint({"a": "uid of a", "b": "uid of b"})
    pending = connection("1") | {"metadata": {"uid": "u", "annotations": {CONFIRM_DELETIONS: value}}}
    answers = [connection("1"), pending, *[connection("1")] * 30, connection("2")]
    cluster = FakeCluster(answers, applications=[[held("a"), held("b")], left])
    found, questions = confirm(cluster, clock)
    assert found == code
    assert questions == ["Delete these 2 Applications and their Secrets: a, b? [y/N] "]
    assert cluster.patches == [{"metadata": {"annotations": {CONFIRM_DELETIONS: value}}}]


def test_no_deletion_is_confirmed_without_a_yes(clock: VirtualClock) -> None:
    for found, answer, why in (([held("a")], False, "nothing was changed"), ([], True, "no deletion waits")):
        cluster = FakeCluster([connection("1")], applications=[found])
        with pytest.raises(Failed, match=why):
            confirm(cluster, clock, answer=answer)
        assert cluster.patches == []


def test_no_secret_is_read(clock: VirtualClock) -> None:
    """Neither the key nor anything else that is secret comes to the operator's machine."""
    store = ObjectStore()
    store.create(COMPASS_CONNECTION, {"metadata": {"name": CONNECTION_NAME}, "spec": {}})
    cluster = Cluster(store, Connect(), environment={})  # type: ignore[arg-type]
    status.status(cluster, Terminal("json", out=io.StringIO(), err=io.StringIO(), clock=clock))
    assert set(store.reads) == {"CompassConnection", "Deployment", "Lease"}


@pytest.mark.parametrize("stored", [{}, {"status": None}, {"status": {"connectionStatus": 3}}])
def test_the_report_of_any_object(stored: Object, clock: VirtualClock) -> None:
    out = io.StringIO()
    terminal = Terminal("text", out=out, err=io.StringIO(), clock=clock)
    assert status.status(FakeCluster([stored]), terminal) == 1  # type: ignore[arg-type]
    assert "Problem:" in out.getvalue()


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("ConnectionFailed", "may be used or expired. With a new token: kubectl compass reconnect --token-stdin"),
        ("ResourceApplicationFailed", "kubectl compass doctor"),
    ],
)
def test_a_reconnect_not_in_time_names_the_token_as_a_cause(state: str, advice: str, clock: VirtualClock) -> None:
    err = io.StringIO()
    cluster = FakeCluster([connection("1"), connection("1", state=state)])
    terminal = Terminal("json", out=io.StringIO(), err=err, clock=clock)
    assert actions.reconnect(cluster, terminal, "", timeout=2) == 1  # type: ignore[arg-type]
    assert advice in err.getvalue()
