"""Elections as scripts and journals (see election.py): which requests are sent, who leads, and when."""

import math
import random
import time
from typing import Any

import pytest

from controller.runtime import LeaderElectionConfig
from informers import ConnectionFailed
from tests.unit.runtime.election import PATH, Election

# A Lease of 15 s that is not renewed.
EXPIRED = ["0,2,4,6,8,10,12,14 a GET", "15 a GET PUT leads"]
# A leader and a standby.
IN_TURN = ["0 a GET 404 POST leads", "1 b GET", "2 a PUT", "3 b GET", "4 a PUT", "5 b GET", "6 a PUT"]

RULES: dict[str, tuple[list[str], float, list[str]]] = {
    # Acquire.
    "a missing Lease is created, and each renewal is one request": (
        ["0 start a"],
        8,
        ["0 a GET 404 POST leads", "2,4,6,8 a PUT"],
    ),
    "a released Lease is taken at once": (
        ["0 hold x 15", "0 edit holderIdentity= leaseDurationSeconds=1", "0 start a"],
        0,
        ["0 a GET PUT leads"],
    ),
    "a Lease expires by the duration that its holder has written": (
        ["0 hold x 40", "0 start a"],
        40,
        ["0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38 a GET", "40 a GET PUT leads"],
    ),
    "a duration that is shorter than the own does not count, for it may be an edit": (
        ["0 hold x 3", "0 start a"],
        15,
        EXPIRED,
    ),
    "an expiry between two attempts is met at once": (
        ["0 hold x 3", "0 start a duration=3 deadline=2.5"],
        3,
        ["0,2 a GET", "3 a GET PUT leads"],
    ),
    "standbys pause for half a retry period at least, at random": (
        ["0 hold x 15", "0 start a random=0", "0 start b random=0.5"],
        3,
        ["0 a GET", "0 b GET", "1 a GET", "1.5 b GET", "2 a GET", "3 b GET", "3 a GET"],
    ),
    "an expiry counts from the last renewal, and wall clocks are not compared": (
        ["0 hold x 15 2019-01-01T00:00:00.000000Z", "0 start a", "7 hold x 15 2018-01-01T00:00:00.000000Z"],
        23,
        ["0,2,4,6,8,10,12,14,16,18,20,22 a GET", "23 a GET PUT leads"],
    ),
    "a label is no renewal": (["0 hold x 15", "0 start a", "9 touch"], 15, EXPIRED),
    "a longer duration that a person writes is no renewal": (
        ["0 hold x 15", "0 start a", "9 edit leaseDurationSeconds=3600"],
        15,
        EXPIRED,
    ),
    "a Lease without a record is taken after the duration of the candidate": (
        ["0 hold x 15", "0 wipe", "0 start a"],
        15,
        EXPIRED,
    ),
    "a record that an edit has emptied runs out, also for a candidate that has not seen its holder": (
        ["0 hold x 15", "0 edit holderIdentity=", "0 start a"],
        15,
        EXPIRED,
    ),
    "one of many candidates gets an expired Lease": (
        ["0 hold x 15", "0 start a", "0 start b", "0 start c"],
        15,
        [
            *(f"{second} {name} GET" for second in (0, 2, 4, 6, 8, 10, 12, 14, 15) for name in "abc"),
            *("15 a PUT", "15 b PUT 409", "15 c PUT 409", "15 a leads"),
        ],
    ),
    "a holder of the same Pod has one retry period to show that it has not ended": (
        ["0 hold host_uid-1_x 15", "0 start a pod=uid-1"],
        3,
        ["0,2 a GET", "2.4 a GET PUT leads"],
    ),
    "a holder of the same Pod that renews is waited for": (
        ["0 hold host_uid-1_x 15", "0 start a pod=uid-1", "1 hold host_uid-1_x 15", "3 hold host_uid-1_x 15"],
        19,
        ["0,2,4,6,8,10,12,14,16,18 a GET", "19 a GET PUT leads"],
    ),
    "a holder of the same Pod that comes later is waited for": (
        ["0 start a pod=uid-1", "0 fail POST 500 1", "1 hold host_uid-1_x 15"],
        16,
        ["0 a GET 404 POST 500", "1,3,5,7,9,11,13,15 a GET", "16 a GET PUT leads"],
    ),
    "a holder of another Pod is waited for": (["0 hold host_uid-2_x 15", "0 start a pod=uid-1"], 15, EXPIRED),
    "a holder is not of the same Pod because it has no uid": (["0 hold host__x 15", "0 start a"], 15, EXPIRED),
    "a server that is away is tried each second": (
        ["0 fail any refused", "0 start a", "4.5 heal"],
        6,
        ["0,1,2,3,4 a GET ConnectionRefused", "5 a GET 404 POST leads"],
    ),
    "a refusal is tried again each retry period": (
        ["0 fail any 403", "0 start a", "5 heal"],
        6,
        ["0,2,4 a GET 403", "6 a GET 404 POST leads"],
    ),
    "an acquisition whose answer is lost is found at the next attempt": (
        ["0 hold x 15", "0 start a", "1 fail PUT lost 1"],
        21,
        ["0,2,4,6,8,10,12,14 a GET", "15 a GET PUT lost", "18.6 a PUT timeout", "19.6 a GET PUT leads"],
    ),
    "a slow server, two requests of which take longer than the timeout of one, elects a leader": (
        ["0 hold x 15", "0 edit holderIdentity= leaseDurationSeconds=1", "0 slow 1 1", "0 start a"],
        10,
        ["1 a GET", "3 a PUT", "4 a leads", "7,9 a PUT"],
    ),
    "a candidate that never led stops once": (
        ["0 hold x 15", "0 start a", "5 stop a"],
        5,
        ["0,2,4 a GET", "5 a stopped"],
    ),
    "a Lease that is deleted is created again when a holder would have noticed": (
        ["0 start a", "1 start b", "6.5 freeze a 20", "7 delete"],
        24,
        [*IN_TURN, "7,9,11,13,15,17,19,21 b GET 404", "22 b GET 404 POST leads", "24 b PUT"],
    ),
    "a missing Lease that another creates first, and that is deleted unseen, is waited for": (
        ["0 start a", "0 start b", "0.5 freeze a 20", "1 delete"],
        16,
        [
            *("0 a GET 404", "0 b GET 404", "0 a POST", "0 b POST 409", "0 a leads"),
            *("2,4,6,8,10,12,14 b GET 404", "15 b GET 404 POST leads"),
        ],
    ),
    # Renew.
    "a leader writes on the version that another client has made": (
        ["0 start a", "3 touch"],
        4,
        ["0 a GET 404 POST leads", "2 a PUT", "4 a PUT 409 GET PUT"],
    ),
    "a leader repairs a record that is wiped": (
        ["0 start a", "3 wipe"],
        4,
        ["0 a GET 404 POST leads", "2 a PUT", "4 a PUT 409 GET PUT"],
    ),
    "a leader creates a Lease that is deleted, until its deadline": (
        ["0 start a", "3 delete", "3 fail POST 500 2"],
        9,
        ["0 a GET 404 POST leads", "2 a PUT", "4,6 a PUT 404 GET 404 POST 500", "8 a PUT 404 GET 404 POST"],
    ),
    "a leader that finds another holder ends its term": (
        ["0 start a", "3 hold b 15"],
        6,
        ["0 a GET 404 POST leads", "2 a PUT", "4 a PUT 409 GET lost GET", "6 a GET"],
    ),
    "a leader that finds a release ends its term": (
        ["0 start a", "3 edit holderIdentity= leaseDurationSeconds=1"],
        6,
        ["0 a GET 404 POST leads", "2 a PUT", "4 a PUT 409 GET lost GET PUT leads", "6 a PUT"],
    ),
    "a leader whose deleted Lease another has created ends its term": (
        ["0 start a", "3 slow 0.2", "3 delete", "4.5 hold b 15"],
        5,
        ["0 a GET 404 POST leads", "2 a PUT", "4.2 a PUT 404", "4.4 a GET 404", "4.6 a POST 409", "4.8 a GET lost"],
    ),
    "a term ends at the deadline after the last renewal that succeeded": (
        ["0 start a", "5 fail any 500"],
        15,
        ["0 a GET 404 POST leads", "2,4 a PUT", "6,8,10,10.4,12.4 a PUT 500 GET 500", "14 a lost", "14.4 a GET 500"],
    ),
    "a short outage ends no term": (
        ["0 start a", "3 fail any 500", "10 heal"],
        14,
        ["0 a GET 404 POST leads", "2 a PUT", "4,6,8,8.4 a PUT 500 GET 500", "10.4,12.4 a PUT"],
    ),
    "a request that hangs is followed by another before the deadline": (
        ["0 start a", "3 fail PUT hang 1"],
        14,
        ["0 a GET 404 POST leads", "2 a PUT", "7.6 a PUT timeout PUT", "9.6,11.6,13.6 a PUT"],
    ),
    "the last attempt is early enough for its timeout": (
        ["0 start a deadline=7 duration=10 retry=3", "4 fail any 500", "9 heal"],
        14,
        ["0 a GET 404 POST leads", "3 a PUT", "6,8.2 a PUT 500 GET 500", "10 a lost", "11.2 a GET PUT leads"],
    ),
    "the deadline ends a term while a request ignores its timeout, and its answer does not revive the term": (
        ["0 start a", "3 fail PUT stuck 1"],
        26,
        ["0 a GET 404 POST leads", "2 a PUT", "12 a lost", "24 a PUT GET PUT leads", "26 a PUT"],
    ),
    "a deadline counts from the start of the write": (
        ["0 start a", "3 slow 1 1", "5 fail any 500"],
        16,
        [
            "0 a GET 404 POST leads",
            "2,5 a PUT",
            "7 a PUT 500",
            "9 a GET 500",
            "11 a PUT 500",
            "13 a GET 500",
            "14 a lost",
            "15 a GET 500",
        ],
    ),
    "a renewal whose answer is lost is found at the next attempt": (
        ["0 start a", "3 fail PUT lost 1"],
        8,
        ["0 a GET 404 POST leads", "2 a PUT", "4 a PUT lost", "7.6 a PUT timeout PUT 409 GET PUT"],
    ),
    "a slow server and a conflict end no term": (
        ["0 start a", "1 slow 1 1", "3.5 touch"],
        12,
        ["0 a GET 404 POST leads", "3 a PUT", "5 a PUT 409", "7 a GET", "9,11 a PUT"],
    ),
    "a frozen leader finds that its term has ended, and leads again if no other does": (
        ["0 start a", "3 freeze a 30"],
        40,
        ["0 a GET 404 POST leads", "2 a PUT", "33 a lost GET PUT leads", "35,37,39 a PUT"],
    ),
    "a frozen leader finds another": (
        ["0 start a", "1 start b", "5 freeze a 18"],
        26,
        [
            *IN_TURN[:5],
            *("5,7,9,11,13,15,17,19 b GET", "20 b GET PUT leads", "22 b PUT"),
            *("23 a lost GET", "24 b PUT", "25 a GET", "26 b PUT"),
        ],
    ),
    "clocks may differ in speed by less than the ratio of duration and deadline": (
        ["0 start a rate=0.8", "1 start b rate=1.1", "6 freeze a 18"],
        22,
        [
            "0 a GET 404 POST leads",
            "1 b GET",
            "2.5 a PUT",
            "2.818,4.636 b GET",
            "5 a PUT",
            "6.455,8.273,10.091,11.909,13.727,15.545,17.364,19.182 b GET",
            "20.091 b GET PUT leads",
            "21.909 b PUT",
        ],
    ),
    # Release.
    "a stop releases the Lease, and a standby takes it at its next attempt": (
        ["0 start a", "1 start b", "4.5 stop a"],
        5,
        [
            "0 a GET 404 POST leads",
            "1 b GET",
            "2 a PUT",
            "3 b GET",
            "4 a PUT",
            "4.5 a GET PUT stopped",
            "5 b GET PUT leads",
        ],
    ),
    "a leader whose work goes on keeps the Lease": (
        ["0 start a", "1 busy a", "3 stop a"],
        3,
        ["0 a GET 404 POST leads", "2 a PUT", "3 a stopped"],
    ),
    "a stop during a renewal that fails releases the Lease": (
        ["0 start a", "3 fail PUT hang 1", "5 stop a"],
        8,
        ["0 a GET 404 POST leads", "2 a PUT", "7.6 a PUT timeout GET PUT stopped"],
    ),
    "a conflict on a release is tried again, twice": (
        ["0 start a", "3 slow 0.2", "3 stop a", "3.3 touch", "3.7 touch", "4.1 touch"],
        5,
        [
            "0 a GET 404 POST leads",
            "2 a PUT",
            "3.2 a GET",
            "3.4 a PUT 409",
            "3.6 a GET",
            "3.8 a PUT 409",
            "4 a GET",
            "4.2 a PUT 409 stopped",
        ],
    ),
    "a release takes at most five seconds": (
        ["0 start a", "1 slow 1 1", "3 stop a", "5.5 touch"],
        9,
        ["0 a GET 404 POST leads", "3 a PUT", "5 a GET", "7 a PUT 409", "9 a GET GET timeout stopped"],
    ),
    "the Lease of another is not released": (
        ["0 start a", "3 hold b 15", "3 stop a"],
        3,
        ["0 a GET 404 POST leads", "2 a PUT", "3 a GET stopped"],
    ),
    "a release is not tried again on a server that is away": (
        ["0 start a", "3 fail any refused", "3 stop a"],
        3,
        ["0 a GET 404 POST leads", "2 a PUT", "3 a GET ConnectionRefused stopped"],
    ),
}


