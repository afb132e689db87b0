"""Faults at random for a while, on any target: `make soak`. Synchronised in the end, and no bigger than before.

Not one of the scenarios: it takes as long as `--soak-seconds` says. A run is repeated with `--soak-seed`.
"""

import random
import re
import time
from collections.abc import Callable

import pytest

from controller.resources import APPLICATION
from e2e.mock_compass.examples import landscape
from e2e.scenarios.target import CommandFailed, Target
from informers import ApiError

_PAUSE_SECONDS = (3.0, 20.0)
_OUTAGE_SECONDS = (2.0, 25.0)
_MEMORY_FACTOR = 1.5  # over what it was after the first minutes, when all has been used once
_WARM_UP = 0.2  # of the whole time

_RSS = re.compile(r"VmRSS:\s+(\d+) kB")
_ERROR = re.compile(r"Traceback|unexpected \w+Error")
_EXPLAINED = re.compile(r"(informers|controller\.compass)\.errors\.\w+: ")  # an API server or a Compass that is away


@pytest.mark.timeout(0)
def test_soak(connected: Target, request: pytest.FixtureRequest) -> None:
    """After all faults the cluster is in sync with the Director, without a second pairing."""
    seconds = float(request.config.getoption("--soak-seconds"))
    seed = int(request.config.getoption("--soak-seed") or time.time())
    print(f"\nsoak of {seconds:g} s, --soak-seed={seed}")
    rng = random.Random(seed)
    soak = _Soak(connected, rng)
    issued = len(connected.compass.certificates())
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        soak.fault()
        soak.look(warm=passed > seconds * _WARM_UP)
        time.sleep(rng.uniform(*_PAUSE_SECONDS))
    connected.compass.reset()
    connected.start_agents()
    connected.wait_for_landscape()
    soak.look(warm=True)
    print(f"faults: {soak.done}\nmemory of the agents in kB, by process: {soak.memory}")
    assert len(connected.compass.certificates()) == issued
    assert not soak.unexplained
    begin = max(sizes[0] for sizes in soak.memory.values())  # one may have been looked at while it started
    for name, sizes in soak.memory.items():
        assert max(sizes) < _MEMORY_FACTOR * begin, f"{name} grows"


class _Soak:
    def __init__(self, target: Target, rng: random.Random) -> None:
        self._target, self._rng = target, rng
        self.done: dict[str, int] = {}
        self.memory: dict[str, list[int]] = {}
        self.unexplained: set[str] = set()
        self._faults: list[Callable[[], None]] = [
            self._compass_outage,
            self._kill_a_replica,
            self._delete_a_replica,
            self._delete_applications,
            self._change_what_is_assigned,
        ]
        if not target.node_missing():
            self._faults.append(self._api_server_outage)

    def fault(self) -> None:
        fault = self._rng.choice(self._faults)
        print(f"{time.strftime('%H:%M:%S')} {fault.__name__[1:].replace('_', ' ')}", flush=True)
        fault()
        self.done[fault.__name__[1:]] = self.done.get(fault.__name__[1:], 0) + 1

    def look(self, *, warm: bool) -> None:
        """Memory of what runs, and errors that no fault explains."""
        try:
            for name, text in self._target.logs().items():
                errors = {line for line in text.splitlines() if _ERROR.search(line) and not _EXPLAINED.search(line)}
                self.unexplained |= {f"{name}: {line}" for line in errors}
            if warm:
                for process, status in self._target.process_status().items():
                    self.memory.setdefault(process, []).extend(int(found) for found in _RSS.findall(status))
        except (ApiError, CommandFailed) as error:
            print(f"cannot look now: {error}")

    def _compass_outage(self) -> None:
        with self._target.compass.outage():
            time.sleep(self._rng.uniform(*_OUTAGE_SECONDS))

    def _api_server_outage(self) -> None:
        with self._target.api_server_outage():
            time.sleep(self._rng.uniform(*_OUTAGE_SECONDS))

    def _kill_a_replica(self) -> None:
        self._target.kill(self._rng.choice(sorted(self._target.replicas())))

    def _delete_a_replica(self) -> None:
        self._target.start_agents()  # a PodDisruptionBudget would not let the second go either
        self._target.delete(self._rng.choice(sorted(self._target.replicas())))

    def _delete_applications(self) -> None:
        for name in self._rng.sample(sorted(self._target.applications()), k=2):
            self._target.remove(APPLICATION, name)

    def _change_what_is_assigned(self) -> None:
        application = self._rng.choice(landscape())
        self._target.compass.put({**application, "description": f"changed {self._rng.random():.6f}"})
