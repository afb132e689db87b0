"""Runs one command of `kubectl compass`."""

import argparse
import getpass
import os
import sys
from collections.abc import Sequence

from controller.runtime.logs import setup
from controller.runtime.version import COMMIT, VERSION
from controller.settings import SettingsError
from controller.text import clean_lines
from informers.errors import ApiError, ConfigurationError
from kubectl_compass import actions, arguments, pairing, status
from kubectl_compass.cluster import Cluster, Failed, KubectlFailed, open_cluster
from kubectl_compass.doctor import doctor
from kubectl_compass.logs import logs
from kubectl_compass.pairing import Unusable
from kubectl_compass.terminal import Terminal
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
    setup(level="error", output="text")
    terminal = Terminal(getattr(options, "output", "text"), out=sys.stdout, err=sys.stderr, clock=RealClock())
    try:
        token = _token() if getattr(options, "token_stdin", False) else ""
        with open_cluster(arguments.connect(options), os.environ) as cluster:
            return _run(options, cluster, terminal, token)
    except (ConfigurationError, SettingsError, Unusable) as error:
        return _say(str(error), USAGE)
    except (ApiError, KubectlFailed) as error:
        if terminal.output != "text":
            terminal.show({"healthy": None, "problems": [_clean(str(error))]}, lines=list)
        return _say(str(error), UNKNOWN)
    except Failed as error:
        return _say(str(error), FAILED)
    except BrokenPipeError:
        # The reader of the output has ended, as in `| head`. Otherwise Python fails again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _say("interrupted; what was asked of the agent stays asked", INTERRUPTED)


def _run(options: argparse.Namespace, cluster: Cluster, terminal: Terminal, token: str) -> int:
    match options.command:
        case "status":
            return status.watch(cluster, terminal) if options.watch else status.status(cluster, terminal)
        case "list":
            return status.list_applications(cluster, terminal)
        case "doctor":
            return doctor(cluster, terminal)
        case "logs":
            return logs(cluster, terminal, follow=options.follow, tail=options.tail)
        case "pair":
            addresses = {key: value for name, key in _ADDRESSES.items() if (value := getattr(options, name))}
            return actions.pair(cluster, terminal, token, addresses, timeout=options.timeout)
        case "resync":
            return actions.resync(cluster, terminal, timeout=options.timeout)
        case "renew":
            return actions.renew(cluster, terminal, timeout=options.timeout)
        case "reconnect":
            return actions.reconnect(cluster, terminal, token, timeout=options.timeout)
        case "confirm-deletions":
            confirm = _yes if options.yes else _ask
            return actions.confirm_deletions(cluster, terminal, confirm=confirm, timeout=options.timeout)
        case "revoke":
            return actions.revoke(cluster, terminal, confirm=_yes if options.yes else _ask)
    raise AssertionError(f"no case for the command {options.command}")


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


def _say(why: str, code: int) -> int:
    print(f"{arguments.PROG}: {_clean(why)}", file=sys.stderr)
    return code


def _clean(text: str) -> str:
    return "\n".join(clean_lines(text, _MAX_TEXT))


if __name__ == "__main__":
    sys.exit(main())