@pytest.mark.parametrize(("script", "until", "journal"), RULES.values(), ids=RULES.keys())
def test_election(script: list[str], until: float, journal: list[str]) -> None:
    """The run is exactly this, and at no moment two candidates lead."""
    assert Election(script).run(until) == journal


@pytest.mark.parametrize(
    "edit",
    ["wipe", "edit holderIdentity=", "edit holderIdentity=unknown", "edit leaseDurationSeconds=1"],
)
def test_an_edited_lease_runs_out_as_it_was_renewed(edit: str) -> None:
    """The leader is frozen, and may still write when it goes on."""
    election = Election(["0 start a", "1 start b", "6.5 freeze a 20", f"7 {edit}"])
    assert election.run(22) == [*IN_TURN, "7,9,11,13,15,17,19,21 b GET", "22 b GET PUT leads"]


DURATIONS = ["", "duration=10 deadline=7", "duration=3 deadline=2 retry=0.5", "retry=8"]


@pytest.mark.parametrize("durations", DURATIONS)
@pytest.mark.parametrize("faults", [["PUT hang 1"], ["GET hang 1"], ["PUT 409 1", "PUT hang 1"]], ids=str)
def test_one_request_that_hangs_does_not_lose_the_lease(durations: str, faults: list[str]) -> None:
    """Whichever request of a renewal it is, a second attempt fits before the deadline."""
    script = [f"0 start a {durations}", "0.1 touch", *(f"0.2 fail {fault}" for fault in faults)]
    journal = Election(script).run(30)
    assert any("timeout" in line for line in journal)
    assert not any("lost" in line for line in journal)


