"""Runs one command of `kubectl compass`."""

import argparse
import getpass
import os
import sys
from collections.abc import Sequence

from controller.runtime import logs
from controller.runtime.version import COMMIT, VERSION
from controller.settings import SettingsError
from controller.text import clean_lines
from informers.errors import ApiError, ConfigurationError
from kubectl_compass import actions, arguments, in_pod, pairing
from kubectl_compass.actions import Failed
from kubectl_compass.applications import list_applications
from kubectl_compass.cluster import Cluster, KubectlFailed, open_cluster
from kubectl_compass.desk import Desk
from kubectl_compass.doctor import doctor
from kubectl_compass.output import show
from kubectl_compass.pairing import Unusable
from workqueue import RealClock

DONE, FAILED, USAGE, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 130
_MAX_TEXT = 4096

_ADDRESSES = {"connector_url": "CONNECTOR_URL", "runtime_id": "RUNTIME_ID", "tenant": "TENANT"}


def main(given: Sequence[str] | None = None) -> int:
    """Returns the exit status: see arguments."""
    parser = arguments.parser()
    options = parser.parse_args(given)
    if options.version:
        print(f"{arguments.PROG} {VERSION} (commit {COMMIT})")
        return DONE
    if not options.command:
        parser.print_help(sys.stderr)
        return USAGE
    logs.setup(level="error", output="text")
    try:
        return _run(options)
    except (ConfigurationError, SettingsError, Unusable) as error:
        return _say(str(error), USAGE)
    except (ApiError, KubectlFailed) as error:
        return _say(str(error), UNKNOWN, options)
    except Failed as error:
        return _say(str(error), FAILED)
    except KeyboardInterrupt:
        return _say("interrupted; what was asked of the agent stays asked", INTERRUPTED)


def _run(options: argparse.Namespace) -> int:
    token = _token() if getattr(options, "token_stdin", False) else ""
    with open_cluster(arguments.connect(options), os.environ) as cluster:
        return _command(options, cluster, token)


def _command(options: argparse.Namespace, cluster: Cluster, token: str) -> int:
    desk = Desk(
        cluster=cluster,
        output=getattr(options, "output", "text"),
        out=sys.stdout,
        err=sys.stderr,
        clock=RealClock(),
        timeout=getattr(options, "timeout", 0.0),
    )
    match options.command:
        case "status":
            return actions.watch(desk) if options.watch else actions.status(desk)
        case "list":
            return list_applications(desk)
        case "pair":
            addresses = {key: value for name, key in _ADDRESSES.items() if (value := getattr(options, name))}
            return actions.pair(desk, token, addresses)
        case "resync":
            return actions.resync(desk)
        case "renew":
            return actions.renew(desk)
        case "reconnect":
            return actions.reconnect(desk, token)
        case "revoke":
            return in_pod.revoke(desk, confirm=_yes if options.yes else _ask)
        case "logs":
            return in_pod.logs(desk, follow=options.follow, tail=options.tail)
        case _:
            return doctor(desk)


def _yes(_: str) -> bool:
    return True


def _ask(question: str) -> bool:
    """An empty answer means no."""
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _token() -> str:
    """From standard input. At a terminal there is a prompt, and the token is not shown."""
    text = getpass.getpass("one-time token: ") if sys.stdin.isatty() else sys.stdin.read()
    return pairing.token_of(text)


def _say(why: str, code: int, options: argparse.Namespace | None = None) -> int:
    """Print the reason to standard error, and as JSON or YAML if that was requested."""
    text = "\n".join(clean_lines(why, _MAX_TEXT))
    if options is not None and getattr(options, "output", "text") != "text":
        show({"healthy": None, "problems": [text]}, options.output, sys.stdout, lines=list)
    print(f"{arguments.PROG}: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
