"""Runs of the list-watch protocol in one thread: a script answers the requests, and a journal records the calls.

Journal lines: "LIST limit=500", "WATCH rv=10", "WATCHLIST", "REPLACE a,b @10", "ADD a", "UPDATE a",
"DELETE a", "BOOKMARK 12", "WAIT 0.8", "ERROR Forbidden". "-" stands for the empty string.
"""

import threading
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from informers import (
    ApiError,
    KubernetesError,
    ListerWatcher,
    WatchEvent,
    WatchStream,
    split_key,
)
from informers.metrics import InformerMetrics
from informers.reflector import Reflector
from tests.fake_api_server.objects import WIDGETS, bookmark, status, widget, widget_list

Object = dict[str, Any]


class ScriptClock:
    """A sleep of the reflector's thread returns at once and moves the time. Timers of other threads never fire."""

    def __init__(self, journal: list[str]) -> None:
        self._journal = journal
        self._owner = threading.get_ident()
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        raise NotImplementedError("the reflector has no waits of this kind")

    def sleep(self, seconds: float, stop: threading.Event) -> bool:
        if threading.get_ident() != self._owner:
            return stop.wait()
        if not stop.is_set():
            self._journal.append(f"WAIT {seconds:g}")
            self.now += seconds
        return stop.is_set()


@dataclass(frozen=True)
class Page:
    """The answer to a LIST."""

    names: str  # "a b"; each object has the page's version
    version: str = "10"
    continue_: str = ""
    answered_after: float = 0.0

    def answer(self) -> Object:
        return widget_list([widget(name, self.version) for name in self.names.split()], self.version, self.continue_)


@dataclass(frozen=True)
class Stream:
    """The answer to a WATCH: events like "ADDED a 11", "BOOKMARK 12", "END-OF-INITIAL 13", a Status or a raw event. The
    server closes it `seconds` after its headers. With `stop` the run ends as soon as the watch is open."""

    events: tuple[str | Object | WatchEvent, ...] = ()
    seconds: float = 300.0
    stop: bool = False
    answered_after: float = 0.0


@dataclass(frozen=True)
class Stop:
    """The run is stopped during this request."""


Step = Page | Stream | KubernetesError | Stop


def failure(error_type: type[ApiError], reason: str = "", code: int = 0) -> ApiError:
    """The answer to a request is this error."""
    return error_type(f"{reason or error_type.__name__} for a test", status=code, reason=reason)


class _Reflector(Reflector):
    """Its errors are in the journal."""

    def _log_error(self, error: KubernetesError) -> None:
        assert isinstance(self._store, Run)
        self._store.journal.append(f"ERROR {type(error).__name__}")


@dataclass
class Run(ListerWatcher):
    """One run of a reflector with a script. It is stopped at the end of the script."""

    script: list[Step]
    journal: list[str] = field(default_factory=list)
    watch_timeouts: list[int] = field(default_factory=list)
    watch_list: bool = False
    random: float = 0.0
    unstorable: bool = False  # the store refuses lists
    metrics: InformerMetrics = field(default_factory=InformerMetrics)
    listed_at: list[float] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)  # watches that nobody closed

    def __post_init__(self) -> None:
        self.resource = WIDGETS

    def run(self) -> list[str]:
        """Return the journal. Fails if a watch is still open."""
        self.clock = ScriptClock(self.journal)
        self.steps = iter(self.script)
        self.reflector = _Reflector(
            self,
            self,
            name="test",
            clock=self.clock,
            random=lambda: self.random,
            metrics=self.metrics,
            watch_list=self.watch_list,
            transform=transform,
        )
        self.reflector.run()
        assert not self.left_open, f"nobody closed {self.left_open}"
        return self.journal

    # ---- the ListerWatcher

    def list(self, *, limit: int | None, continue_: str, stop: threading.Event) -> Object:
        words = ["LIST"]
        words += [f"limit={limit}"] if limit else []
        words += [f"continue={continue_}"] if continue_ else []
        step = self._next(" ".join(words))
        if isinstance(step, KubernetesError):
            raise step
        assert isinstance(step, Page), f"script: {step} is no answer to a list; so far {self.journal}"
        self.clock.now += step.answered_after
        return step.answer()

    def watch(
        self,
        *,
        resource_version: str,
        timeout_seconds: int,
        send_initial_events: bool = False,
    ) -> "_ScriptedWatch":
        verb = "WATCH"
        if send_initial_events:
            verb = "WATCHLIST"
        self.watch_timeouts.append(timeout_seconds)
        return _ScriptedWatch(self, f"{verb} rv={resource_version or '-'}")

    def _next(self, line: str) -> Step:
        assert not self.reflector.is_watching, "it says that it watches, and has no watch"
        step = next(self.steps, None)
        if step is None or isinstance(step, Stop):
            self.reflector.stop()
            # What a real request does when it is cut off by the stop; nobody must react to it.
            raise failure(ApiError, "Stopped")
        self.journal.append(line)
        return step

    # ---- the store

    def put(self, key: str, obj: Object) -> None:
        self.journal.append(f"PUT {split_key(key)[1]}")

    def delete(self, key: str, obj: Object) -> None:
        self.journal.append(f"DELETE {split_key(key)[1]}")

    def replace(self, objects: dict[str, Object], kept: Set[str], version: str, listed_at: float) -> None:
        if self.unstorable:
            raise RuntimeError("this list cannot be stored")
        self.listed_at.append(listed_at)
        names = ",".join(split_key(key)[1] for key in objects) or "-"
        also = "".join(f" +{split_key(key)[1]}" for key in sorted(kept))
        self.journal.append(f"REPLACE {names}{also} @{version}")

    def bookmark(self, version: str) -> None:
        self.journal.append(f"BOOKMARK {version}")


def transform(obj: Object) -> Object:
    """That of the runs: it cannot take an object of the name untransformable, or one that is broken."""
    if obj["metadata"]["name"] == "untransformable" or "broken" in obj["spec"]:
        raise LookupError("the secret is x")
    return obj


class _ScriptedWatch(WatchStream):
    def __init__(self, run: Run, line: str) -> None:
        self._run = run
        self._line = line

    def open(self) -> None:
        step = self._run._next(self._line)
        if isinstance(step, KubernetesError):
            raise step
        assert isinstance(step, Stream), f"script: {step} is no answer to a watch; so far {self._run.journal}"
        self._answer = step
        self._run.clock.now += step.answered_after
        self._run.left_open.append(self._line)
        if step.stop:
            self._run.reflector.stop()

    def __iter__(self) -> Iterator[WatchEvent]:
        for event in self._answer.events:
            yield event_of(event)
        self._run.clock.now += self._answer.seconds

    def stop(self) -> None:
        """Nothing blocks here."""

    def close(self) -> None:
        if self._line in self._run.left_open:
            self._run.left_open.remove(self._line)


def event_of(text: str | Object | WatchEvent) -> WatchEvent:
    """The event for a text of a Stream."""
    if isinstance(text, WatchEvent):
        return text
    if isinstance(text, dict):
        return WatchEvent("ERROR", text)
    kind, *rest = text.split()
    if kind == "BOOKMARK":
        return WatchEvent("BOOKMARK", bookmark(rest[0]))
    if kind == "END-OF-INITIAL":
        return WatchEvent("BOOKMARK", bookmark(rest[0], ends_initial_events=True))
    return WatchEvent(kind, widget(rest[0], rest[1]))


EXPIRED = status(410, "Expired")
