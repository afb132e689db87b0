"""The command line of `kubectl compass`.

Imports no client, no YAML: kubectl runs the completion with each press of the tab key.
"""

import argparse
from dataclasses import dataclass
from typing import Literal

from controller.settings import parse_duration, parse_namespace

PROG = "kubectl compass"
NAMESPACE = "kyma-system"
"""The default of `--namespace`. The namespace of the kubeconfig's context is almost never that of the agent."""

_EPILOG = """\
Results go to standard output, progress and errors to standard error.

exit status:
  0  done; of status and doctor: all is well
  1  there is a problem, or the requested result was not reached in time
  2  the command line, the kubeconfig or what is configured cannot be used; nothing was changed
  3  the API server or the agent does not tell
"""

Output = Literal["text", "json", "yaml"]


@dataclass(frozen=True)
class Connect:
    """The cluster, by the options of kubectl; "" for the default of kubectl."""

    kubeconfig: str
    context: str
    namespace: str


def connect(options: argparse.Namespace) -> Connect:
    """The given options, or their defaults."""
    return Connect(
        kubeconfig=getattr(options, "kubeconfig", None) or "",
        context=getattr(options, "context", None) or "",
        namespace=getattr(options, "namespace", None) or NAMESPACE,
    )


def parser() -> argparse.ArgumentParser:
    """All commands with their options. `command` is the given one."""
    where = _where()
    top = argparse.ArgumentParser(
        prog=PROG,
        description="The connection of this cluster to Compass: show it, create it, repair it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[where],
    )
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str, *, output: bool = True, timeout: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[where])
        if output:
            command.add_argument(
                "-o", "--output", choices=("text", "json", "yaml"), default="text", help="of the result"
            )
        if timeout:
            command.add_argument(
                "--timeout", type=_seconds, default=timeout, metavar="DURATION", help=f"wait so long ({timeout})"
            )
        return command

    add("status", "tell how the connection is")
    pair = add("pair", "pair with a one-time token, and wait until all is synchronised", timeout="2m")
    _add_token(pair, required=True)
    for option, meaning in (
        ("--connector-url", "URL of the Connector for calls with a one-time token"),
        ("--runtime-id", "id of this Runtime in Compass"),
        ("--tenant", "external id of the tenant that owns the Runtime"),
    ):
        pair.add_argument(option, metavar="TEXT", help=f"{meaning}; where it is configured already: not needed")
    add("resync", "have the Director asked now, and wait until all is synchronised", timeout="2m")
    add("renew", "have the certificate renewed now, and wait for the new one", timeout="2m")
    reconnect = add("reconnect", "have the agent pair anew, and wait until all is synchronised", timeout="2m")
    _add_token(reconnect, required=False)
    revoke = add("revoke", "revoke the certificate and delete the credentials, in the leader's Pod")
    revoke.add_argument("--yes", action="store_true", help="do not ask")
    logs = add("logs", "print the log of the leader", output=False)
    logs.add_argument("-f", "--follow", action="store_true", help="go on, also with the next leader, until interrupted")
    logs.add_argument("--tail", type=_lines, default=100, metavar="NUMBER", help="of the last lines (100); -1: all")
    add("doctor", "look for what is wrong, and say how to fix it")
    return top


def _add_token(command: argparse.ArgumentParser, *, required: bool) -> None:
    command.add_argument(
        "--token-stdin", action="store_true", required=required, help="read the one-time token from standard input"
    )


def _where() -> argparse.ArgumentParser:
    """Options that are allowed before and after the command."""
    where = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    where.add_argument(
        "--kubeconfig", metavar="PATH", help="default: $KUBECONFIG, in a Pod its account, ~/.kube/config"
    )
    where.add_argument("--context", metavar="NAME", help="context of the kubeconfig; default: the current one")
    where.add_argument(
        "-n", "--namespace", type=_namespace, metavar="NAME", help=f"where the agent is; default: {NAMESPACE}"
    )
    return where


def _namespace(text: str) -> str:
    try:
        return parse_namespace(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}") from error


def _lines(text: str) -> int:
    try:
        return max(int(text), -1)
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected a number") from error


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}") from error
    if seconds <= 0:
        raise argparse.ArgumentTypeError("expected a duration above zero such as 90s or 5m")
    return seconds
