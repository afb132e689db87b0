"""What the tests of the controller core share: a virtual clock, threads that are joined, an API server in memory."""

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from informers import AlreadyExists, Conflict, NotFound, Stop
from tests.clock import VirtualClock

Object = dict[str, Any]
# Real seconds in which a thread has to end, generous: the machine may be busy.
JOIN_SECONDS = 20.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Threads:
    """Runs functions of a stop event in threads, and keeps what they raise."""

    def __init__(self) -> None:
        self.stop = Stop()
        self._threads: list[threading.Thread] = []
        self.errors: list[Exception] = []

    def start(self, run: Callable[[Stop], object]) -> threading.Thread:
        def target() -> None:
            try:
                run(self.stop)
            except Exception as error:  # noqa: BLE001 - the test takes it
                self.errors.append(error)

        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def end(self) -> None:
        """Stop, and wait until every function has returned."""
        self.stop.set()
        self.join()

    def error(self) -> Exception:
        """Wait until every function has returned; take the error that one of them must have raised."""
        self.join()
        (error,) = self.errors
        self.errors.clear()
        return error

    def join(self) -> None:
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
            assert not thread.is_alive(), "a thread did not end"


@pytest.fixture
def threads() -> Iterator[Threads]:
    running = Threads()
    yield running
    running.end()
    assert running.errors == [], "a thread failed, and the test did not expect it"


class FakeApi:
    """Objects by path, with the API server's rules for resourceVersions: what the core's clients may rely on.

    before: called with method and path ahead of each request; whatever it raises is the answer. hang: called with the
    request's timeout before that.
    """

    refused_for = 0.0
    stop: Stop  # of a view

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.before: Callable[[str, str], None] = lambda _method, _path: None
        self.hang: Callable[[float], None] = lambda _timeout: None
        self._version = 0
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        content_type: str = "application/json",
        timeout: float | None = None,
    ) -> Object:
        assert timeout is not None, "without a timeout a hanging server would block its caller"
        self.hang(timeout)
        self.before(method, path)
        with self._lock:
            self.requests.append((method, path, copy.deepcopy(body)))
            return copy.deepcopy(getattr(self, f"_{method.lower()}")(path, copy.deepcopy(body), content_type))

    def until(self, fence: Stop | None, *, stop: Stop, answered: Callable[..., None] = lambda *_: None) -> "FakeApi":
        """Client.until: the same objects, and refusals once the fence is set."""
        view = copy.copy(self)

        def request(*args: Any, **kwargs: Any) -> Object:
            if fence is not None:
                fence.check()
            try:
                return self.request(*args, **kwargs)
            finally:
                answered()

        view.stop = stop
        view.request = request  # type: ignore[method-assign]
        return view

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.requests]

    def change(self, path: str, change: Callable[[Object], None]) -> None:
        """Write as another client."""
        with self._lock:
            change(self.objects[path])
            self._bump(self.objects[path])

    def _get(self, path: str, _body: object, _type: str) -> Object:
        if path not in self.objects:
            raise NotFound(f"{path} not found", status=404, reason="NotFound")
        return self.objects[path]

    def _post(self, path: str, body: Object, _type: str) -> Object:
        path = f"{path}/{body['metadata']['name']}"
        if path in self.objects:
            raise AlreadyExists(f"{path} exists", status=409, reason="AlreadyExists")
        self._bump(body)
        self.objects[path] = body
        return body

    def _put(self, path: str, body: Object, _type: str) -> Object:
        current = self._get(path, None, "")
        if body["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]:
            raise Conflict(f"{path} was changed", status=409, reason="Conflict")
        self._bump(body)
        self.objects[path] = body
        return body

    def _patch(self, path: str, body: Object, content_type: str) -> Object:
        assert content_type == "application/merge-patch+json"
        current = self._get(path, None, "")
        current.update(body)
        self._bump(current)
        return current

    def _bump(self, obj: Object) -> None:
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()
