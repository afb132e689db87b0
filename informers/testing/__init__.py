"""For tests of controllers: an API server that does what it is told, and time that stands still until it is moved.

    with FakeAPIServer(Cluster(CONFIG_MAPS)) as server:
        server.cluster.put("a", size=1)                    # what somebody else does
        server.inject("watch", CutMidLine(), Silent())     # the next watch is cut, the one after it goes silent
        client = server.client(clock=HastyClock())         # a real client, over real HTTP on the loopback
        ...
        eventually(lambda: client.get(CONFIG_MAPS, "a", namespace="default")["spec"] == {"size": 2})

- FakeAPIServer serves the objects of one kind: lists in pages, watches with bookmarks and history, streamed lists,
  reads, and writes with conflicts, uids and merge patches. No selectors, no validation: for these take a real API
  server.
- Faults are ordered with inject(verb, ...): the next requests of the verb ("list", "watch", or "other") meet them, one
  each. `requests` tells what was asked, in order; refuse() and listen() take the server away and bring it back.
- Cluster is the state behind it. InProcess gives that state to an informer without HTTP.
- script.Run plays a table of answers to a reflector in one thread, and writes down what it asked, stored and waited.
- VirtualClock (of workqueue.testing) stands still until advance(). HastyClock skips every wait and counts it.
- eventually() waits for the effect of other threads.
"""

from informers.testing.cluster import Cluster, Event, Refused
from informers.testing.in_process import InProcess, api_error
from informers.testing.objects import WIDGETS, bookmark, status, widget, widget_list
from informers.testing.server import (
    Answer,
    CloseAtOnce,
    CloseWithoutAnswer,
    CutMidLine,
    EndMidLine,
    ErrorEvent,
    FakeAPIServer,
    Fault,
    NoAnswer,
    Raw,
    Request,
    Silent,
)
from informers.testing.waiting import HastyClock, eventually
from workqueue.testing import VirtualClock

__all__ = [
    "WIDGETS",
    "Answer",
    "CloseAtOnce",
    "CloseWithoutAnswer",
    "Cluster",
    "CutMidLine",
    "EndMidLine",
    "ErrorEvent",
    "Event",
    "FakeAPIServer",
    "Fault",
    "HastyClock",
    "InProcess",
    "NoAnswer",
    "Raw",
    "Refused",
    "Request",
    "Silent",
    "VirtualClock",
    "api_error",
    "bookmark",
    "eventually",
    "status",
    "widget",
    "widget_list",
]
