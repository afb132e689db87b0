"""Whole runs of the list-watch protocol: what is asked, what is stored, how long is waited."""

import pytest

from informers import (
    ApiError,
    ConnectionFailed,
    Expired,
    Forbidden,
    Invalid,
    ServerError,
    TooManyRequests,
    WatchEvent,
)
from tests.fake_api_server.objects import bookmark, status, widget
from tests.fake_api_server.script import EXPIRED, Page, Run, Step, Stop, Stream, failure

REFUSED = failure(ConnectionFailed, ConnectionFailed.REFUSED)
RESET = failure(ConnectionFailed, ConnectionFailed.BROKEN)
TOO_MANY = failure(TooManyRequests, "TooManyRequests", 429)
GONE_ERROR = failure(Expired, "Expired", 410)
FORBIDDEN = failure(Forbidden, "Forbidden", 403)
INTERNAL = status(500, "InternalError")
PAGE = Page("a b")
START = ["LIST limit=500", "REPLACE a,b @10"]

RULES: dict[str, tuple[list[Step], list[str]]] = {
    "a list is of the latest state and in pages, the watch goes on from its version": (
        [PAGE, Stream(("ADDED c 11", "MODIFIED a 12", "DELETED b 13")), Stop()],
        [*START, "WATCH rv=10", "PUT c", "PUT a", "DELETE b"],
    ),
    "an empty list is a list": ([Page(""), Stop()], ["LIST limit=500", "REPLACE - @10"]),
    "a watch that ends is resumed from the last version at once, without a list": (
        [PAGE, Stream(("ADDED c 11",)), Stream(), Stream(("BOOKMARK 20",)), Stop()],
        [*START, "WATCH rv=10", "PUT c", "WATCH rv=11", "WATCH rv=11", "BOOKMARK 20"],
    ),
    "a bookmark moves the version on": (
        [PAGE, Stream(("BOOKMARK 19",)), Stream(), Stop()],
        [*START, "WATCH rv=10", "BOOKMARK 19", "WATCH rv=19"],
    ),
    "a watch closed within a second without an event costs a wait and a list": (
        [PAGE, Stream(seconds=0.9), Page("a", "12"), Stop()],
        [*START, "WATCH rv=10", "WAIT 0.8", "LIST limit=500", "REPLACE a @12"],
    ),
    "a watch is not short if its headers came late: a proxy may send them with the first event": (
        [PAGE, Stream(seconds=0.1, answered_after=1), Stream(("BOOKMARK 11",)), Stop()],
        [*START, "WATCH rv=10", "WATCH rv=10", "BOOKMARK 11"],
    ),
    "a watch closed within a second after an event is resumed": (
        [PAGE, Stream(("ADDED c 11",), seconds=0.1), Stream(), Stop()],
        [*START, "WATCH rv=10", "PUT c", "WATCH rv=11"],
    ),
    "a refused connection costs growing waits and a list: the server may come back with an older state": (
        [PAGE, REFUSED, REFUSED, Page("a", "3"), Stream(), Stop()],
        [
            *START,
            *(
                "WATCH rv=10",
                "ERROR ConnectionFailed",
                "WAIT 0.8",
                "LIST limit=500",
                "ERROR ConnectionFailed",
                "WAIT 1.6",
            ),
            *("LIST limit=500", "REPLACE a @3", "WATCH rv=3"),
        ],
    ),
    "429 at the watch's start costs a wait and no list": (
        [PAGE, TOO_MANY, Stream(), Stop()],
        [*START, "WATCH rv=10", "WAIT 0.8", "WATCH rv=10"],
    ),
    "any other error at the watch's start is told to the handler and costs a list": (
        [PAGE, RESET, PAGE, FORBIDDEN, PAGE, Stop()],
        [
            *START,
            *("WATCH rv=10", "ERROR ConnectionFailed", "WAIT 0.8", "LIST limit=500", "REPLACE a,b @10"),
            *("WATCH rv=10", "ERROR Forbidden", "WAIT 1.6", "LIST limit=500", "REPLACE a,b @10"),
        ],
    ),
    "410 at the watch's start costs a wait and a list": (
        [PAGE, GONE_ERROR, Page("a", "30"), Stop()],
        [*START, "WATCH rv=10", "ERROR Expired", "WAIT 0.8", "LIST limit=500", "REPLACE a @30"],
    ),
    "Expired in the stream costs a wait and a list": (
        [PAGE, Stream(("ADDED c 11", EXPIRED)), Page("a", "30"), Stop()],
        [*START, "WATCH rv=10", "PUT c", "WAIT 0.8", "LIST limit=500", "REPLACE a @30"],
    ),
    "429 in the stream costs a wait and no list": (
        [PAGE, Stream((status(429, "TooManyRequests"),)), Stream(), Stop()],
        [*START, "WATCH rv=10", "WAIT 0.8", "WATCH rv=10"],
    ),
    "InternalError in the stream costs a list": (
        [PAGE, Stream((INTERNAL,)), PAGE, Stop()],
        [*START, "WATCH rv=10", "WAIT 0.8", "LIST limit=500", "REPLACE a,b @10"],
    ),
    "an object that cannot be read any more and was deleted is missing from the list that its error costs": (
        [PAGE, Stream(("ADDED corrupt 11", status(500, "StoreReadError"))), Page("a b", "12"), Stop()],
        [*START, "WATCH rv=10", "PUT corrupt", "WAIT 0.8", "LIST limit=500", "REPLACE a,b @12"],
    ),
    "a list that is refused is told to the handler, and tried again for ever with growing waits": (
        [FORBIDDEN, FORBIDDEN, REFUSED, PAGE, Stop()],
        [
            *("LIST limit=500", "ERROR Forbidden", "WAIT 0.8"),
            *("LIST limit=500", "ERROR Forbidden", "WAIT 1.6"),
            *("LIST limit=500", "ERROR ConnectionFailed", "WAIT 3.2"),
            *START,
        ],
    ),
    "later pages are asked for by their token alone; the version is the first page's": (
        [Page("a", "10", "t1"), Page("b", "11", "t2"), Page("c", "12"), Stream(), Stop()],
        [
            *("LIST limit=500", "LIST limit=500 continue=t1", "LIST limit=500 continue=t2"),
            *("REPLACE a,b,c @10", "WATCH rv=10"),
        ],
    ),
    "410 on the first page costs a wait as any error of a list": (
        [GONE_ERROR, PAGE, Stop()],
        ["LIST limit=500", "ERROR Expired", "WAIT 0.8", *START],
    ),
    "410 on a later page is met by one whole list": (
        [Page("a untransformable", "10", "t1"), GONE_ERROR, Page("x y", "15"), Stream(), Stop()],
        [
            *("LIST limit=500", "LIST limit=500 continue=t1", "LIST"),
            *("REPLACE x,y @15", "WATCH rv=15"),
        ],
    ),
    "an object of the wrong kind, a Table or one without a version is skipped and does not move the version": (
        [
            PAGE,
            Stream(
                (
                    WatchEvent("ADDED", widget("x", 21) | {"kind": "Gadget"}),
                    WatchEvent("ADDED", widget("x", 22) | {"apiVersion": "example.com/v2"}),
                    WatchEvent("ADDED", {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}}),
                    WatchEvent("ADDED", {"kind": "Widget", "apiVersion": "example.com/v1"}),
                    WatchEvent("BOOKMARK", bookmark("")),
                )
            ),
            Stream(),
            Stop(),
        ],
        [*START, "WATCH rv=10", "WATCH rv=10"],
    ),
    "a bookmark of another kind ends the watch: the events of the right objects would be skipped": (
        [PAGE, Stream((WatchEvent("BOOKMARK", bookmark("11") | {"kind": "Gadget"}),)), PAGE, Stop()],
        [*START, "WATCH rv=10", "WAIT 0.8", "LIST limit=500", "REPLACE a,b @10"],
    ),
    "an event of unknown type is skipped and moves the version": (
        [PAGE, Stream(("POLISHED c 11",)), Stream(), Stop()],
        [*START, "WATCH rv=10", "WATCH rv=11"],
    ),
    "an object that cannot be transformed keeps its earlier state and moves the version": (
        [PAGE, Stream(("ADDED untransformable 11", "ADDED c 12", "DELETED untransformable 13")), Stream(), Stop()],
        [*START, "WATCH rv=10", "PUT c", "DELETE untransformable", "WATCH rv=13"],
    ),
    "so it is in a list": (
        [Page("a untransformable"), Stop()],
        ["LIST limit=500", "REPLACE a +untransformable @10"],
    ),
    "a change without a name is skipped and moves the version": (
        [PAGE, Stream((WatchEvent("ADDED", widget("", 11)), "ADDED c 12")), Stream(), Stop()],
        [*START, "WATCH rv=10", "PUT c", "WATCH rv=12"],
    ),
    "an event that is older than the cache is from a restored server and costs a wait and a list": (
        [PAGE, Stream(("ADDED c 11", "ADDED b 9", "ADDED d 12")), Page("b", "9"), Stream(("ADDED c 10",)), Stop()],
        [
            *(*START, "WATCH rv=10", "PUT c", "WAIT 0.8", "LIST limit=500", "REPLACE b @9"),
            *("WATCH rv=9", "PUT c"),
        ],
    ),
    "a bookmark that is older than the cache costs the same": (
        [PAGE, Stream(("BOOKMARK 9",)), Page("b", "9"), Stop()],
        [*START, "WATCH rv=10", "WAIT 0.8", "LIST limit=500", "REPLACE b @9"],
    ),
    "versions are numbers, however long": (
        [
            Page("a", "9"),
            Stream(("ADDED b 10", "ADDED c 100000000000000000000", "BOOKMARK 99")),
            Page("a", "99"),
            Stop(),
        ],
        [
            *("LIST limit=500", "REPLACE a @9", "WATCH rv=9", "PUT b", "PUT c"),
            *("WAIT 0.8", "LIST limit=500", "REPLACE a @99"),
        ],
    ),
    "versions that are no numbers have no order": (
        [Page("a", "v9"), Stream(("ADDED b v8", "ADDED c 07", "ADDED d 6", "ADDED e -7")), Stream(), Stop()],
        [
            *("LIST limit=500", "REPLACE a @v9", "WATCH rv=v9", "PUT b", "PUT c", "PUT d", "PUT e"),
            "WATCH rv=-7",
        ],
    ),
    "two silent watches in a row cost a wait and a list": (
        [PAGE, Stream(seconds=70), Stream(seconds=70), PAGE, Stream(seconds=70), Stream(seconds=70), PAGE, Stop()],
        [
            *(*START, "WATCH rv=10", "WATCH rv=10", "WAIT 0.8"),
            *(*START, "WATCH rv=10", "WATCH rv=10", "WAIT 0.8", *START),
        ],
    ),
    "so do many that a proxy cuts early": (
        [PAGE, *[Stream(seconds=50)] * 3, PAGE, Stop()],
        [*START, "WATCH rv=10", "WATCH rv=10", "WATCH rv=10", "WAIT 0.8", *START],
    ),
    "with bookmarks no watch is silent": (
        [PAGE, *[Stream(seconds=70), Stream(("BOOKMARK 11",), seconds=70)] * 2, Stream(seconds=70), Stop()],
        [
            *(*START, "WATCH rv=10", "WATCH rv=10", "BOOKMARK 11"),
            *("WATCH rv=11", "WATCH rv=11", "BOOKMARK 11", "WATCH rv=11"),
        ],
    ),
    "without a version to start from, the first ADDED events are no place to resume from": (
        [Page("", ""), Stream(("ADDED a 7", "ADDED b 5")), Stream(("ADDED a 7", "MODIFIED b 8")), Stream(), Stop()],
        [
            *("LIST limit=500", "REPLACE - @", "WATCH rv=-", "PUT a", "PUT b"),
            *("WATCH rv=-", "PUT a", "PUT b", "WATCH rv=8"),
        ],
    ),
}


