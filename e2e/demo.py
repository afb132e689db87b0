"""Pair, sync, change, drift, renew, reconnect in half a minute: `make demo`; `make playground` then keeps running.

Everything is real but Compass: kube-apiserver and etcd, TLS and certificates, and the agent as a process of its own.
"""

import argparse
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509

from controller.resources import APPLICATION, SECRET
from e2e.controlplane import AssetsUnavailable, ControlPlaneError
from e2e.mock_compass.examples import landscape
from e2e.world import CLUSTER_SECRET, World
from informers import KubernetesError

_ERP = "mp-harbour-logistics-erp"
_WEATHER = "mp-city-weather"
_MOVED = "Moved to Antwerp"
_LANDSCAPE = {application["name"]: application for application in landscape()}


@contextmanager
def step(text: str) -> Iterator[None]:
    """Prints what is about to happen, and how long it took."""
    print(f"  {text} ... ", end="", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.1f} s", flush=True)


def start(world: World) -> None:
    print("\nThe agent starts in a cluster that knows nothing of Compass")
    with step("install the CRDs, start the agent"):
        world.install_crds()
        world.agent().start()
        world.wait_for_state("ConnectionFailed")
    print(f"    status says: {world.connection_error()}")


def pair(world: World) -> None:
    print("\nPair: a one-time token becomes a client certificate. Sync: the cluster gets what Compass assigns")
    for name, application in _LANDSCAPE.items():
        if name != "City Weather":
            world.compass.put_application(application)
    with step("kubectl apply the ConfigMap compass-agent-configuration with a fresh token"):
        world.configure()
        world.wait_for("credentials", lambda: world.state() not in ("", "ConnectionFailed"))
    with step("fetch the Applications from the Director and create them with their Secrets"):
        world.wait_for_state("Synchronized")
    certificate = x509.load_pem_x509_certificate(_certificate(world).encode())
    name, end = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
    print(f"    certificate of {name}, valid until {end:%Y-%m-%d}")
    print(f"    {len(world.applications())} Applications, {len(world.secrets())} Secrets")


def change(world: World) -> None:
    print("\nChange: the cluster follows the Director")
    state, payroll = world.compass.state, next(name for name in _LANDSCAPE if "Payroll" in name)
    with step("an Application is described anew, one is added, one is unassigned"):
        state.change_application(_LANDSCAPE["Harbour Logistics ERP"]["id"], {"description": _MOVED})
        state.unassign(_LANDSCAPE[payroll]["id"], world.compass.runtime_id)
        world.compass.put_application(_LANDSCAPE["City Weather"])
        world.wait_for("the description", lambda: _description(world) == _MOVED)
        world.wait_for("the new one", lambda: _WEATHER in world.applications())
        world.wait_for("the other to go", lambda: not any("payroll" in name for name in world.applications()))


def drift(world: World) -> None:
    print("\nDrift: what users change is reverted, what is theirs stays")
    present = world.applications()[_ERP]
    with step("a user edits an Application and labels it, and deletes a Secret"):
        present["spec"]["description"] = "edited by hand"
        present["metadata"]["labels"]["team"] = "harbour"
        world.client.update(APPLICATION, present)
        secret = next(name for name in world.secrets() if name.startswith(_ERP[:26]))
        world.client.delete(SECRET, secret, namespace="kyma-system")
        world.wait_for("the description", lambda: _description(world) == _MOVED)
        world.wait_for("the Secret", lambda: secret in world.secrets())
    print(f"    the label is {world.applications()[_ERP]['metadata']['labels']['team']}")
    with step("a user deletes an Application"):
        world.client.delete(APPLICATION, _ERP)
        world.wait_for("it to be back", lambda: _ERP in world.applications())


def renew(world: World) -> None:
    print("\nRenew: a fresh certificate before the old one ends")
    before = _certificate(world)
    with step("kubectl patch: refreshCredentialsNow"):
        world.patch_connection({"spec": {"refreshCredentialsNow": True}})
        _wait_for_another_certificate(world, before)


def reconnect(world: World) -> None:
    print("\nReconnect: a new token and kubectl delete")
    before = _certificate(world)
    with step("all certificates are revoked; a new token, and delete compassconnection"):
        world.compass.state.revoke_all(world.compass.runtime_id)
        world.configure()
        world.delete_connection()
        _wait_for_another_certificate(world, before)


def end(world: World) -> None:
    for kind in ("applications", "compassconnection"):
        print(f"\n$ kubectl get {kind}", flush=True)
        command = [str(world.control_plane.assets.kubectl), "--kubeconfig", str(world.kubeconfig), "get", kind]
        subprocess.run(command, check=True)


def stay(world: World) -> None:
    """Until Ctrl-C, with the commands to try."""
    admin = world.compass.admin_url
    runtime = f"{admin}/runtimes/{world.compass.runtime_id}"
    print("\nEverything keeps running until Ctrl-C. In another terminal:\n")
    print(f"  export KUBECONFIG={world.kubeconfig} PATH={world.control_plane.assets.kubectl.parent}:$PATH")
    for what, command in (
        ("see the connection", "kubectl get cc; kubectl describe cc compass-connection"),
        ("see the Applications", "kubectl get applications"),
        (
            "change one, and see it reverted",
            f'kubectl patch app {_ERP} --type merge -p \'{{"spec":{{"description":"x"}}}}\'',
        ),
        ("ask the Director now", 'kubectl patch cc compass-connection --type merge -p \'{"spec":{"resyncNow":true}}\''),
        ("add 50 Applications in Compass", f"curl -d '{{\"count\":50}}' {admin}/applications/generate"),
        ("take Compass down", f"curl -X PUT {admin}/outages/gateway"),
        ("and bring it back", f"curl -X DELETE {admin}/outages/gateway"),
        ("revoke the certificate", f"curl -X DELETE {runtime}/certificates"),
        ("a new one-time token", f"curl -d '{{}}' {runtime}/tokens"),
        ("all calls of the mock Compass", f"curl {admin}/"),
        ("the agent's log", f"tail -f {shlex.quote(str(world.directory / 'agent.log'))}"),
    ):
        print(f"# {what}\n  {command}", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def _description(world: World) -> str:
    text: str = world.applications()[_ERP]["spec"]["description"]
    return text


def _certificate(world: World) -> str:
    return str(world.wait_for("a certificate", lambda: (world.secret(CLUSTER_SECRET) or {}).get("crt")))


def _wait_for_another_certificate(world: World, before: str) -> None:
    world.wait_for("another certificate", lambda: _certificate(world) != before)
    world.wait_for_state("Synchronized")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    parser.add_argument("--playground", action="store_true", help="leave everything running afterwards")
    options = parser.parse_args()
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="compass-runtime-agent-") as directory:
            print("kube-apiserver and etcd on this machine, and a mock Compass, start ...", flush=True)
            with World.local(Path(directory)) as world:
                for chapter in (start, pair, change, drift, renew, reconnect, end):
                    chapter(world)
                print(f"\nDone in {time.monotonic() - began:.0f} s.")
                if options.playground:
                    stay(world)
    except (TimeoutError, KubernetesError, AssetsUnavailable, ControlPlaneError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
