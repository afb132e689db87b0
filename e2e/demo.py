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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from controller.resources import APPLICATION, SECRET
from e2e.agent_process import AgentProcess
from e2e.controlplane import AssetsUnavailable, ControlPlaneError
from e2e.mock_compass.examples import landscape
from e2e.world import CLUSTER_SECRET, World
from informers import KubernetesError

_ERP = "mp-harbour-logistics-erp"
_WEATHER = "City Weather"
_WEATHER_NAME = "mp-city-weather"
_WIDTH = 110  # of the account when it goes into a file or a CI log

Object = dict[str, Any]


class Output:
    """Prints what is about to happen, and how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def chapter(self, title: str) -> None:
        self._console.print(f"\n[bold cyan]{title}[/]")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        began = time.monotonic()
        with self._console.status(text):
            yield
        self._console.print(f"  [green]✓[/] {text} [dim]{time.monotonic() - began:.1f} s[/]")

    def detail(self, text: str) -> None:
        self._console.print(f"    [dim]{escape(text)}[/]")

    def show(self, *what: str | Table) -> None:
        for one in what:
            self._console.print(one, soft_wrap=True)


class Demo:
    """The chapters, in order; each leaves the world as the next one needs it."""

    def __init__(self, world: World, agent: AgentProcess, output: Output) -> None:
        self._world = world
        self._agent = agent
        self._output = output

    def start(self) -> None:
        self._output.chapter("The agent starts in a cluster that knows nothing of Compass")
        with self._output.step("install the CRDs, start the agent"):
            self._world.install_crds()
            self._agent.start()
            self._world.wait_for_state("ConnectionFailed")
        self._output.detail(f"status says: {self._world.connection_error()}")

    def pair(self) -> None:
        self._output.chapter("Pair: a one-time token becomes a client certificate")
        for application in landscape():
            if application["name"] != _WEATHER:
                self._world.compass.put_application(application)
        with self._output.step("kubectl apply the ConfigMap compass-agent-configuration with a fresh token"):
            self._world.configure()
            self._world.wait_for("credentials", lambda: self._world.state() not in ("", "ConnectionFailed"))
        certificate = self._certificate()
        self._output.detail(
            f"certificate of {certificate.subject.rfc4514_string()}, "
            f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}"
        )

    def sync(self) -> None:
        self._output.chapter("Sync: the cluster gets what Compass assigns")
        with self._output.step("fetch the Applications from the Director and create them with their Secrets"):
            self._world.wait_for_state("Synchronized")
        self._output.detail(f"{len(self._world.applications())} Applications, {len(self._world.secrets())} Secrets")

    def change(self) -> None:
        self._output.chapter("Change: the cluster follows the Director")
        state, runtime_id = self._world.compass.state, self._world.compass.runtime_id
        assigned = {application["name"]: application for application in state.applications_of(runtime_id)}
        with self._output.step("an Application is described anew, one is added, one is unassigned"):
            state.change_application(assigned["Harbour Logistics ERP"]["id"], {"description": "Moved to Antwerp"})
            gone = next(name for name in assigned if "Payroll" in name)
            state.unassign(assigned[gone]["id"], runtime_id)
            self._world.compass.put_application(next(a for a in landscape() if a["name"] == _WEATHER))
            self._world.wait_for("the changes", self._changes_are_there)

    def drift(self) -> None:
        self._output.chapter("Drift: what users change is reverted, what is theirs stays")
        present = self._world.applications()[_ERP]
        with self._output.step("a user edits an Application and labels it, and deletes a Secret"):
            present["spec"]["description"] = "edited by hand"
            present["metadata"]["labels"]["team"] = "harbour"
            self._world.client.update(APPLICATION, present)
            secret = next(name for name in self._world.secrets() if name.startswith(_ERP[:26]))
            self._world.client.delete(SECRET, secret, namespace="kyma-system")
            self._world.wait_for(
                "the drift undone",
                lambda: (
                    self._description(_ERP) == "Moved to Antwerp"
                    and secret in self._world.secrets()
                    and self._world.applications()[_ERP]["metadata"]["labels"].get("team") == "harbour"
                ),
            )
        with self._output.step("a user deletes an Application"):
            self._world.client.delete(APPLICATION, _ERP)
            self._world.wait_for("it to be back", lambda: _ERP in self._world.applications())

    def renew(self) -> None:
        self._output.chapter("Renew: a fresh certificate before the old one ends")
        before = self._certificate()
        with self._output.step("kubectl patch: refreshCredentialsNow"):
            self._world.patch_connection({"spec": {"refreshCredentialsNow": True}})
            self._world.wait_for("another certificate", lambda: self._certificate() != before)
            self._world.wait_for_state("Synchronized")

    def reconnect(self) -> None:
        self._output.chapter("Reconnect: a new token and kubectl delete")
        before = self._certificate()
        with self._output.step("all certificates are revoked; a new token, and delete compassconnection"):
            self._world.compass.state.revoke_all(self._world.compass.runtime_id)
            self._world.configure()
            self._world.delete_connection()
            self._world.wait_for("another certificate", lambda: self._certificate() != before)
            self._world.wait_for_state("Synchronized")

    def end(self) -> None:
        table = Table(title="Applications in the cluster", title_justify="left", show_lines=False)
        for column in ("Application", "Description", "APIs", "Events", "Authentication"):
            table.add_column(column)
        for name, application in sorted(self._world.applications().items()):
            table.add_row(name, escape(application["spec"]["description"]), *_contents(application))
        kubectl = str(self._world.control_plane.assets.kubectl)
        command = [kubectl, "--kubeconfig", str(self._world.kubeconfig), "get", "compassconnection"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self._output.show("", table, "\n[bold]$ kubectl get compassconnection[/]", escape(printed.rstrip()))

    def _changes_are_there(self) -> bool:
        names = self._world.applications().keys()
        return (
            _WEATHER_NAME in names
            and not any("payroll" in name for name in names)
            and self._description(_ERP) == "Moved to Antwerp"
        )

    def _description(self, name: str) -> str:
        text: str = self._world.applications().get(name, {"spec": {}})["spec"].get("description", "")
        return text

    def _certificate(self) -> x509.Certificate:
        stored = self._world.wait_for("a certificate", lambda: (self._world.secret(CLUSTER_SECRET) or {}).get("crt"))
        return x509.load_pem_x509_certificate(str(stored).encode())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    parser.add_argument("--playground", action="store_true", help="leave everything running afterwards")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="compass-runtime-agent-") as directory:
        try:
            _play(Path(directory), Output(console), console, playground=options.playground)
        except (TimeoutError, KubernetesError, AssetsUnavailable, ControlPlaneError) as error:
            console.print(f"\n[bold red]The demo failed:[/] {escape(str(error))}", soft_wrap=True)
            return 1
        except KeyboardInterrupt:
            console.print("\ninterrupted")
            return 130
    console.print(f"\n[bold green]Done[/] in {time.monotonic() - began:.0f} s.")
    return 0


def _play(directory: Path, output: Output, console: Console, *, playground: bool) -> None:
    output.chapter("kube-apiserver and etcd on this machine, and a mock Compass")
    with ExitStack() as stack:
        with output.step("start them"):
            world = stack.enter_context(World.local(directory))
        demo = Demo(world, world.agent(), output)
        for chapter in (demo.start, demo.pair, demo.sync, demo.change, demo.drift, demo.renew, demo.reconnect):
            chapter()
        demo.end()
        if playground:
            _stay(world, console)


def _stay(world: World, console: Console) -> None:
    runtime = f"{world.compass.admin_url}/runtimes/{world.compass.runtime_id}"
    console.print("\n[bold]Everything keeps running[/] until Ctrl-C. In another terminal:\n")
    for what, command in (
        ("", f"export KUBECONFIG={world.kubeconfig} PATH={world.control_plane.assets.kubectl.parent}:$PATH"),
        ("see the connection", "kubectl get cc; kubectl describe cc compass-connection"),
        ("see the Applications", "kubectl get applications"),
        (
            "change one, and see it reverted",
            f'kubectl patch app {_ERP} --type merge -p \'{{"spec":{{"description":"x"}}}}\'',
        ),
        ("ask the Director now", 'kubectl patch cc compass-connection --type merge -p \'{"spec":{"resyncNow":true}}\''),
        (
            "add 50 Applications in Compass",
            f"curl -d '{{\"count\":50}}' {world.compass.admin_url}/applications/generate",
        ),
        ("take Compass down", f"curl -X PUT {world.compass.admin_url}/outages/gateway"),
        ("and bring it back", f"curl -X DELETE {world.compass.admin_url}/outages/gateway"),
        ("revoke the certificate", f"curl -X DELETE {runtime}/certificates"),
        ("a new one-time token", f"curl -d '{{}}' {runtime}/tokens"),
        ("all that Compass can be told", f"curl {world.compass.admin_url}/"),
        ("the agent's log", f"tail -f {shlex.quote(str(world.directory / 'agent.log'))}"),
    ):
        console.print(f"[dim]# {what}[/]" if what else "", soft_wrap=True)
        console.print(f"  {escape(command)}", soft_wrap=True, highlight=False)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def _contents(application: Object) -> tuple[str, str, str]:
    entries = [entry for service in application["spec"].get("services", ()) for entry in service["entries"]]
    kinds = {(entry.get("credentials") or {}).get("type") or "none" for entry in entries if entry["type"] == "API"}
    return (
        str(sum(entry["type"] == "API" for entry in entries)),
        str(sum(entry["type"] == "Events" for entry in entries)),
        ", ".join(sorted(kinds)),
    )


if __name__ == "__main__":
    sys.exit(main())