@pytest.mark.parametrize(("script", "journal"), RULES.values(), ids=RULES.keys())
def test_list_and_watch(script: list[Step], journal: list[str]) -> None:
    """The run is exactly this."""
    assert Run(script).run() == journal


def broken(name: str, version: int) -> WatchEvent:
    """The change of an object that cannot be transformed."""
    return WatchEvent("MODIFIED", widget(name, version, broken=True))


ODD_BOOKMARK = widget("", 9)
ODD_BOOKMARK["metadata"]["annotations"] = ["k8s.io/initial-events-end"]
INITIAL = Stream(("ADDED a 7", "ADDED b 5", "END-OF-INITIAL 10"))
STREAMED_RULES: dict[str, tuple[list[Step], list[str]]] = {
    "the initial events fill the store in one step, and the same stream goes on as the watch": (
        [Stream(("ADDED a 7", "ADDED b 5", "END-OF-INITIAL 10", "MODIFIED a 11", "DELETED b 12")), Stream(), Stop()],
        ["WATCHLIST rv=-", "REPLACE a,b @10", "PUT a", "DELETE b", "WATCH rv=12"],
    ),
    "changes among the initial events count": (
        [Stream(("ADDED a 7", "ADDED b 5", "DELETED a 8", "MODIFIED b 9", "BOOKMARK 9", "END-OF-INITIAL 10")), Stop()],
        ["WATCHLIST rv=-", "REPLACE b @10"],
    ),
    "an object that cannot be transformed is there": (
        [Stream(("ADDED a 7", "ADDED untransformable 8", "DELETED a 9", "END-OF-INITIAL 10")), Stop()],
        ["WATCHLIST rv=-", "REPLACE - +untransformable @10"],
    ),
    "an object is there by its last state, whether it could be transformed before or not": (
        [
            Stream(
                (
                    *("ADDED a 2", broken("a", 3), broken("b", 4), "MODIFIED b 5", broken("c", 6), "DELETED c 7"),
                    *("DELETED d 8", "END-OF-INITIAL 10"),
                )
            ),
            Stop(),
        ],
        ["WATCHLIST rv=-", "REPLACE b +a @10"],
    ),
    "a bookmark whose annotations are of another shape ends nothing": (
        [Stream(("ADDED a 7", WatchEvent("BOOKMARK", ODD_BOOKMARK), "ADDED b 5", "END-OF-INITIAL 10")), Stop()],
        ["WATCHLIST rv=-", "REPLACE a,b @10"],
    ),
    "a stream that ends before the initial events do is begun again from nothing": (
        [Stream(("ADDED x 7",)), INITIAL, Stop()],
        ["WATCHLIST rv=-", "WAIT 0.8", "WATCHLIST rv=-", "REPLACE a,b @10"],
    ),
    "a server that does not know it is asked for a LIST in this round, and again in the next": (
        [failure(Invalid, "Invalid", 422), PAGE, RESET, failure(Invalid, "Invalid", 422), PAGE, Stop()],
        [
            *("WATCHLIST rv=-", "LIST limit=500", "REPLACE a,b @10", "WATCH rv=10"),
            *("ERROR ConnectionFailed", "WAIT 0.8", "WATCHLIST rv=-", "LIST limit=500", "REPLACE a,b @10"),
        ],
    ),
    "a server that closes it at once is asked for a LIST": (
        [Stream(seconds=0.1), PAGE, Stop()],
        ["WATCHLIST rv=-", "LIST limit=500", "REPLACE a,b @10"],
    ),
    "an error among the initial events is met by a LIST": (
        [Stream(("ADDED a 7", INTERNAL)), PAGE, Stop()],
        ["WATCHLIST rv=-", "LIST limit=500", "REPLACE a,b @10"],
    ),
    "a refused connection and 429 are met by waits": (
        [REFUSED, TOO_MANY, INITIAL, Stop()],
        ["WATCHLIST rv=-", "WAIT 0.8", "WATCHLIST rv=-", "WAIT 1.6", "WATCHLIST rv=-", "REPLACE a,b @10"],
    ),
    "the next one is of the latest state too": (
        [INITIAL, RESET, INITIAL, Stop()],
        [
            *("WATCHLIST rv=-", "REPLACE a,b @10", "WATCH rv=10", "ERROR ConnectionFailed", "WAIT 0.8"),
            *("WATCHLIST rv=-", "REPLACE a,b @10"),
        ],
    ),
}


