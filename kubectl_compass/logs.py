"""`kubectl compass logs`: the log of the leader."""

import threading

from kubectl_compass.cluster import Cluster, Failed, assert_agent, pod_target, run
from kubectl_compass.terminal import Terminal

_POLL_SECONDS = 0.5
_ATTEMPTS = 5  # consecutive failures of kubectl: the Pod is starting or ending, or its node does not answer


def logs(cluster: Cluster, terminal: Terminal, *, follow: bool, tail: int) -> int:
    """Print the last `tail` lines of the leader. With `follow`, print new lines, also those of later leaders.

    Returns the exit status of kubectl; with `follow` only after several failures in a row.
    """
    assert_agent(cluster)
    never = threading.Event()
    before, failures = "", 0
    while True:
        holder = cluster.holder()
        if not holder and not follow:
            raise Failed("no replica holds the Lease; kubectl compass doctor looks for the cause")
        if holder in ("", before):
            terminal.clock.sleep(_POLL_SECONDS, never)
            continue
        target = pod_target(holder)
        terminal.say(f"the leader is {target.removeprefix('pod/')}")
        options = [f"--tail={tail}", *(["--follow"] if follow else [])]
        code = run(cluster.kubectl("logs", target, "--container=compass-runtime-agent", *options))
        failures = failures + 1 if code else 0
        if not follow or failures == _ATTEMPTS:
            return code
        if code:
            terminal.say(f"kubectl logs failed with status {code}, trying again")
            terminal.clock.sleep(_POLL_SECONDS, never)
        else:
            terminal.say("its log has ended; waiting for the next leader")
            before = holder
