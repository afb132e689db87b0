"""The event recorder: what is written, counted and dropped, and that no caller waits."""

import threading
from typing import Any

import pytest

from controller.runtime import events
from controller.runtime.events import EventRecorder
from informers import ConnectionFailed, Forbidden
from tests.clock import VirtualClock
from tests.unit.runtime.conftest import FakeApi, Threads

EVENTS = "/api/v1/namespaces/{}/events"
WAIT = 60.0
APPLICATION = {
    "apiVersion": "app.example/v1",
    "kind": "Application",
    "metadata": {"name": "shop", "uid": "u-1", "resourceVersion": "7"},
}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop", "namespace": "ns", "uid": "u-2"}}


class Recording:
    """A recorder that runs in a thread; `write` lets it write everything it holds."""

    def __init__(self, api: Any, clock: VirtualClock, threads: Any) -> None:
        self.clock = clock
        self.recorder = EventRecorder(api, "agent", clock=clock)
        threads.start(self.recorder.run)
        clock.wait_for_waiters(1)

    def event(self, obj: Any = APPLICATION, message: str = "It broke", reason: str = "Broken") -> None:
        self.recorder.event(obj, "Warning", reason, message)

    def write(self) -> None:
        self.clock.wait_for_waiters(1)
        self.clock.advance(0.25)
        self.clock.wait_for_waiters(1)


@pytest.fixture
def recording(api: FakeApi, clock: VirtualClock, threads: Threads) -> Recording:
    return Recording(api, clock, threads)


def test_an_event_of_a_cluster_scoped_object(api: FakeApi, recording: Recording) -> None:
    """It goes to namespace default; its name is the object's and the time in hexadecimal."""
    recording.event()
    recording.write()
    ((path, event),) = api.objects.items()
    assert path == EVENTS.format("default") + "/shop." + format(1_767_225_600 * 10**9, "x")
    del event["metadata"]["resourceVersion"]
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": path.rpartition("/")[2], "namespace": "default"},
        "involvedObject": {
            "apiVersion": "app.example/v1",
            "kind": "Application",
            "name": "shop",
            "uid": "u-1",
            "resourceVersion": "7",
        },
        "type": "Warning",
        "reason": "Broken",
        "message": "It broke",
        "source": {"component": "agent"},
        "reportingComponent": "agent",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
    }


def test_an_event_of_a_namespaced_object(api: FakeApi, recording: Recording) -> None:
    recording.event(SECRET)
    recording.write()
    (path,) = api.objects
    assert path.startswith(EVENTS.format("ns") + "/shop.")
    assert api.objects[path]["involvedObject"]["namespace"] == "ns"


def test_the_same_event_again_raises_the_count(api: FakeApi, recording: Recording) -> None:
    """One Event object, patched: count and time of the last occurrence."""
    recording.event()
    recording.write()
    recording.clock.advance(60)
    recording.event()
    recording.event()
    recording.write()
    assert api.methods() == ["POST", "PATCH"]
    (event,) = api.objects.values()
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T00:01:00Z"


@pytest.mark.parametrize(
    "other",
    [
        {"message": "It broke otherwise"},
        {"reason": "Other"},
        {"obj": SECRET},
        {"obj": {**APPLICATION, "metadata": {"name": "shop", "uid": "u-9"}}},
    ],
    ids=["message", "reason", "object", "uid"],
)
def test_different_events_are_different_objects(other: Any, api: FakeApi, recording: Recording) -> None:
    """Message, reason, object and its uid distinguish events, even in the same instant."""
    recording.event()
    recording.event(**other)
    recording.write()
    assert api.methods() == ["POST", "POST"]
    assert len(api.objects) == 2


def test_another_version_of_an_object_is_the_same_event(api: FakeApi, recording: Recording) -> None:
    """An object changes all the time; what happens to it is the same."""
    recording.event()
    recording.event({**APPLICATION, "metadata": {**APPLICATION["metadata"], "resourceVersion": "8"}})  # type: ignore[dict-item]
    recording.write()
    assert [event["count"] for event in api.objects.values()] == [2]


def test_an_event_deleted_on_the_server_begins_anew(api: FakeApi, recording: Recording) -> None:
    """The API server forgets Events after an hour: the next one creates an object with the count so far."""
    recording.event()
    recording.write()
    api.objects.clear()
    recording.event()
    recording.write()
    (event,) = api.objects.values()
    assert event["count"] == 2


def test_after_an_hour_an_event_begins_anew(api: FakeApi, recording: Recording) -> None:
    """By then the server has dropped the old one; no request is wasted on finding out."""
    recording.event()
    recording.write()
    recording.clock.advance(3600)
    recording.event()
    recording.write()
    assert api.methods() == ["POST", "POST"]
    assert [event["count"] for event in api.objects.values()] == [1, 1]