LISTED_AT: dict[bool, list[Step]] = {
    False: [FORBIDDEN, Page("a", "10", "t1", answered_after=2), Page("b", answered_after=3), Stop()],
    True: [REFUSED, Stream(INITIAL.events, answered_after=2), Stop()],
}


@pytest.mark.parametrize(("watch_list", "script"), LISTED_AT.items(), ids=["LIST", "streamed list"])
def test_a_list_is_as_old_as_its_first_request(watch_list: bool, script: list[Step]) -> None:
    """An object that was written after that may be missing from it."""
    run = Run(script, watch_list=watch_list)
    run.run()
    assert run.listed_at == [0.8]


class TestNothingStaysOpen:
    """No watch is left open, whatever ends it (Run.run() looks)."""

    def test_stop_as_the_watch_opens(self) -> None:
        """A stop that comes when the answer is there but not yet read."""
        assert Run([PAGE, Stream(stop=True)]).run() == [*START, "WATCH rv=10"]

    def test_stop_as_the_streamed_list_opens(self) -> None:
        """The same for a list that is streamed."""
        assert Run([Stream(stop=True)], watch_list=True).run() == ["WATCHLIST rv=-"]

    def test_store_that_refuses_a_streamed_list(self) -> None:
        """The stream of a list that cannot be stored is not the next watch."""
        run = Run([INITIAL, Stop()], watch_list=True, unstorable=True)
        with pytest.raises(RuntimeError, match="cannot be stored"):
            run.run()
        assert not run.left_open