class TestConfig:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"name": ""}, "name must not be empty"),
            ({"namespace": ""}, "namespace must not be empty"),
            ({"retry_period": 0}, "retry_period must be positive"),
            ({"renew_deadline": 2.4}, "renew_deadline"),
            ({"renew_deadline": 10}, "lease_duration"),
            ({"lease_duration": 7}, "lease_duration"),
            ({"lease_duration": 10.9, "renew_deadline": 10.5}, r"lease_duration \(10.9, in the Lease 10\)"),
            ({"lease_duration": 1.9, "renew_deadline": 0.9, "retry_period": 0.1}, "more than 1"),
        ],
        ids=str,
    )
    def test_durations_that_cannot_work_are_refused(self, config: Any, message: str) -> None:
        """The duration counts as it is written: in whole seconds, and one second is the mark of a release."""
        with pytest.raises(ValueError, match=message):
            LeaderElectionConfig(**({"name": "lock", "namespace": "ns"} | config))

    def test_defaults(self) -> None:
        """10 s, 7 s, 2 s; each process has its own identity, which begins with its host."""
        first, second = (LeaderElectionConfig(name="lock", namespace="ns") for _ in range(2))
        assert (first.lease_duration, first.renew_deadline, first.retry_period) == (10, 7, 2)
        assert first.identity != second.identity
        assert "_" in first.identity


