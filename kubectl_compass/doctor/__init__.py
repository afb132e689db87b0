"""`kubectl compass doctor`: what docs/troubleshooting.md looks for, looked for.

facts    looks once at everything, from outside by the API, and has the agent's own `doctor` run in a Pod
rules    pure functions from these facts to findings, each with its cure
"""

from controller.commands import findings
from kubectl_compass.desk import Desk
from kubectl_compass.doctor.facts import gather
from kubectl_compass.doctor.rules import examine
from kubectl_compass.output import show


def doctor(desk: Desk) -> int:
    """Print the findings; gives the exit status."""
    found = examine(gather(desk))
    show(findings.to_json(found), desk.output, desk.out, lines=lambda: findings.lines(found))
    return findings.exit_status(found)
