"""One replica of a controller, as a process of its own: competes for a Lease, and leaves a trace while it leads.

Usage: replica.py KUBECONFIG NAMESPACE IDENTITY LEASE_DURATION RENEW_DEADLINE RETRY_PERIOD
Prints a line "<monotonic seconds> <word>" for: started, leading (each 20 ms), lost (the leader's part has ended),
stopped. The monotonic clock is the machine's, so lines of several replicas can be compared.

While it leads it patches the ConfigMap SHARED all the time, whatever its version: only leader election keeps two
replicas from writing at the same time.
"""

import os
import sys
import threading
import time
from collections.abc import Iterable

from controller.runtime import Controller, LeaderElectionConfig, Manager, Result, logs, stop_on_signals
from informers import Client, ListerWatcher, NotFound, Resource, SharedInformer

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SHARED = "shared"
BEAT_SECONDS = 0.02


def trace(word: str) -> None:
    os.write(1, f"{time.monotonic():.3f} {word}\n".encode())


def lead(stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        trace("leading")
    trace("lost")


def main() -> int:
    kubeconfig, namespace, identity, duration, deadline, retry = sys.argv[1:]
    logs.setup()
    stop = stop_on_signals()
    client = Client.load(kubeconfig, user_agent=f"replica-{identity}")
    election = LeaderElectionConfig(
        name="replica",
        namespace=namespace,
        identity=identity,
        lease_duration=float(duration),
        renew_deadline=float(deadline),
        retry_period=float(retry),
    )
    manager = Manager(client, leader_election=election)
    informer = SharedInformer(ListerWatcher(client, CONFIG_MAPS, namespace=namespace), name="configmaps")
    manager.add_informer(informer)

    def controllers(client: Client) -> Iterable[Controller[str]]:
        def reconcile(name: str) -> Result:
            if name != SHARED:
                return Result()
            try:
                data = {"writer": identity, "at": str(time.monotonic())}
                client.patch(CONFIG_MAPS, SHARED, {"data": data}, namespace=namespace)
            except NotFound:
                return Result()
            return Result(requeue_after=BEAT_SECONDS / 4)

        controller: Controller[str] = Controller("configmaps", reconcile)
        controller.watches(informer, lambda obj: [obj["metadata"]["name"]])
        return [controller]

    manager.add_controllers(controllers)
    manager.add_runnable("trace", lead, leader_only=True)
    trace("started")
    manager.run(stop)
    trace("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
