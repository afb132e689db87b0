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

# The queues of the idle threads; the one used last is used first. A queue is in this list at most once. The thread that
# removes it owns it: a caller, who puts a task into it, or the idle thread itself, which ends.
_idle: list["queue.SimpleQueue[Task]"] = []


def run_in_thread(name: str, work: Callable[[], None]) -> None:
    """Start work() in a daemon thread with this name, and return at once."""
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
                continue  # a caller has just taken it, and puts a task into it
            return
        try:
            work()
        except BaseException:  # no other code would log it
            log.exception("A call in a separate thread failed", extra={"task": thread.name})
        del work  # and everything that it refers to
        thread.name = _IDLE_NAME
        _idle.append(tasks)
