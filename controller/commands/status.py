"""`compass-runtime-agent status`: a report of the connection for operators, and an exit status for scripts.

Standard output has the report, and with `-o json` always one JSON object. Errors of the command also go to standard
error.
"""

import json
from typing import Literal, TextIO

from controller.commands import snapshot
from controller.commands.report import HEALTHY, MAX_TEXT, UNHEALTHY, UNKNOWN, lines, report, unknown
from controller.settings import Settings
from controller.text import clean
from informers import Client
from informers.errors import KubernetesError

Output = Literal["text", "json"]


def status(client: Client, settings: Settings, *, output: Output, now: float, out: TextIO, err: TextIO) -> int:
    """Print the report; returns the exit status. `now` is in epoch seconds."""
    try:
        taken = snapshot.take(client, settings)
    except KubernetesError as error:
        why = clean(f"the connection cannot be read: {error}", MAX_TEXT)
        return not_readable(why, output=output, out=out, err=err)
    certificate = snapshot.certificate_of(taken.credentials.read().credentials)
    found = report(taken.connection, certificate, settings, now=now)
    if output == "json":
        print(json.dumps(found, indent=2), file=out)
    else:
        print("\n".join(lines(found, now)), file=out)
    return HEALTHY if found["healthy"] else UNHEALTHY


def not_readable(why: str, *, output: Output, out: TextIO, err: TextIO) -> int:
    """Print why the connection cannot be read; returns the exit status."""
    if output == "json":
        print(json.dumps(unknown(why), indent=2), file=out)
    print(f"compass-runtime-agent: {why}", file=err)
    return UNKNOWN