class TestRecord:
    def test_a_new_lease(self) -> None:
        """The first holder is no transition."""
        election = Election(["0 start a duration=15.9"])
        election.run(5)
        (lease,) = (body for method, _, body in election.api.requests if method == "POST")
        assert (lease["apiVersion"], lease["kind"]) == ("coordination.k8s.io/v1", "Lease")
        assert lease["metadata"] == {"name": "lock", "namespace": "ns"}
        assert election.record == {
            "holderIdentity": "a",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:04.000000Z",
            "leaseTransitions": 0,
        }

    def test_times_are_utc_in_any_time_zone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Other programs compare them with their clocks."""
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "Asia/Tokyo")
            time.tzset()
            election = Election(["0 start a"])
            election.run(0)
        time.tzset()
        assert election.record["renewTime"] == "2026-01-01T00:00:00.000000Z"

    def test_a_takeover_is_a_transition_and_keeps_labels(self) -> None:
        """Only the record changes."""
        election = Election(["0 hold x 15", "0 start a"])
        election.run(15)
        assert election.api.objects[PATH]["metadata"]["labels"] == {"k": "v"}
        assert election.record["leaseTransitions"] == 4
        assert election.record["acquireTime"] == "2026-01-01T00:00:15.000000Z"

    def test_a_takeover_of_an_empty_record_is_the_first_transition(self) -> None:
        election = Election(["0 hold x 15", "0 wipe", "0 start a"])
        election.run(15)
        assert election.record["leaseTransitions"] == 1

    def test_a_release(self) -> None:
        """No holder and one second, as client-go writes it."""
        election = Election(["0 start a", "3 stop a"])
        election.run(3)
        now = "2026-01-01T00:00:03.000000Z"
        released = {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0}
        assert election.record == released | {"acquireTime": now, "renewTime": now}

    def test_the_identity_of_a_pod_contains_its_uid(self) -> None:
        """So the next process of the Pod finds its predecessor."""
        config = LeaderElectionConfig(name="lock", namespace="ns", pod_uid="uid-1")
        assert LeaderElectionConfig(name="lock", namespace="ns", pod_uid="uid-1").is_same_pod(config.identity)
        assert not config.is_same_pod(config.identity)
        assert not config.is_same_pod("host_uid-1")


class TestReports:
    @pytest.mark.parametrize(("error", "unreachable"), [("403", False), ("503", True), ("refused", True)])
    def test_an_error_is_logged_once_and_its_end_too(
        self, error: str, unreachable: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A refusal is an answer; a 5xx or no answer means that the API server cannot be reached."""
        caplog.set_level("INFO")
        election = Election(["0 hold x 60", "0 start a", f"0 fail any {error}", "20 heal"])
        election.advance(19)
        assert election.candidates["a"].elector.is_unreachable is unreachable
        election.advance(30)
        assert election.candidates["a"].elector.is_unreachable is False
        messages = [r.getMessage() for r in caplog.records if "read" in r.getMessage()]
        assert messages == ["Cannot read or write the Lease", "The Lease can be read and written again"]
        election.run(30)

    def test_an_error_with_another_reason_is_logged_too(self, caplog: pytest.LogCaptureFixture) -> None:
        Election(["0 hold x 90", "0 start a", *(f"0 fail any {e} 3" for e in ("403", "refused", "hang"))]).run(40)
        errors = [str(getattr(record, "error", "")) for record in caplog.records if record.levelname == "WARNING"]
        assert [error.rpartition("(")[2] for error in errors] == [
            "403 Forbidden)",
            f"{ConnectionFailed.REFUSED})",
            f"{ConnectionFailed.TIMEOUT})",
        ]

    def test_a_conflict_is_no_error(self, caplog: pytest.LogCaptureFixture) -> None:
        election = Election(["0 hold x 15", "0 start a", "0 start b"])
        election.advance(16)
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert "15 b PUT 409" in election.run(16)
        assert warnings == []

    def test_each_holder_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        Election(["0 hold x 15", "0 start a", "5 hold y 15", "9 hold y 15", "30 stop a"]).run(30)
        holders = [vars(record)["holder"] for record in caplog.records if "holder" in vars(record)]
        assert holders == ["x", "y", "a", "none"]

    def test_metrics(self) -> None:
        """Whether it leads, and how many renewals had to read first."""
        election = Election(["0 start a", "3 touch", "9 hold b 15"])
        values = []
        for until in (1, 5, 11):
            election.advance(until)
            candidate = election.candidates["a"]
            values.append((candidate.metric("master_status"), candidate.metric("slowpath_total")))
        election.run(11)
        assert values == [(1, 0), (1, 1), (0, 2)]

    def test_a_loss_names_the_holder(self) -> None:
        """The log of the manager shows it."""
        election = Election(["0 start a", "3 hold b 15"])
        election.advance(5)
        assert "held by b" in str(election.candidates["a"].lost)
        election.run(5)