@pytest.mark.parametrize(("script", "journal"), STREAMED_RULES.values(), ids=STREAMED_RULES.keys())
def test_streamed_list(script: list[Step], journal: list[str]) -> None:
    """The run with lists streamed by watches is exactly this."""
    assert Run(script, watch_list=True).run() == journal


def test_waits_grow_to_a_minute_at_most() -> None:
    """0.8 s doubled up to 30 s, and up to as much again at random."""
    for random, factor in ((0.0, 1.0), (0.5, 1.5)):
        run = Run([FORBIDDEN] * 8, random=random)
        waits = [float(line.split()[1]) for line in run.run() if line.startswith("WAIT")]
        assert waits == pytest.approx([factor * s for s in (0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30)])


def test_waits_start_anew_after_two_minutes_without_one() -> None:
    """A failure long ago says nothing about now."""
    shorter, longer = (Stream(("BOOKMARK 10",), seconds=seconds) for seconds in (118, 121))
    run = Run([FORBIDDEN, FORBIDDEN, PAGE, shorter, RESET, PAGE, longer, RESET, PAGE, Stop()])
    assert [line for line in run.run() if line.startswith("WAIT")] == ["WAIT 0.8", "WAIT 1.6", "WAIT 3.2", "WAIT 0.8"]


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 300), (0.5, 450)])
def test_watches_end_by_themselves_after_a_random_time(random: float, seconds: int) -> None:
    """Between five minutes and twice that."""
    run = Run([PAGE, Stream(), Stop()], random=random)
    run.run()
    assert run.watch_timeouts[0] == seconds


