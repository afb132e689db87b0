"""One replica of a controller, as a process of its own: fights for a lease, and leaves a trace while it leads.

Usage: replica.py KUBECONFIG NAMESPACE IDENTITY LEASE_DURATION RENEW_DEADLINE RETRY_PERIOD
Prints a line "<monotonic seconds> <word>" for: started, leading (each 20 ms), stopped, lost. Exits with 0, or with 3
when the lease was lost. The monotonic clock is the machine's, so lines of several replicas can be compared.
"""

import os
import sys
import threading
import time

from controller.runtime import (
    Controller,
    LeaderElectionConfig,
    LeaderElectionLost,
    Manager,
    Result,
    logs,
    stop_on_signals,
)
from informers import Client, Resource, ResourceListerWatcher, SharedInformer, object_key

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
BEAT_SECONDS = 0.02


def tell(word: str) -> None:
    os.write(1, f"{time.monotonic():.3f} {word}\n".encode())


def lead(stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        tell("leading")


def main() -> int:
    kubeconfig, namespace, identity, duration, deadline, retry = sys.argv[1:]
    logs.setup()
    stop = stop_on_signals()
    client = Client.load(kubeconfig)
    election = LeaderElectionConfig(
        name="replica",
        namespace=namespace,
        identity=identity,
        lease_duration=float(duration),
        renew_deadline=float(deadline),
        retry_period=float(retry),
    )
    manager = Manager(client, leader_election=election)
    informer = SharedInformer(ResourceListerWatcher(client, CONFIG_MAPS, namespace=namespace), name="configmaps")
    controller: Controller[str] = Controller("configmaps", lambda _key: Result())
    controller.watches(informer, lambda obj: [object_key(obj)])
    manager.add_informer(informer)
    manager.add_controller(controller)
    manager.add_runnable("trace", lead, leader_only=True)
    tell("started")
    try:
        manager.run(stop)
    except LeaderElectionLost:
        tell("lost")
        return 3
    tell("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
