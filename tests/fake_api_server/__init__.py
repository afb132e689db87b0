"""An API server for one kind of object that fails on request, and scripted runs of a reflector.

    with FakeAPIServer() as server:
        server.cluster.put("a", size=1)                    # a write of another client
        server.inject("watch", CutMidLine(), Silent())     # faults of the next two watches
        client = server.client(clock=HastyClock())         # a real client, over real HTTP on the loopback
        ...

- `cluster.Cluster` is the state. `server.FakeAPIServer` serves it: lists in pages, watches with bookmarks and history,
  streamed lists. Other requests get only injected answers: for the rules of writes, tests use a real API server.
- `in_process.InProcess` serves the state to an informer without HTTP.
- `script.Run` runs a reflector in one thread against a list of answers, and records its requests, writes and waits.
- `waiting.HastyClock` skips every wait and adds it to its time, FastClock shortens them; eventually() waits for the
  effects of other threads.
"""
