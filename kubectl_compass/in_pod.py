"""The commands that run in the leader's Pod with kubectl: its log, and the agent's own `revoke`."""

import sys
import threading
from collections.abc import Callable

from kubectl_compass.actions import Failed, report
from kubectl_compass.cluster import pod_target, run
from kubectl_compass.desk import Desk
from kubectl_compass.output import show
from kubectl_compass.waiting import Progress

_POLL_SECONDS = 0.5
_ATTEMPTS = 5  # consecutive failures of kubectl: the Pod is starting or ending, or its node does not answer

_QUESTION = (
    "Revoke the client certificate of this cluster? The Applications stay, but are not updated until a new one-time "
    "token is configured. [y/N] "
)


def logs(desk: Desk, *, follow: bool, tail: int) -> int:
    """Print the last `tail` lines of the leader. With `follow`, print new lines, also those of later leaders.

    Returns the exit status of kubectl; with `follow` only after several failures in a row.
    """
    progress = Progress(desk.err, desk.clock)
    never = threading.Event()
    before, failures = "", 0
    while True:
        holder = desk.cluster.holder()
        if not holder and not follow:
            raise Failed("no replica holds the Lease; kubectl compass doctor looks for the cause")
        if holder in ("", before):
            desk.clock.sleep(_POLL_SECONDS, never)
            continue
        target = pod_target(holder)
        progress.say(f"the leader is {target.removeprefix('pod/')}")
        options = [f"--tail={tail}", *(["--follow"] if follow else [])]
        code = run(desk.cluster.kubectl("logs", target, "--container=compass-runtime-agent", *options))
        failures = failures + 1 if code else 0
        if not follow or failures == _ATTEMPTS:
            return code
        if code:
            progress.say(f"kubectl logs failed with status {code}, trying again")
            desk.clock.sleep(_POLL_SECONDS, never)
        else:
            progress.say("its log has ended; waiting for the next leader")
            before = holder


def revoke(desk: Desk, *, confirm: Callable[[str], bool]) -> int:
    """Run `revoke` of the agent if `confirm` returns true. Returns its exit status."""
    if not confirm(_QUESTION):
        raise Failed("nothing was changed")
    target = desk.cluster.leader_target() or "deployment/compass-runtime-agent"
    text = desk.output == "text"
    code = run(desk.cluster.in_pod(target, "revoke", "--yes"), stdout=None if text else sys.stderr)
    if not text:
        show({"revoked": code == 0, **report(desk)}, desk.output, desk.out, lines=list)
    return code
