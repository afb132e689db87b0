"""A process that fetches from a Director as the agent does, and reports how much memory that took at most.

    python -m tests.support.fetch_process URL CA_FILE [MEMORY_LIMIT]

It has all of the agent imported, keeps what the agent keeps (the desired set, and the objects that the caches would
hold), and fetches a second time while it has that. Prints JSON: what came of it, and the greatest resident set in MiB.
That is VmHWM, which begins with the process; ru_maxrss begins with that of the process it was forked from.
"""

import json
import sys
from pathlib import Path
from typing import Any

import orjson

import controller.agent  # noqa: F401 - the memory it takes
from controller.applications.conversion import ConversionSettings, merge_application, merge_secret
from controller.applications.desired import DesiredSet, desired_set
from controller.compass.director import DirectorClient
from controller.compass.errors import CompassError
from controller.compass.graphql import Transport
from controller.compass.limits import Limits
from controller.compass.tls import client_context

CONVERSION = ConversionSettings("http://central-application-gateway.kyma-system.svc.cluster.local:8082")


def main(url: str, ca_file: str, memory_limit: str = "") -> None:
    limits = Limits(memory_limit=int(memory_limit) if memory_limit else None)
    transport = Transport(client_context(ca_file=Path(ca_file)), answer_bytes=limits.answer_bytes, log_queries=True)
    director = DirectorClient(transport, url, tenant="", limits=limits)
    wanted: DesiredSet | None = None
    cached: list[Any] = []
    result: dict[str, Any] = {}
    try:
        for _ in range(2):
            assignment = director.fetch("runtime-1", request_id="r")
            wanted = desired_set(assignment, CONVERSION, previous=wanted)
            result = {
                "applied": len(wanted.by_name),
                "problems": [problem.message for problem in wanted.problems.values()],
            }
            cached = cached or [stored(obj) for obj in objects(wanted)]
    except CompassError as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps({**result, "peak": peak()}))


def objects(wanted: DesiredSet) -> Any:
    for desired in wanted.by_name.values():
        yield merge_application(None, desired)
        for secret in desired.secrets:
            yield merge_secret(None, secret, namespace="n", owner={"metadata": {"name": desired.name, "uid": "u"}})


def stored(obj: Any) -> Any:
    return orjson.loads(orjson.dumps(obj))


def peak() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not show the memory of a process")


if __name__ == "__main__":
    main(*sys.argv[1:])
