"""The command line: `compass-runtime-agent [run|status|revoke|doctor]`."""

import argparse
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Sequence

from controller.agent import build
from controller.commands import findings
from controller.commands.doctor import doctor
from controller.commands.revoke import revoke
from controller.commands.status import not_readable, status
from controller.permissions import Permissions
from controller.runtime import (
    GracePeriodExceeded,
    Metrics,
    RunnableFailed,
    ServerBindError,
    logs,
    stop_on_signals,
)
from controller.runtime.version import COMMIT, VERSION
from controller.settings import Settings, SettingsError, variables
from informers import Client
from informers.errors import ConfigurationError
from workqueue import REAL_CLOCK

log = logging.getLogger("controller")

_USAGE_ERROR = 2

_GC_THRESHOLDS = (50_000, 20, 20)
"""Python's default is a collection every 700 objects, for programs that create reference cycles.

This process has large caches of plain objects, decodes answers of megabytes, and creates almost no cycles, so each
collection scans the caches and frees nothing. A sync of 5,000 unchanged Applications took 1,170 ms of CPU with the
default, and 600 ms without.
"""
_USER_AGENT = f"compass-runtime-agent/{VERSION}"  # also the field manager of its writes
_ENDED = (GracePeriodExceeded, RunnableFailed, ServerBindError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 cannot start, 3 status or doctor could not tell."""
    options = _parser().parse_args(arguments)
    command = options.command or "run"
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        return _cannot_begin(options, str(error))
    # The commands print to standard output; the log has only their problems.
    logs.setup(level=settings.log_level if command == "run" else "error", output=settings.log_format)
    metrics = Metrics()
    permissions = Permissions(REAL_CLOCK)
    try:
        client = Client.load(options.kubeconfig, user_agent=_USER_AGENT, metrics=metrics, answered=permissions.answered)
    except ConfigurationError as error:
        return _cannot_begin(options, f"no usable configuration for the Kubernetes API server: {error}")
    if command == "run":
        return _run(settings, client, metrics, permissions)
    try:
        if command == "status":
            return status(client, settings, output=options.output, now=time.time(), out=sys.stdout, err=sys.stderr)
        if command == "doctor":
            return doctor(client, settings, output=options.output, now=time.time, out=sys.stdout)
        assert command == "revoke", command
        return revoke(client, settings, confirm=_yes if options.yes else _ask, out=sys.stdout)
    finally:
        client.close()


def _cannot_begin(options: argparse.Namespace, why: str) -> int:
    if options.command == "status":
        not_readable(why, output=options.output, out=sys.stdout, err=sys.stderr)
        return _USAGE_ERROR
    if options.command == "doctor" and options.output == "json":
        print(json.dumps(findings.to_json([findings.unknown("start", why)]), indent=2))
    print(f"compass-runtime-agent: {why}", file=sys.stderr)
    return _USAGE_ERROR


def _yes(_: str) -> bool:
    return True


def _ask(question: str) -> bool:
    """An empty answer means no, and so does a missing terminal."""
    print(question, "[y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _run(settings: Settings, client: Client, metrics: Metrics, permissions: Permissions) -> int:
    gc.set_threshold(*_GC_THRESHOLDS)
    stop = stop_on_signals()
    log.info("Starting", extra={"version": VERSION, "commit": COMMIT, **settings.describe()})
    if settings.skip_compass_tls_verify:
        log.warning(
            "The server certificates of Compass are not verified: APP_SKIP_COMPASS_TLS_VERIFY is for tests only"
        )
    try:
        build(settings, client, metrics, permissions=permissions).run(stop)
    except _ENDED as error:
        text = f"{type(error).__name__}: {error}"  # expected errors, so without a traceback
        log.error("Process ended with an error", extra={"error": text})  # noqa: TRY400
        return 1
    finally:
        client.close()
    log.info("Stopped")
    return 0


def _parser() -> argparse.ArgumentParser:
    settings = "\n".join(f"  {v.name}  (default: {v.default or 'not set'})\n      {v.meaning}" for v in variables())
    parser = argparse.ArgumentParser(
        prog="compass-runtime-agent",
        description="Pairs this cluster with Compass and keeps its Applications equal to what Compass assigns to it.",
        epilog=f"Settings are environment variables:\n{settings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"compass-runtime-agent {VERSION} (commit {COMMIT})")
    parser.add_argument("--kubeconfig", help="path of a kubeconfig; default: $KUBECONFIG, in-cluster, ~/.kube/config")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=False)
    subparsers.add_parser("run", help="run the agent (the default)")
    status = subparsers.add_parser(
        "status", help="show the state of the connection; exit status 0: healthy, 1: a problem, 3: unknown"
    )
    status.add_argument("-o", "--output", choices=("text", "json"), default="text")
    doctor = subparsers.add_parser(
        "doctor", help="check permissions, configuration, certificate, servers and clocks; exit status as of status"
    )
    doctor.add_argument("-o", "--output", choices=("text", "json"), default="text")
    revoke = subparsers.add_parser("revoke", help="revoke the certificate and delete the credentials")
    revoke.add_argument("--yes", action="store_true", help="do not ask")
    return parser
