"""`python -m e2e.kyma`: run the emulated operator against the cluster of $KUBECONFIG until it is interrupted."""

import argparse
import logging
from pathlib import Path

from controller.runtime import stop_on_signals
from e2e.kyma.operator import PERIOD, Operator, go_agent_manifests, read_manifests
from informers import Client


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.kyma", description=__doc__)
    parser.add_argument("--kubeconfig", help="path of a kubeconfig; default: $KUBECONFIG, ~/.kube/config")
    parser.add_argument("--domain", default="example.kyma.dev", help="of the cluster, for the URLs of the Runtime")
    parser.add_argument("--period", type=float, default=PERIOD, help="seconds between two applications")
    parser.add_argument("--manifests", type=Path, help="a file with what is applied instead of the Go agent")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    stop = stop_on_signals()
    client = Client.load(options.kubeconfig)
    manifests = read_manifests(options.manifests) if options.manifests else go_agent_manifests()
    with Operator(client, manifests=manifests, domain=options.domain, period=options.period):
        stop.wait()
    client.close()


if __name__ == "__main__":
    main()
