"""The command line: `python -m e2e.controlplane assets` and `... up --kubeconfig PATH`."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from e2e.controlplane import AssetsUnavailable, ControlPlane, ControlPlaneError, find_assets

WATCH_SECONDS = 0.5
"""How soon `up` notices that a server ended."""


def main() -> int:
    options = _parser().parse_args()
    # A TERM unwinds like Ctrl-C, so that servers end and files go. What a script starts in the background begins with
    # SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        if options.command == "assets":
            print(find_assets().directory)
        else:
            _up(options.kubeconfig, options.crds)
    except (AssetsUnavailable, ControlPlaneError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if options.command == "up" else 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.controlplane", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("assets", help="find, download or build etcd, kube-apiserver and kubectl; print their folder")
    up = commands.add_parser("up", help="run etcd and kube-apiserver on free loopback ports, with RBAC, until Ctrl-C")
    up.add_argument("--kubeconfig", type=Path, required=True, metavar="PATH", help="where to write that of an admin")
    up.add_argument("--crds", type=Path, action="append", default=[], metavar="PATH", help="file or folder to apply")
    return parser


def _up(kubeconfig: Path, crds: Sequence[Path]) -> None:
    if kubeconfig.exists() and not kubeconfig.read_text().startswith(ControlPlane.KUBECONFIG_HEADER):
        raise ControlPlaneError(f"--kubeconfig: {kubeconfig} exists and is not of a control plane; name another file")
    with ControlPlane() as control_plane:
        for path in crds:
            control_plane.apply_crds(path)
        control_plane.write_kubeconfig(kubeconfig)
        try:
            print(f"ready: {control_plane.url}\nexport KUBECONFIG={kubeconfig.absolute()}", flush=True)
            print(f"kubectl is {control_plane.assets.kubectl}; Ctrl-C ends the control plane", flush=True)
            while True:
                control_plane.check()
                time.sleep(WATCH_SECONDS)
        finally:
            kubeconfig.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
