"""`kubectl compass doctor`: checks for the problems in docs/troubleshooting.md.

facts    reads everything once, with the API server and with the agent's own `doctor` in a Pod
rules    pure functions from these facts to findings, each with its cure
"""

from controller.commands import findings
from kubectl_compass.cluster import Cluster
from kubectl_compass.doctor.facts import gather
from kubectl_compass.doctor.rules import examine
from kubectl_compass.terminal import Terminal


def doctor(cluster: Cluster, terminal: Terminal) -> int:
    """Print the findings. Returns the exit status."""
    found = examine(gather(cluster, terminal.clock))
    terminal.show(findings.to_json(found), lines=lambda: findings.lines(found))
    return findings.exit_status(found)
