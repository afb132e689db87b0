"""When what was asked for counts as done, and what is shown meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from controller.applications.deletions import CONFIRM_DELETIONS, fingerprint
from controller.resources import DELETION_HELD, SYNC_STATUS
from informers import ConnectionFailed, Forbidden
from kubectl_compass import actions
from kubectl_compass.cluster import Failed
from kubectl_compass.pairing import Unusable
from tests.unit.kubectl_compass.bench import Bench, Object, deployment, held_by


def connection(attempt: str, *, state: str = "Synchronized", asked: bool = False, **stored: Any) -> Object:
    return {
        "metadata": {"uid": "u"},
        "spec": {"resyncNow": True} if asked else {},
        "status": {"connectionState": state, "synchronizationStatus": {"lastAttempt": attempt}, **stored},
    }


def bench(directory: Path, *looks: Any, **answers: Any) -> Bench:
    """`looks`: the CompassConnection at each look, the last one for ever."""
    world = Bench(directory, Deployment=deployment(), Lease=held_by("pod-1_x"), **answers)
    world.server.answers["CompassConnection"] = list(looks)
    return world


# --- resync ---


@pytest.mark.parametrize(
    ("looks", "code", "asked", "seconds"),
    [
        pytest.param(
            [connection("1"), *[connection(attempt, asked=True) for attempt in "12"], connection("2"), connection("3")],
            *(0, 1, 1.5),
            id="the outcome of one that was under way before is none",
        ),
        pytest.param(
            [connection("1"), connection("2", state="SynchronizationFailed")],
            *(1, 1, 0.0),
            id="a failure is an outcome",
        ),
        # The times in the status are whole seconds, so the same outcome in the same second writes nothing.
        pytest.param(
            [*[connection("1")] * 31, connection("2")], *(0, 2, 15.0), id="what changes nothing is asked for once more"
        ),
        pytest.param([connection("1", asked=True)], *(1, 1, 60.0), id="an agent that does nothing"),
    ],
)
def test_an_outcome_after_the_flag_is_gone(
    tmp_path: Path, looks: list[Object], code: int, asked: int, seconds: float
) -> None:
    world = bench(tmp_path, *looks)
    assert actions.resync(world.cluster, world.terminal("json"), timeout=60) == code
    assert world.server.patches == [{"spec": {"resyncNow": True}}] * asked
    assert world.clock.monotonic() == seconds
    assert world.json()["exists"] is True


# --- confirm-deletions ---


def held(name: str) -> Object:
    metadata = {"name": name, "uid": f"uid of {name}", "annotations": {SYNC_STATUS: DELETION_HELD}}
    return {"metadata": metadata, "spec": {"compassMetadata": {"applicationId": "x"}}}


@pytest.mark.parametrize(("left", "code"), [([], 0), ([held("b")], 1)])
def test_exactly_the_deletions_that_were_shown_are_confirmed(tmp_path: Path, left: list[Object], code: int) -> None:
    """Once, however long it takes. If one of them exists after the synchronisation, the agent did not delete them."""
    value = fingerprint({"a": "uid of a", "b": "uid of b"})
    pending = connection("1") | {"metadata": {"uid": "u", "annotations": {CONFIRM_DELETIONS: value}}}
    world = bench(tmp_path, connection("1"), pending, *[connection("1")] * 30, connection("2"))
    world.server.answers["applications"] = [[held("a"), held("b")], left]
    questions: list[str] = []

    def confirm(question: str) -> bool:
        questions.append(question)
        return True

    assert actions.confirm_deletions(world.cluster, world.terminal(), confirm=confirm, timeout=60) == code
    assert questions == ["Delete these 2 Applications and their Secrets: a, b? [y/N] "]
    assert world.server.patches == [{"metadata": {"annotations": {CONFIRM_DELETIONS: value}}}]


@pytest.mark.parametrize(
    ("found", "answer", "why"), [([held("a")], False, "nothing was changed"), ([], True, "no deletion waits")]
)
def test_no_deletion_is_confirmed_without_a_yes(tmp_path: Path, found: list[Object], answer: bool, why: str) -> None:
    world = bench(tmp_path, connection("1"), applications=found)
    with pytest.raises(Failed, match=why):
        actions.confirm_deletions(world.cluster, world.terminal(), confirm=lambda _: answer, timeout=60)
    assert world.server.patches == []


# --- renew and reconnect ---


def test_a_renewal_ends_with_another_certificate(tmp_path: Path) -> None:
    """Not with the end of the request alone, which also a renewal that fails has."""

    def renewed(at: str, **spec: object) -> Object:
        return {**connection("1", connectionStatus={"renewed": at}), "spec": spec}

    world = bench(tmp_path, renewed("1"), renewed("1", refreshCredentialsNow=True), renewed("1"), renewed("2"))
    assert actions.renew(world.cluster, world.terminal("json"), timeout=60) == 0
    assert world.clock.monotonic() == 1.0


def test_a_reconnect_ends_with_another_object(tmp_path: Path) -> None:
    another = {**connection("1", connectionStatus={"established": "2"}), "metadata": {"uid": "another"}}
    world = bench(tmp_path, connection("1"), connection("1"), another)
    assert actions.reconnect(world.cluster, world.terminal("json"), "", timeout=60) == 0
    assert world.clock.monotonic() == 0.5


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("ConnectionFailed", "may be used or expired. With a new token: kubectl compass reconnect --token-stdin"),
        ("ResourceApplicationFailed", "kubectl compass doctor"),
    ],
)
def test_a_reconnect_not_in_time_names_the_token_as_a_cause(state: str, advice: str, tmp_path: Path) -> None:
    world = bench(tmp_path, connection("1"), connection("1", state=state))
    assert actions.reconnect(world.cluster, world.terminal(), "", timeout=2) == 1
    assert advice in world.err.getvalue()


# --- waiting ---


def is_synchronized(found: Object | None) -> bool:
    return bool((found or {}).get("status", {}).get("connectionState") == "Synchronized")


FAILED = connection("1", state="ConnectionFailed", connectionStatus={"error": "why"})
COUNTED = connection("1", applications={"synced": 2, "desired": 3})
AWAY = ConnectionFailed("refused")


@pytest.mark.parametrize(
    ("known", "looks", "lines"),
    [
        pytest.param(
            FAILED,
            [FAILED, FAILED, None, connection("1", state="Connected"), COUNTED],
            [
                "   1 s  there is no CompassConnection",
                "   2 s  Connected",
                "   2 s  Synchronized: 2 of 3 Applications are in sync",
            ],
            id="each change is one line, and what was so before is no news",
        ),
        pytest.param(
            connection("1"), [connection("1")], ["   0 s  Synchronized"], id="the end, also where nothing has changed"
        ),
        pytest.param(
            None,
            [connection("1", state="SynchronizationFailed", synchronizationStatus={"error": "HTTP 500"})],
            ["   0 s  SynchronizationFailed: HTTP 500", "not within 10s"],
            id="it ends in time",
        ),
        pytest.param(
            None,
            [AWAY, AWAY, connection("1")],
            ["   0 s  the API server does not answer: refused", "   1 s  Synchronized"],
            id="an API server that is away is waited for",
        ),
    ],
)
def test_what_is_shown_while_waiting(known: Object | None, looks: list[Any], lines: list[str], tmp_path: Path) -> None:
    world = bench(tmp_path, *looks)
    ended = []
    try:
        actions.wait(world.cluster.connection, is_synchronized, world.terminal(), known=known, timeout=10)
    except TimeoutError as error:
        ended = [str(error)]
    assert [*world.err.getvalue().splitlines(), *ended] == lines


def test_an_error_that_stays_ends_the_wait(tmp_path: Path) -> None:
    world = bench(tmp_path, Forbidden("no", status=403))
    with pytest.raises(Forbidden):
        actions.wait(world.cluster.connection, is_synchronized, world.terminal(), known=None, timeout=10)


# --- pair ---


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (connection("1"), "the connection works"),
        (connection("1", state="ConnectionFailed") | {"spec": {"pairing": {"token": "x"}}}, "has precedence"),
    ],
)
def test_pair_stores_no_token_that_would_not_be_used(tmp_path: Path, found: Object, why: str) -> None:
    world = bench(tmp_path, found)
    with pytest.raises(Unusable, match=why):
        actions.pair(world.cluster, world.terminal(), "a-token", {}, timeout=1)
