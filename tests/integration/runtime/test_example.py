"""The example controller on a real API server."""

import http.client
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.runtime import LeaderElectionConfig, Metrics
from e2e.controlplane import ControlPlane
from examples import website
from examples.website import CONFIG_MAP, WEBSITE
from informers import Client, NotFound
from tests.fake_api_server.waiting import eventually

WAIT = 30.0


@pytest.fixture
def page(
    admin: Client, control_plane: ControlPlane, admin_kubeconfig: Path, namespace: str
) -> Iterator[Callable[[], Any]]:
    """The controller runs, and there is a Website; gives a function that reads its page."""
    control_plane.apply_crds(Path(website.__file__).with_name("website.yaml"))
    client = Client.load(str(admin_kubeconfig))
    election = LeaderElectionConfig(name="website", namespace=namespace)
    manager = website.build(client, Metrics(), election, health_port=0)
    stop = threading.Event()
    thread = threading.Thread(target=manager.run, args=(stop,), daemon=True)
    thread.start()
    metadata = {"name": "hello", "namespace": namespace}
    admin.create(
        WEBSITE,
        {
            "apiVersion": WEBSITE.api_version,
            "kind": WEBSITE.kind,
            "metadata": metadata,
            "spec": {"title": "Hello & welcome"},
        },
    )

    def read() -> Any:
        try:
            return admin.get(CONFIG_MAP, "hello", namespace=namespace)
        except NotFound:
            return None

    eventually(read)
    health = http.client.HTTPConnection("127.0.0.1", manager.servers["health"].port, timeout=WAIT)
    health.request("GET", "/readyz")
    assert health.getresponse().read() == b"ok"
    yield read
    health.close()
    stop.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    client.close()


def test_a_website_gets_a_page_and_a_status(admin: Client, namespace: str, page: Callable[[], Any]) -> None:
    eventually(lambda: "status" in admin.get(WEBSITE, "hello", namespace=namespace))
    site = admin.get(WEBSITE, "hello", namespace=namespace)
    assert site["status"] == {"observedGeneration": 1, "page": "hello"}
    (owner,) = page()["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Website", site["metadata"]["uid"], True)
    assert "<h1>Hello &amp; welcome</h1>" in page()["data"]["index.html"]


def test_the_page_follows_the_website(admin: Client, namespace: str, page: Callable[[], Any]) -> None:
    admin.patch(WEBSITE, "hello", {"spec": {"title": "Bye"}}, namespace=namespace)
    eventually(lambda: "Bye" in page()["data"]["index.html"])
    eventually(lambda: admin.get(WEBSITE, "hello", namespace=namespace)["status"]["observedGeneration"] == 2)


def test_drift_of_the_page_is_undone(admin: Client, namespace: str, page: Callable[[], Any]) -> None:
    """Values of other clients stay."""
    drift = {"data": {"index.html": "defaced", "robots.txt": "all"}}
    admin.patch(CONFIG_MAP, "hello", drift, namespace=namespace)
    eventually(lambda: "Hello" in page()["data"]["index.html"])
    assert page()["data"]["robots.txt"] == "all"
    uid = page()["metadata"]["uid"]
    admin.delete(CONFIG_MAP, "hello", namespace=namespace)
    eventually(lambda: (found := page()) and found["metadata"]["uid"] != uid)
