"""One measurement of one informer, in a process of its own.

Usage: python -m tests.benchmarks.informer.peer WHICH KUBECONFIG OBJECTS EVENTS

WHICH: ours or official, with options behind dashes: pods (a kind with models), tuned (the cycle collector as the README
of informers/ advises).

Prints JSON: seconds and CPU seconds until a handler has heard of OBJECTS additions, resident bytes held afterwards, and
milliseconds and CPU milliseconds for each of EVENTS changes, from the request for them to the last handler call.
"""

import ctypes
import gc
import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.informer.objects import GROUP, PLURAL, VERSION

Object = dict[str, Any]
Start = Callable[[], None]


class Counter:
    """Sets `reached` at the last of `count` calls."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.reached = threading.Event()

    def __call__(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached.set()


def ours(which: list[str], kubeconfig: str, added: Counter, updated: Counter) -> Start:
    from controller.resources import APPLICATION
    from informers import Client, EventHandlers, ListerWatcher, Resource, SharedInformer, Stop

    pods = Resource("", "v1", "pods", "Pod")
    source = ListerWatcher(Client.load(kubeconfig), pods if "pods" in which else APPLICATION)
    informer = SharedInformer(
        source,
        name=PLURAL,
    )
    informer.add_event_handler(EventHandlers(on_add=added, on_update=updated))
    return threading.Thread(target=informer.run, args=(Stop(),), daemon=True).start


def official(which: list[str], kubeconfig: str, added: Counter, updated: Counter) -> Start:
    """The official SharedInformer reads .items and .metadata of a list, which custom objects, being dicts, do not have:
    without this adapter it cannot list them at all."""
    from kubernetes.client import CoreV1Api, CustomObjectsApi
    from kubernetes.config import new_client_from_config
    from kubernetes.informer import SharedInformer

    client = new_client_from_config(kubeconfig)
    api = CustomObjectsApi(client)

    class Metadata:
        resource_version: str

    class List:
        def __init__(self, answer: Object) -> None:
            self.items = answer["items"]
            self.metadata = Metadata()
            self.metadata.resource_version = answer["metadata"]["resourceVersion"]

    def applications(**arguments: Any) -> Any:
        answer = api.list_cluster_custom_object(GROUP, VERSION, PLURAL, **arguments)
        return answer if arguments.get("watch") else List(answer)

    informer = SharedInformer(CoreV1Api(client).list_pod_for_all_namespaces if "pods" in which else applications)
    informer.add_event_handler("ADDED", added)
    informer.add_event_handler("MODIFIED", updated)
    start: Start = informer.start
    return start


def main() -> None:
    which, kubeconfig, objects, events = sys.argv[1].split("-"), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if "tuned" in which:
        gc.set_threshold(50_000, 20, 50)
    added, updated = Counter(objects), Counter(events)
    start = (official if which[0] == "official" else ours)(which, kubeconfig, added, updated)
    before = resident_bytes()
    started, cpu = time.perf_counter(), time.process_time()
    start()
    added.reached.wait()
    figures = {
        "sync_seconds": time.perf_counter() - started,
        "sync_cpu_seconds": time.process_time() - cpu,
        "held_bytes": resident_bytes() - before,
    }
    if events:
        url = yaml.safe_load(Path(kubeconfig).read_text())["clusters"][0]["cluster"]["server"]
        started, cpu = time.perf_counter(), time.process_time()
        with urllib.request.urlopen(f"{url}/send-events") as answer:
            answer.read()
        updated.reached.wait()
        figures["event_ms"] = (time.perf_counter() - started) * 1000 / events
        figures["event_cpu_ms"] = (time.process_time() - cpu) * 1000 / events
    print(json.dumps(figures), flush=True)
    os._exit(0)


def resident_bytes() -> int:
    """What is left after everything that can be given back was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