class TestStorms:
    def test_the_tenth_similar_event_and_later_ones_are_combined(self, api: FakeApi, recording: Recording) -> None:
        """One Event that counts, with the last message. Known messages still count in their own Events."""
        for number in range(14):
            recording.event(message=f"Message {number}")
            recording.write()
        recording.event(message="Message 3")
        recording.write()
        assert {event["message"]: event["count"] for event in api.objects.values()} == {
            **{f"Message {number}": 1 for number in range(9)},
            "Message 3": 2,
            "(combined from similar events): Message 13": 5,
        }

    def test_ten_quiet_minutes_end_a_storm(self, api: FakeApi, recording: Recording) -> None:
        """Not earlier, since the storm goes on."""
        for number in range(10):
            recording.event(message=f"Message {number}")
        recording.write()
        for seconds, expected in ((599, 10), (601, 11)):
            recording.clock.advance(seconds)
            recording.event(message=f"After {seconds} seconds")
            recording.write()
            assert len(api.objects) == expected

    @pytest.mark.parametrize("similar", [{"reason": "Other"}, {"obj": SECRET}], ids=["reason", "object"])
    def test_other_reasons_and_objects_are_not_similar(self, similar: Any, api: FakeApi, recording: Recording) -> None:
        """They are not combined with a storm, however large it is."""
        for number in range(1200):
            recording.event(message=f"Message {number}")
        recording.event(**similar)
        recording.write()
        assert len(api.objects) == 11
        assert "It broke" in {event["message"] for event in api.objects.values()}

    def test_an_object_has_one_budget(self, api: FakeApi, recording: Recording) -> None:
        """25 writes at once, whatever their reasons, and one more after 300 s. Other objects have their own."""
        for number in range(40):
            recording.event(reason=f"Reason{number}")
        recording.write()
        assert len(api.objects) == 25
        for seconds, expected in ((299, 25), (1, 26), (0, 26)):
            recording.clock.advance(seconds)
            recording.event(reason=f"Later{seconds}")
            recording.write()
            assert len(api.objects) == expected
        recording.event(SECRET)
        recording.write()
        assert len(api.objects) == 27

    def test_memory_is_bounded(self, api: FakeApi, recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the number of objects and messages."""
        monkeypatch.setattr(events, "_CACHE_SIZE", 50)
        for number in range(100):
            for text in ("a", "b"):
                recording.event({**APPLICATION, "metadata": {"name": f"app-{number}"}}, message=text * 1024)
            recording.write()
        recorder = recording.recorder
        assert [len(cache) for cache in (recorder._messages, recorder._known, recorder._full_at)] == [50, 50, 50]

    def test_repetitions_that_wait_are_one_write(self, api: FakeApi, recording: Recording) -> None:
        """With their number, and the times of the first and the last."""
        for _ in range(40):
            recording.event()
            recording.clock.set_time(recording.clock.time() + 1)
        recording.write()
        (event,) = api.objects.values()
        assert event["count"] == 40
        assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
        assert event["lastTimestamp"] == "2026-01-01T00:00:39Z"
        assert api.methods() == ["POST"]

    def test_silenced_repetitions_are_counted(self, api: FakeApi, recording: Recording) -> None:
        """The next write contains how often it really happened."""
        for _ in range(40):
            recording.event()
            recording.write()
        (event,) = api.objects.values()
        assert event["count"] == 25
        recording.clock.advance(300)
        recording.event()
        recording.write()
        assert event["count"] == 41


class TestFailures:
    def test_a_hanging_server_blocks_no_caller(
        self, api: FakeApi, recording: Recording, caplog: pytest.LogCaptureFixture
    ) -> None:
        """1000 events wait; what is more is dropped and counted, and the caller never waits."""
        hanging = threading.Event()
        release = threading.Event()

        def hang(_method: str, _path: str) -> None:
            hanging.set()
            release.wait(WAIT)

        api.before = hang
        recording.event(message="The first")
        recording.clock.wait_for_waiters(1)
        recording.clock.advance(0.25)
        assert hanging.wait(WAIT)
        for number in range(1005):
            recording.event({**APPLICATION, "metadata": {"name": f"app-{number}"}})
        api.before = lambda _method, _path: None
        release.set()
        recording.write()
        assert len(api.objects) == 1 + 1000
        (dropped,) = [r for r in caplog.records if r.getMessage().startswith("Dropped Events")]
        assert dropped.count == 5  # type: ignore[attr-defined]

    def test_a_refusal_is_logged_once_and_not_retried(
        self, api: FakeApi, recording: Recording, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without the permission for Events the work goes on, and the log is not filled."""

        def refuse(_method: str, _path: str) -> None:
            raise Forbidden("events is forbidden", status=403, reason="Forbidden")

        api.before = refuse
        for number in range(3):
            recording.event(message=f"Message {number}")
        recording.write()
        (record,) = [r for r in caplog.records if r.getMessage() == "Cannot write an Event"]
        assert "events is forbidden" in record.error  # type: ignore[attr-defined]
        api.before = lambda _method, _path: None
        recording.event()
        recording.write()
        assert len(api.objects) == 1

    def test_a_server_that_does_not_answer_is_asked_again(self, api: FakeApi, recording: Recording) -> None:
        """Each 10 s, and the event is written once."""
        tries = []

        def fail(_method: str, path: str) -> None:
            tries.append(path)
            if len(tries) < 4:
                raise ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)

        api.before = fail
        recording.event()
        recording.write()
        for _ in range(3):
            recording.clock.advance(10)
            recording.clock.wait_for_waiters(1)
        assert len(tries) == 4
        assert len(api.objects) == 1

    def test_it_gives_up_after_twelve_tries(
        self, api: FakeApi, recording: Recording, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log names the event."""
        tries = []

        def fail(_method: str, path: str) -> None:
            tries.append(path)
            raise ConnectionFailed("refused", reason=ConnectionFailed.REFUSED)

        api.before = fail
        recording.event()
        recording.write()
        for _ in range(20):
            recording.clock.advance(10)
            recording.clock.wait_for_waiters(1)
        assert len(tries) == 12
        (record,) = [r for r in caplog.records if r.getMessage().startswith("Event not written")]
        assert (record.object, record.event) == ("shop", "Broken")  # type: ignore[attr-defined]

    def test_an_answer_that_got_lost_makes_no_second_event(self, api: FakeApi, recording: Recording) -> None:
        """The request was done, the connection broke: the same name is tried again, and exists."""
        lost = []  # type: ignore[var-annotated]
        request = api.request

        def lose(*args: Any, **kwargs: Any) -> Any:
            answer = request(*args, **kwargs)
            if not lost:
                lost.append(True)
                raise ConnectionFailed("reset", reason=ConnectionFailed.BROKEN)
            return answer

        api.request = lose  # type: ignore[method-assign]
        recording.event()
        recording.write()
        recording.clock.advance(10)
        recording.event()
        recording.write()
        (event,) = api.objects.values()
        assert event["count"] == 2

    @pytest.mark.parametrize("broken", [{}, {"kind": "Secret"}, {"apiVersion": "v1", "kind": "Secret", "metadata": {}}])
    def test_an_object_without_a_name_is_logged(
        self, broken: Any, api: FakeApi, recording: Recording, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A reconcile does not fail for an event that cannot be written."""
        recording.event(broken)
        recording.write()
        assert api.requests == []
        assert "Cannot write an Event for an object" in caplog.text


def test_long_texts_are_cut(api: FakeApi, recording: Recording) -> None:
    """Message and name keep within what the API server takes."""
    recording.event({**APPLICATION, "metadata": {"name": "n" * 253}}, message="m" * 2000)
    recording.write()
    (event,) = api.objects.values()
    assert len(event["message"]) == 1024
    assert event["message"].endswith("\u2026")
    assert len(event["metadata"]["name"]) == 253


def test_text_of_others_is_made_harmless(api: FakeApi, recording: Recording) -> None:
    """Events are printed by kubectl: what controls a terminal is written as an escape."""
    recording.event(message="\x1b[2Jgone\nFORGED\x9b\u202e")
    recording.write()
    (event,) = api.objects.values()
    assert event["message"] == r"\u001b[2Jgone\nFORGED\u009b\u202e"


class TestStop:
    def test_a_stop_writes_the_remaining_events(self, api: FakeApi, recording: Recording, threads: Threads) -> None:
        for number in range(10):
            recording.event(message=f"Message {number}")
        threads.end()
        assert len(api.objects) == 10

    def test_a_server_that_hangs_does_not_hold_up_the_end(
        self, api: FakeApi, recording: Recording, threads: Threads
    ) -> None:
        """No request may take longer than what is left of the five seconds."""
        timeouts: list[float] = []

        def slow(timeout: float) -> None:
            timeouts.append(timeout)
            recording.clock.advance(min(timeout, 2))

        api.hang = slow
        for number in range(10):
            recording.event(message=f"Message {number}")
        threads.end()
        assert timeouts == [5, 3, 1]

    def test_a_dead_server_does_not_hold_up_the_end(
        self, api: FakeApi, recording: Recording, threads: Threads, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After five seconds the rest is given up, and said so, with those whose requests failed."""

        def slow(_method: str, _path: str) -> None:
            recording.clock.advance(2)
            raise ConnectionFailed("timeout", reason=ConnectionFailed.TIMEOUT)

        api.before = slow
        for number in range(10):
            recording.event(message=f"Message {number}")
        threads.end()
        (record,) = [r for r in caplog.records if r.getMessage() == "Events not written before the stop"]
        assert record.count == 10  # type: ignore[attr-defined]
