"""The command line: `python -m e2e.controlplane assets` and `... up --kubeconfig PATH`."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from e2e.controlplane.assets import find_assets
from e2e.controlplane.crds import read_crds
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import to_stderr
from e2e.controlplane.server import ControlPlane

WATCH_SECONDS = 0.5
"""How soon `up` notices that a server ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # A TERM unwinds like Ctrl-C, so that servers end and files go. What a script starts in the background begins with
    # SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        if options.command == "assets":
            _assets()
        else:
            _up(options.kubeconfig, options.crds)
    except ControlPlaneError as error:
        to_stderr(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        # `up` ends this way on purpose; anything else was broken off.
        return 0 if options.command == "up" else 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.controlplane", description="A real kube-apiserver and etcd on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "assets",
        help="get etcd, kube-apiserver and kubectl, and print their folder",
        description="Find, download or build etcd, kube-apiserver and kubectl. The last line of standard output is the "
        "folder with the binaries; progress goes to standard error. Sources, in order: $KUBEBUILDER_ASSETS, the cache "
        "below ${XDG_CACHE_HOME:-~/.cache}, the official envtest archive, a build from Go modules.",
    )
    up = commands.add_parser(
        "up",
        help="run a control plane until Ctrl-C",
        description="Run etcd and kube-apiserver in the foreground, on free loopback ports and with RBAC on, until "
        "SIGINT or SIGTERM. Data and kubeconfig are gone afterwards.",
    )
    up.add_argument(
        "--kubeconfig", type=Path, required=True, metavar="PATH", help="where to write an admin's kubeconfig"
    )
    up.add_argument(
        "--crds",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a file or folder of CustomResourceDefinitions to apply; may be given more than once",
    )
    return parser


def _assets() -> None:
    print(find_assets().directory)


def _up(kubeconfig: Path, crds: Sequence[Path]) -> None:
    # What is wrong with the arguments is said now, not after the servers started.
    _refuse_foreign(kubeconfig)
    for path in crds:
        read_crds(path)
    assets = find_assets()
    started = time.monotonic()
    with ControlPlane(assets) as control_plane:
        for path in crds:
            for name in control_plane.apply_crds(path):
                to_stderr(f"serving {name}")
        try:
            control_plane.write_kubeconfig(kubeconfig)
        except OSError as error:
            raise ControlPlaneError(f"--kubeconfig: {error}") from error
        try:
            print(f"ready after {time.monotonic() - started:.1f} s: {control_plane.url}", flush=True)
            print(f"export KUBECONFIG={kubeconfig.absolute()}", flush=True)
            print(f"kubectl is {assets.kubectl}; Ctrl-C ends the control plane", flush=True)
            while True:
                control_plane.check()
                time.sleep(WATCH_SECONDS)
        finally:
            kubeconfig.unlink(missing_ok=True)


def _refuse_foreign(kubeconfig: Path) -> None:
    """Never write over a kubeconfig that somebody else made, such as ~/.kube/config."""
    try:
        content = kubeconfig.read_text()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ControlPlaneError(f"--kubeconfig: {kubeconfig}: {error}") from error
    if content and not content.startswith(ControlPlane.KUBECONFIG_HEADER):
        raise ControlPlaneError(f"--kubeconfig: {kubeconfig} exists and is not of a control plane; name another file")


if __name__ == "__main__":
    sys.exit(main())
