"""Real processes compete for a Lease on a real API server: killed and frozen.

A stop is in test_outage.py, and every timing in tests/unit/runtime.
"""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.runtime.leader_election import LEASES
from e2e.controlplane import ControlPlane
from informers import Client
from tests.integration.runtime.replica import CONFIG_MAPS
from tests.support.audit_log import AuditLog

REPLICA = Path(__file__).parent / "replica.py"
ROOT = Path(__file__).parents[3]
# As short as whole seconds of the Lease allow.
DURATION, DEADLINE, RETRY = 3.0, 2.0, 0.5
# A try to acquire comes at most so late (jitter); and a process on a busy machine reacts within that.
TRY = RETRY * 2.2
SLACK = 5.0
WAIT = 60.0


class Replica:
    """A process of replica.py and what it prints."""

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        identity: str,
    ) -> None:
        self.identity = identity
        self._changed = threading.Condition()
        self.lines: list[tuple[float, str]] = []
        self.log: list[str] = []
        self._ended = False
        durations = map(str, (DURATION, DEADLINE, RETRY))
        command = [sys.executable, str(REPLICA), str(kubeconfig), namespace, identity, *durations]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            at, word = line.split()
            with self._changed:
                self.lines.append((float(at), word))
                self._changed.notify_all()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.log.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, word: str, *, after: float = 0.0, timeout: float = WAIT) -> float:
        """When it first printed that word after a moment."""

        def at() -> float | None:
            return next((at for at, said in self.lines if said == word and at > after), None)

        with self._changed:
            self._changed.wait_for(lambda: at() is not None or self._ended, timeout)
            found = at()
            assert found is not None, f"no {word!r}:\n{''.join(self.log)}"
        return found

    def wait_for_log(self, text: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or any(text in line for line in self.log), WAIT)
            assert any(text in line for line in self.log), "".join(self.log)

    def end(self) -> int:
        """Wait until the process has ended; its exit status."""
        status = self.process.wait(WAIT)
        for reader in self._readers:
            reader.join(WAIT)
        return status

    def beats(self) -> list[float]:
        with self._changed:
            return [at for at, word in self.lines if word == "leading"]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def start(admin_kubeconfig: Path, namespace: str) -> Iterator[Callable[..., Replica]]:
    replicas: list[Replica] = []

    def start_replica(identity: str, *, kubeconfig: Path = admin_kubeconfig, namespace: str = namespace) -> Replica:
        replicas.append(Replica(kubeconfig, namespace, identity))
        return replicas[-1]

    yield start_replica
    for replica in replicas:
        replica.close()


def lease(admin: Client, namespace: str) -> dict[str, Any]:
    spec: dict[str, Any] = admin.get(LEASES, "replica", namespace=namespace)["spec"]
    return spec


def leader_and_standby(first: Replica, second: Replica) -> tuple[Replica, Replica]:
    """Wait until one of two leads."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        for one, other in ((first, second), (second, first)):
            if one.beats():
                return one, other
            assert one.process.poll() is None, "".join(one.log)
        time.sleep(0.02)
    raise AssertionError("no replica leads:\n" + "".join(first.log + second.log))


def test_a_killed_leader_is_replaced_when_its_lease_expires(
    start: Callable[..., Replica], admin: Client, namespace: str
) -> None:
    """SIGKILL leaves no time to release: the standby leads within the lease and one try, and never before."""
    leader, standby = leader_and_standby(start("a"), start("b"))
    standby.wait_for_log("Waiting for the Lease")
    leader.wait_for("leading", after=time.monotonic())
    assert standby.beats() == []
    leader.process.send_signal(signal.SIGKILL)
    leader.end()
    last = leader.beats()[-1]
    taken = standby.wait_for("leading")
    # The last renewal was up to a retry period before the last beat.
    assert DURATION - RETRY - 0.2 <= taken - last <= DURATION + TRY + SLACK
    spec = lease(admin, namespace)
    assert spec["holderIdentity"] == standby.identity
    assert spec["leaseTransitions"] == 1
    assert spec["leaseDurationSeconds"] == 3


@pytest.mark.slow
def test_a_replica_frozen_past_its_lease_sends_no_write(start: Callable[..., Replica], tmp_path: Path) -> None:
    """The leader is frozen past its lease, ten times. No write is answered that its writer's lease does not cover.

    The replicas write the same object without a pause and without naming its version, so nothing but their terms keeps
    them apart: a write that a frozen process sends when it goes on would be here.
    """
    log = AuditLog(tmp_path)
    with ControlPlane(apiserver_flags=log.flags) as own:
        kubeconfig = own.write_kubeconfig(tmp_path / "own")
        admin = Client.load(str(kubeconfig))
        admin.create(CONFIG_MAPS, {"metadata": {"name": "shared", "namespace": "default"}})
        first, second = (start(name, kubeconfig=kubeconfig, namespace="default") for name in "ab")
        leader, standby = leader_and_standby(first, second)
        for turn in range(10):
            # Frozen at another point of its work each time.
            leader.wait_for("leading", after=time.monotonic() + 0.1 + turn * 0.013)
            leader.process.send_signal(signal.SIGSTOP)
            taken = standby.wait_for("leading", after=time.monotonic())
            leader.process.send_signal(signal.SIGCONT)
            leader.wait_for("lost", after=taken)
            leader, standby = standby, leader
        for replica in (first, second):
            assert replica.process.poll() is None
        admin.close()
        requests = log.requests(agent="replica-")
    holder, transitions, writes = "", 0, Counter[str]()
    for request in requests:
        if request.status >= 300 or not request.is_write:
            continue
        if request.resource == "leases":
            transitions += holder not in ("", request.body["spec"]["holderIdentity"])
            holder = request.body["spec"]["holderIdentity"]
        elif request.resource == "configmaps":
            writes[holder] += 1
            assert request.agent == f"replica-{holder}", f"a write of {request.agent} while {holder} holds the lease"
    assert transitions == 10
    assert min(writes["a"], writes["b"]) > 20