class TestHistories:
    """Random faults and edits: never two leaders, and one leader soon after the last fault."""

    FAULTS = ("500", "503", "409", "refused", "hang", "lost", "stuck")
    EDITS = (
        "touch",
        "wipe",
        "edit holderIdentity=",
        "edit holderIdentity=unknown",
        "edit leaseDurationSeconds=2",
        "edit leaseDurationSeconds=30",
        "delete",
    )

    @pytest.mark.parametrize("seed", range(20))
    def test_history(self, seed: int) -> None:
        self._play(seed)

    @pytest.mark.slow
    def test_many_histories(self) -> None:
        for seed in range(20, 300):
            self._play(seed)

    def _play(self, seed: int) -> None:
        """The seed is the history."""
        rng = random.Random(seed)
        election = Election([])
        for number in range(3):
            election.command(f"start {number}-0 pod=uid-{number} rate={rng.uniform(0.9, 1.1)}")
        for _ in range(40):
            election.advance(election.now + rng.expovariate(1 / 3))
            self._disturb(election, rng)
        election.command("heal")
        election.advance(election.now + 60)
        leaders = election.leaders
        journal = "\n".join(election.run(election.now))
        assert len(leaders) == 1, f"seed {seed}: {leaders}\n{journal}"

    def _disturb(self, election: Election, rng: random.Random) -> None:
        living = [candidate for candidate in election.candidates.values() if candidate.frozen_until < math.inf]
        candidate = rng.choice(living)
        what = rng.randrange(8)
        if what == 0:
            election.command(f"freeze {candidate.name} {rng.uniform(0, 40)}")
        elif what == 1 and PATH in election.api.objects:
            # SIGKILL, and a new process in the Pod.
            pod, _, number = candidate.name.partition("-")
            election.command(f"kill {candidate.name}")
            election.command(f"start {pod}-{int(number) + 1} pod=uid-{pod}")
        elif what <= 3:
            method = rng.choice(("any", "GET", "PUT", "POST"))
            election.command(f"fail {method} {rng.choice(self.FAULTS)} {rng.randrange(1, 12)}")
        elif what == 4:
            election.command(f"slow {rng.uniform(0, 3)} {rng.uniform(0, 2)}")
        elif what == 5:
            election.command("heal")
        else:
            edit = rng.choice(self.EDITS) if PATH in election.api.objects else "touch"
            # A candidate that does not know the holder cannot know that the Lease was deleted under it.
            if edit != "delete" or {each.last_holder for each in living} == {election.record.get("holderIdentity")}:
                election.command(edit)