class TestLastError:
    """last_error tells what listing or watching fails with just now."""

    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            ([FORBIDDEN], Forbidden),
            ([FORBIDDEN, PAGE], None),
            ([PAGE, REFUSED], ConnectionFailed),
            ([PAGE, REFUSED, PAGE], None),
            ([PAGE, TOO_MANY], TooManyRequests),
            ([PAGE, Stream((status(429, "TooManyRequests"),))], TooManyRequests),
            ([PAGE, Stream((INTERNAL,))], ServerError),
            ([PAGE, Stream((EXPIRED,))], None),
            ([PAGE, Stream(), Stream()], ApiError),
            ([PAGE, Stream(), Stream(), PAGE, Stream()], ApiError),
            ([PAGE, Stream(), Stream(), PAGE, Stream(("BOOKMARK 11",))], None),
        ],
    )
    def test_last_error(self, script: list[Step], expected: type[ApiError] | None) -> None:
        """None as soon as a request succeeds. It holds no frames, and so neither lists nor connections."""
        run = Run([*script, Stop()])
        run.run()
        seen = run.reflector.last_error
        assert (None if seen is None else type(seen)) is expected
        assert seen is None or seen.__traceback__ is None

    def test_silent_watches_are_told(self) -> None:
        """A proxy that passes nothing on before the end is a likely cause."""
        run = Run([PAGE, Stream(), Stream(), Stop()])
        run.run()
        error = run.reflector.last_error
        assert isinstance(error, ApiError)
        assert error.reason == "WatchesSilent"
        assert str(error).startswith("watches are silent: 2 in a row")

    def test_a_streamed_list_that_is_refused_is_told(self) -> None:
        run = Run([REFUSED, Stop()], watch_list=True)
        run.run()
        assert isinstance(run.reflector.last_error, ConnectionFailed)
