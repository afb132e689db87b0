"""For the tests of this package: an API server that fails on request, scripted runs, and clocks. Not public.

    with FakeAPIServer(Cluster(CONFIG_MAPS)) as server:
        server.cluster.put("a", size=1)                    # a write of another client
        server.inject("watch", CutMidLine(), Silent())     # faults of the next two watches
        client = server.client(clock=HastyClock())         # a real client, over real HTTP on the loopback
        ...
        eventually(lambda: client.get(CONFIG_MAPS, "a", namespace="default")["spec"] == {"size": 2})

- FakeAPIServer serves the objects of one kind: lists in pages, watches with bookmarks and history, streamed lists,
  reads, and writes with conflicts, uids and merge patches. It validates nothing. It refuses what it does not implement:
  finalizers, generateName, selectors, dry runs, other patches, subresources. Use a real API server to test these.
- inject(verb, ...) adds faults for the next requests of the verb ("list", "watch", or "other"), one for each request.
  `requests` has all requests in order. refuse() stops the server, and listen() starts it again.
- Cluster is the state of the server. InProcess serves this state to an informer without HTTP.
- script.Run runs a reflector in one thread against a list of answers, and records its requests, writes and waits.
- VirtualClock (of workqueue.testing) moves only by advance(). HastyClock skips every wait and adds it to its time.
- eventually() waits for the effects of other threads.
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
