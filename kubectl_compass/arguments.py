"""The command line of `kubectl compass`.

Imports no client, no YAML: kubectl runs the completion with each press of the tab key.
"""

import argparse
import re
from dataclasses import dataclass, fields
from typing import Any, Literal, NoReturn

from controller.settings import parse_duration, parse_namespace

PROG = "kubectl compass"
NAMESPACE = "kyma-system"
"""The default of `--namespace`. The namespace of the kubeconfig's context is almost never that of the agent."""

COMMANDS = {
    "status": "show the state of the connection, and which agent runs",
    "list": "show each Application with its sync status, and the reason if it is not in sync",
    "doctor": "check everything that the connection needs, and show how to fix what is wrong",
    "logs": "show the log of the leader",
    "pair": "store a one-time token, and wait for the connection",
    "resync": "ask for a synchronisation, and wait for its result",
    "renew": "ask for a new certificate, and wait for it",
    "reconnect": "ask for a new pairing, and wait for the connection",
    "confirm-deletions": "delete the Applications whose deletion waits for a confirmation",
    "revoke": "revoke the certificate and delete the credentials",
}
"""What each command does. docs/plugin.md has the same words, here and for options and exit statuses."""

EXAMPLES = {
    "status": ("kubectl compass status", "kubectl compass status --watch"),
    "list": ("kubectl compass list",),
    "doctor": ("kubectl compass doctor",),
    "logs": ("kubectl compass logs --tail=1", "kubectl compass logs --follow"),
    "pair": ("kubectl compass pair --token-stdin <token",),
    "resync": ("kubectl compass resync",),
    "renew": ("kubectl compass renew",),
    "reconnect": ("kubectl compass reconnect --token-stdin <token",),
    "confirm-deletions": ("kubectl compass confirm-deletions --yes",),
    "revoke": ("kubectl compass revoke --yes",),
}

EXIT_STATUSES = {
    "0": "done; for `status`, `list` and `doctor`: healthy",
    "1": "there is a problem, or the requested result was not reached in time",
    "2": "the command line, the kubeconfig or the configuration is invalid; nothing was changed",
    "3": "the API server or the agent does not answer, or refuses the request",
    "130": "interrupted with Ctrl-C; the agent still completes the request",
}

Output = Literal["text", "json", "yaml"]

_VALUE = re.compile(r"(unrecognized arguments|explicit argument|invalid choice)\b.*", re.DOTALL)


@dataclass(frozen=True)
class Connect:
    """The cluster and how to call it, by the options of kubectl; "" and 0 for the default of kubectl."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = NAMESPACE
    user: str = ""
    request_timeout: float = 0.0


class _Parser(argparse.ArgumentParser):
    """Its errors repeat no value of the command line, which can be a one-time token."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        super().error(_VALUE.sub(r"\1; a one-time token is read from standard input only", message))


def connect(options: argparse.Namespace) -> Connect:
    """The given options, or their defaults."""
    given = {field.name: getattr(options, field.name, None) for field in fields(Connect)}
    return Connect(**{name: value for name, value in given.items() if value})


def parser() -> argparse.ArgumentParser:
    """All commands with their options. `command` is the given one."""
    where = _where()
    statuses = "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_STATUSES.items())
    top = _Parser(
        prog=PROG,
        description="The connection of this cluster to Compass: show it, create it, repair it.",
        epilog=f"Results go to standard output, progress and errors to standard error.\n\nexit status:\n{statuses}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[where],
    )
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, *, output: bool = True, waits: bool = False) -> argparse.ArgumentParser:
        text = COMMANDS[name]
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog="\n  ".join(("examples:", *EXAMPLES[name])),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[where],
        )
        if output:
            command.add_argument(
                "-o",
                "--output",
                choices=("text", "json", "yaml"),
                default="text",
                help="format of the result: `text`, `json` or `yaml`; not for `logs`",
            )
        if waits:
            command.add_argument(
                "--timeout",
                type=_seconds,
                default="2m",
                metavar="DURATION",
                help="how long `pair`, `resync`, `renew`, `reconnect` and `confirm-deletions` wait; default: `2m`",
            )
        return command

    status = add("status")
    status.add_argument("-w", "--watch", action="store_true", help="show each change, until interrupted")
    add("list")
    add("doctor")
    logs = add("logs", output=False)
    logs.add_argument("-f", "--follow", action="store_true", help="continue, also with the next leader")
    logs.add_argument(
        "--tail", type=_lines, default=100, metavar="NUMBER", help="number of lines; default: 100; -1: all"
    )
    pair = add("pair", waits=True)
    _add_token(pair, required=True)
    for option, meaning in (
        ("--connector-url", "URL of the Connector for calls with a one-time token"),
        ("--runtime-id", "id of this Runtime in Compass"),
        ("--tenant", "external id of the tenant that owns the Runtime"),
    ):
        pair.add_argument(option, metavar="TEXT", help=f"{meaning}; not needed if it is configured")
    add("resync", waits=True)
    add("renew", waits=True)
    reconnect = add("reconnect", waits=True)
    _add_token(reconnect, required=False)
    for command in (add("confirm-deletions", waits=True), add("revoke")):
        command.add_argument("--yes", action="store_true", help="do not ask")
    return top


def _add_token(command: argparse.ArgumentParser, *, required: bool) -> None:
    command.add_argument(
        "--token-stdin", action="store_true", required=required, help="read the one-time token from standard input"
    )


def _where() -> _Parser:
    """Options that are allowed before and after the command."""
    where = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    where.add_argument("--kubeconfig", metavar="PATH", help="as for kubectl")
    where.add_argument("--context", metavar="NAME", help="as for kubectl")
    where.add_argument("--as", dest="user", type=_user, metavar="NAME", help="user to impersonate, as for kubectl")
    where.add_argument(
        "--request-timeout",
        type=_request_timeout,
        metavar="DURATION",
        help="how long one request to the API server may take, as for kubectl",
    )
    where.add_argument(
        "-n",
        "--namespace",
        type=_namespace,
        metavar="NAME",
        help=f"the namespace of the agent; default: `{NAMESPACE}`. The namespace of the context is not used.",
    )
    return where


def _namespace(text: str) -> str:
    try:
        return parse_namespace(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}") from error


def _user(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("expected the name of a user")
    return text


def _request_timeout(text: str) -> float:
    """kubectl takes a number without a unit for seconds."""
    seconds = float(text) if text.isdecimal() else _duration(text)
    if seconds < 0:
        raise argparse.ArgumentTypeError("expected a duration such as 5s, or 0 for no limit")
    return seconds


def _lines(text: str) -> int:
    try:
        return max(int(text), -1)
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected a number") from error


def _seconds(text: str) -> float:
    seconds = _duration(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError("expected a duration above zero such as 90s or 5m")
    return seconds


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}") from error
