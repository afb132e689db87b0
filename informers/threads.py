"""Threads for short blocking calls, which are reused: a new thread for each request would cost more than the
request.
"""

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

Task = tuple[str, Callable[[], None]]

# Long enough for a burst of requests, and short enough to leave no threads behind.
IDLE_SECONDS = 1.0
_IDLE_NAME = "idle"

# Of each idle thread the queue that it waits at; the one used last is used first. Each queue is in here at most once,
# and whoever takes it out owns it: a caller to put a task in, or the thread itself to end.
_idle: list["queue.SimpleQueue[Task]"] = []


def run_in_thread(name: str, work: Callable[[], None]) -> None:
    """Begin work() in a daemon thread of that name, and return at once."""
    try:
        tasks = _idle.pop()
    except IndexError:
        tasks = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(tasks,), name=name, daemon=True).start()
    tasks.put((name, work))


def _serve(tasks: "queue.SimpleQueue[Task]") -> None:
    thread = threading.current_thread()
    while True:
        try:
            thread.name, work = tasks.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            try:
                _idle.remove(tasks)
            except ValueError:
                continue  # somebody has just taken it, and puts a task in
            return
        try:
            work()
        except BaseException:  # no other code would log it
            log.exception("A call in a separate thread failed", extra={"task": thread.name})
        del work  # what it holds on to
        thread.name = _IDLE_NAME
        _idle.append(tasks)
