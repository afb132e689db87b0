"""An agent that ends by SIGKILL at the n-th point of what one of its controllers says to Compass and the API server.

    python -m tests.chaos.connection.victim KUBECONFIG CONTROLLER POINT TRACE

Every HTTP exchange of the controller's workers has three points: before it is sent, when it is sent, when the answer is
here. Each is appended to the file TRACE, as monotonic time, phase, method and path. Settings come from the environment.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3.connection

from controller.agent import build
from controller.runtime import Metrics, logs, stop_on_signals
from controller.settings import Settings
from informers import Client
from tests.support.agent_thread import small_key

PHASES = ("before", "sent", "answered")


class Points:
    """Counts the points of the threads of a controller (its name, or name-number), and dies at one of them."""

    def __init__(self, controller: str, last: int, trace: Path) -> None:
        self._controller = controller
        self._last = last
        self._trace = trace.open("ab", buffering=0)
        self._count = 0

    def cross(self, phase: str, method: str, path: str) -> None:
        name = threading.current_thread().name
        if name != self._controller and not name.startswith(f"{self._controller}-"):
            return
        self._count += 1
        self._trace.write(f"{time.monotonic()} {phase} {method} {path}\n".encode())
        if self._count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, kind: Any) -> None:
        """Put the points around `request` and `getresponse` of a class of connections."""
        request: Callable[..., Any] = kind.request
        getresponse: Callable[..., Any] = kind.getresponse
        under_way = threading.local()

        def sent(connection: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            under_way.what = method, url
            self.cross("before", method, url)
            result = request(connection, method, url, *args, **kwargs)
            self.cross("sent", method, url)
            return result

        def answered(connection: Any, *args: Any, **kwargs: Any) -> Any:
            answer = getresponse(connection, *args, **kwargs)
            self.cross("answered", *under_way.what)
            return answer

        kind.request, kind.getresponse = sent, answered


def main(kubeconfig: str, controller: str, point: str, trace: str) -> None:
    Points(controller, int(point), Path(trace)).watch(urllib3.connection.HTTPConnection)
    logs.setup(level="info", output="text")
    client = Client.load(kubeconfig, user_agent="compass-runtime-agent/test")
    build(Settings.from_environment(os.environ), client, Metrics(), new_key=small_key).run(stop_on_signals())


if __name__ == "__main__":
    main(*sys.argv[1:])
