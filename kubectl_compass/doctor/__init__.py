"""`kubectl compass doctor`: checks for the problems in docs/troubleshooting.md.

facts    reads everything once, with the API server and with the agent's own `doctor` in a Pod
rules    pure functions from these facts to findings, each with its cure
"""

from controller.commands import findings
from kubectl_compass.desk import Desk
from kubectl_compass.doctor.facts import gather
from kubectl_compass.doctor.rules import examine
from kubectl_compass.output import show


def doctor(desk: Desk) -> int:
    """Print the findings. Returns the exit status."""
    found = examine(gather(desk))
    show(findings.to_json(found), desk.output, desk.out, lines=lambda: findings.lines(found))
    return findings.exit_status(found)
