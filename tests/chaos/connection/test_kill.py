"""SIGKILL at every point of pairing and of renewal at which the agent sends a request: before, during and after it."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.mock_compass.examples import generate
from e2e.world import CLUSTER_SECRET, OWN_CRDS, World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import certificate, issued

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[3]
_WAIT = 180.0  # a start takes a second or two, and a minute on a machine with other work
_SETTINGS = {
    "CONTROLLER_SYNC_PERIOD": "10s",
    "MINIMAL_COMPASS_SYNC_TIME": "50ms",
}  # one exchange follows from the other


@dataclass(frozen=True)
class Crossing:
    """A point of an exchange. `what` counts equal exchanges: the second write of a Secret is another point."""

    at: float
    phase: str
    what: str


class Victim:
    """One run of an agent up to a point."""

    def __init__(self, world: World, controller: str, point: int) -> None:
        self._trace = world.directory / f"{controller}-{point}.trace"
        self._trace.touch()
        arguments = (str(world.kubeconfig), controller, str(point), str(self._trace))
        command = (sys.executable, "-m", "tests.chaos.connection.victim", *arguments)
        self._process = world.agent(f"{controller}-{point}", command=command, **_SETTINGS)  # type: ignore[arg-type]
        self._process.environment["PYTHONPATH"] = str(_ROOT)
        self._process.start()

    @property
    def dead(self) -> bool:
        return self._process.ended() is not None

    def end(self) -> bool:
        """True when it was killed at its point; else it is ended now."""
        code = self._process.ended()
        code = self._process.stop() if code is None else code
        assert code in (-signal.SIGKILL, 0)
        return code != 0

    def close(self) -> None:
        self._process.close()

    def crossings(self) -> list[Crossing]:
        seen: dict[tuple[str, str], int] = {}
        found = []
        for line in self._trace.read_text().splitlines():
            at, phase, method, path = line.split(" ", 3)
            what = f"{method} {path.split('?')[0]}{' (dry run)' if 'dryRun' in path else ''}"
            number = seen[phase, what] = seen.get((phase, what), 0) + 1
            found.append(Crossing(float(at), phase, f"{what} {number}"))
        return found


StartVictim = Callable[[str, int], Victim]


@pytest.fixture
def start_victim(world: World) -> Iterator[StartVictim]:
    """Starts a victim that does not outlive the test."""
    started: list[Victim] = []

    def start(controller: str, point: int) -> Victim:
        started.append(Victim(world, controller, point))
        return started[-1]

    yield start
    for victim in started:
        victim.close()


def windows(crossings: list[Crossing]) -> list[list[Crossing]]:
    """From each request to the Connector with a token, to the write that keeps its answer."""
    found: list[list[Crossing]] = []
    inside = False
    for crossing in crossings:
        connector = crossing.what.startswith("POST /connector") or "graphql" in crossing.what
        if connector and crossing.phase == "sent":
            found.append([])
            inside = True
        if inside:
            found[-1].append(crossing)
        if inside and not connector and crossing.phase == "answered":
            inside = False
    return found


def test_a_pairing_that_is_killed_anywhere_ends_synchronized(
    world: World, agent: StartAgent, start_victim: StartVictim, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a person, except in the window between an answer of the Connector and the write that keeps it; there,
    the CompassConnection says what to do, and that helps.
    """
    for application in generate(3):
        world.compass.put_application(application)
    lost: dict[str, int] = {}
    whole: list[Crossing] = []
    point, killed = 0, True
    while killed:
        point += 1
        world.remove_all("kyma-system", "istio-system")
        world.configure()
        victim = start_victim("connection", point)
        world.wait_for("its end", lambda v=victim: v.dead or world.state() == "Synchronized", timeout=_WAIT)  # type: ignore[misc]
        if not victim.dead:
            time.sleep(0.5)  # the last words of the pairing may follow the first synchronisation
        killed = victim.end()
        whole = victim.crossings()
        successor = agent(**_SETTINGS)
        world.wait_for(
            "an end",
            lambda: world.state() == "Synchronized" or "put a new one-time token into" in world.connection_error(),
            timeout=_WAIT,
        )
        if world.state() != "Synchronized":
            assert killed
            lost[f"{whole[-1].phase} {whole[-1].what}"] = point
            assert world.state() == "ConnectionFailed"
            world.configure()
            world.wait_for_state("Synchronized", timeout=_WAIT)
        assert len(world.applications()) == 3
        successor.stop()
    found = windows(whole)
    named = {f"{crossing.phase} {crossing.what}" for window in found for crossing in window}
    lengths = " and ".join(f"{(window[-1].at - window[0].at) * 1000:.0f} ms" for window in found)
    of = (whole[-1].at - whole[0].at) * 1000
    with capsys.disabled():
        print(
            f"\npairing: killed at {point - 1} points, {len(lost)} tokens lost, in windows of {lengths} of {of:.0f} ms"
        )
    assert point - 1 >= 32  # with the points of a renewal fifty, on either set of CRDs
    assert len(found) == 2
    assert lost.keys() <= named
    assert lost


def test_a_renewal_that_is_killed_anywhere_ends_synchronized(
    world: World, crds: Path, agent: StartAgent, start_victim: StartVictim, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a person and without a token: the stored pair works at every moment."""
    for application in generate(3):
        world.compass.put_application(application)
    world.configure()
    first = agent(**_SETTINGS)
    world.wait_for_state("Synchronized", timeout=_WAIT)
    first.stop()
    point, killed = 0, True
    while killed:
        point += 1
        before, signed = certificate(world), issued(world)
        world.patch_connection({"spec": {"refreshCredentialsNow": True}})
        victim = start_victim("connection", point)

        def renewed() -> bool:
            return "refreshCredentialsNow" not in (world.connection() or {})["spec"]

        world.wait_for("its end", lambda v=victim: v.dead or renewed(), timeout=_WAIT)  # type: ignore[misc]
        if not victim.dead:
            time.sleep(0.5)
        killed = victim.end()
        fetched = world.compass.requests.count("director")
        successor = agent(**_SETTINGS)
        world.wait_for("the renewal", renewed, timeout=_WAIT)
        world.wait_for("a fetch", lambda f=fetched: world.compass.requests.count("director") > f, timeout=_WAIT)  # type: ignore[misc]
        world.wait_for_state("Synchronized", timeout=_WAIT)
        assert certificate(world) != before
        assert issued(world) - signed <= 2
        assert world.secret(CLUSTER_SECRET)
        successor.stop()
    with capsys.disabled():
        print(f"\nrenewal: killed at {point - 1} points, each ended with a new certificate and no new token")
    assert point - 1 >= (20 if crds == OWN_CRDS else 18)  # without a status subresource there are fewer writes
