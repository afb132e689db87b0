"""The example controllers, on a real API server."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.runtime import LeaderElectionConfig, Manager, Metrics
from e2e.controlplane import ControlPlane
from examples import config_copier, website
from examples.config_copier import COPIED_FROM, COPY_TO
from examples.website import CONFIG_MAP, WEBSITE
from informers import Client, NotFound

EXAMPLES = Path(website.__file__).parent
WAIT = 30.0

Object = dict[str, Any]


@pytest.fixture
def run(admin_kubeconfig: Path) -> Iterator[Callable[..., Metrics]]:
    """Run the manager that a function builds, until the end of the test; it must end without an error."""
    stop = threading.Event()
    running: list[tuple[threading.Thread, Client]] = []
    errors: list[BaseException] = []

    def start(build: Callable[..., Manager], **options: Any) -> Metrics:
        metrics = Metrics()
        client = Client.load(str(admin_kubeconfig), metrics=metrics)
        manager = build(client, metrics, **options)

        def target() -> None:
            try:
                manager.run(stop)
            except BaseException as error:  # noqa: BLE001 - asserted below
                errors.append(error)

        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        running.append((thread, client))
        return metrics

    yield start
    stop.set()
    for thread, client in running:
        thread.join(WAIT)
        assert not thread.is_alive()
        client.close()
    assert errors == []


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def find(admin: Client, name: str, namespace: str) -> Any:
    try:
        return admin.get(CONFIG_MAP, name, namespace=namespace)
    except NotFound:
        return None


class TestWebsite:
    @pytest.fixture
    def hello(self, admin: Client, control_plane: ControlPlane, namespace: str, run: Any) -> str:
        """The controller runs, and there is a Website; gives the namespace of both."""
        control_plane.apply_crds(EXAMPLES / "website.yaml")
        metadata = {"name": "hello", "namespace": namespace, "labels": {"team": "a"}}
        admin.create(
            WEBSITE,
            {
                "apiVersion": "example.com/v1",
                "kind": "Website",
                "metadata": metadata,
                "spec": {"title": "Hello & welcome"},
            },
        )
        election = LeaderElectionConfig(name="website", namespace=namespace)
        self.metrics = run(website.build, election=election)
        wait_for(lambda: "status" in admin.get(WEBSITE, "hello", namespace=namespace))
        return namespace

    def test_a_website_gets_a_page_that_belongs_to_it(self, admin: Client, hello: str) -> None:
        """The page, its labels, its owner, and the status."""
        page = find(admin, "hello", hello)
        site = admin.get(WEBSITE, "hello", namespace=hello)
        assert "<h1>Hello &amp; welcome</h1>" in page["data"]["index.html"]
        assert page["metadata"]["labels"] == {"team": "a", "example.com/website": "hello"}
        (owner,) = page["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Website", site["metadata"]["uid"], True)
        assert site["status"] == {"observedGeneration": 1, "page": "hello"}

    def test_the_page_follows_spec_and_labels(self, admin: Client, hello: str) -> None:
        """A change of either is a reconcile."""
        admin.patch(WEBSITE, "hello", {"spec": {"title": "Bye"}}, namespace=hello)
        wait_for(lambda: "Bye" in find(admin, "hello", hello)["data"]["index.html"])
        wait_for(lambda: admin.get(WEBSITE, "hello", namespace=hello)["status"]["observedGeneration"] == 2)
        admin.patch(WEBSITE, "hello", {"metadata": {"labels": {"team": "b"}}}, namespace=hello)
        wait_for(lambda: find(admin, "hello", hello)["metadata"]["labels"]["team"] == "b")

    def test_drift_is_undone(self, admin: Client, hello: str) -> None:
        """A page that somebody changes or deletes comes back."""
        admin.patch(CONFIG_MAP, "hello", {"data": {"index.html": "defaced"}}, namespace=hello)
        wait_for(lambda: "Hello" in find(admin, "hello", hello)["data"]["index.html"])
        uid = find(admin, "hello", hello)["metadata"]["uid"]
        admin.delete(CONFIG_MAP, "hello", namespace=hello)
        wait_for(lambda: (page := find(admin, "hello", hello)) and page["metadata"]["uid"] != uid)

    def test_a_status_is_no_reason_to_reconcile(self, admin: Client, hello: str) -> None:
        """Else each write of the status would cause the next reconcile."""

        def reconciles() -> float:
            labels = {"controller": "website"}
            return self.metrics.registry.get_sample_value("controller_runtime_reconcile_time_seconds_count", labels)  # type: ignore[no-any-return]

        admin.patch(WEBSITE, "hello", {"spec": {"title": "Bye"}}, namespace=hello)
        wait_for(lambda: admin.get(WEBSITE, "hello", namespace=hello)["status"]["observedGeneration"] == 2)
        count = reconciles()
        for number in range(20):
            admin.patch(WEBSITE, "hello", {"metadata": {"annotations": {"seen": str(number)}}}, namespace=hello)
        admin.patch(WEBSITE, "hello", {"spec": {"title": "Again"}}, namespace=hello)
        wait_for(lambda: admin.get(WEBSITE, "hello", namespace=hello)["status"]["observedGeneration"] == 3)
        # One for each of the two specs and one for each of the two pages. The first may be counted only now, since the
        # status is written before a reconcile ends. Twenty annotations and two statuses would make it more.
        assert reconciles() - count <= 4


class TestConfigCopier:
    @pytest.fixture
    def spaces(self, control_plane: ControlPlane, namespace: str, run: Any) -> tuple[str, str, str]:
        """The controller runs; gives three namespaces, the first for sources."""
        others = [f"{namespace}-{letter}" for letter in "ab"]
        for other in others:
            control_plane.create_namespace(other)
        run(config_copier.build)
        return namespace, others[0], others[1]

    def create(self, admin: Client, namespace: str, *targets: str) -> Object:
        metadata = {"name": "settings", "namespace": namespace, "annotations": {COPY_TO: ",".join(targets)}}
        return admin.create(CONFIG_MAP, {"metadata": metadata, "data": {"colour": "red"}})

    def test_copies_follow_their_source(self, admin: Client, spaces: tuple[str, str, str]) -> None:
        """They are made, changed, and deleted where they are not wanted any more."""
        home, a, b = spaces
        self.create(admin, home, a, b)
        for space in (a, b):
            copy = wait_for(lambda space=space: find(admin, "settings", space))  # type: ignore[misc]
            assert copy["data"] == {"colour": "red"}
            assert copy["metadata"]["annotations"] == {COPIED_FROM: f"{home}/settings"}
        admin.patch(CONFIG_MAP, "settings", {"data": {"colour": "blue"}}, namespace=home)
        for space in (a, b):
            wait_for(lambda space=space: find(admin, "settings", space)["data"] == {"colour": "blue"})  # type: ignore[misc]
        admin.patch(CONFIG_MAP, "settings", {"metadata": {"annotations": {COPY_TO: a}}}, namespace=home)
        wait_for(lambda: find(admin, "settings", b) is None)
        assert find(admin, "settings", a) is not None

    def test_a_source_goes_when_its_copies_have_gone(self, admin: Client, spaces: tuple[str, str, str]) -> None:
        """The finalizer keeps it until then, and nothing is left behind."""
        home, a, b = spaces
        self.create(admin, home, a, b)
        for space in (a, b):
            wait_for(lambda space=space: find(admin, "settings", space))  # type: ignore[misc]
        admin.delete(CONFIG_MAP, "settings", namespace=home)
        wait_for(lambda: find(admin, "settings", home) is None)
        assert [find(admin, "settings", space) for space in (a, b)] == [None, None]

    def test_a_copy_that_is_deleted_comes_back(self, admin: Client, spaces: tuple[str, str, str]) -> None:
        """It leads back to its source."""
        home, a, _ = spaces
        self.create(admin, home, a)
        uid = wait_for(lambda: find(admin, "settings", a))["metadata"]["uid"]
        admin.delete(CONFIG_MAP, "settings", namespace=a)
        wait_for(lambda: (copy := find(admin, "settings", a)) and copy["metadata"]["uid"] != uid)

    def test_what_cannot_be_copied_holds_up_no_other(
        self, admin: Client, spaces: tuple[str, str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A missing namespace and a ConfigMap of somebody else are told in one line; the third copy is made."""
        home, a, b = spaces
        admin.create(CONFIG_MAP, {"metadata": {"name": "settings", "namespace": a}, "data": {"of": "others"}})
        self.create(admin, home, a, b, "missing-namespace")
        wait_for(lambda: find(admin, "settings", b))
        told = wait_for(lambda: [r for r in caplog.records if r.getMessage() == "Reconcile failed"])[0]
        assert f"{a}/settings exists and is no copy" in told.error
        assert "missing-namespace" in told.error
        assert told.exc_info is None
        assert find(admin, "settings", a)["data"] == {"of": "others"}


def test_the_controller_of_the_readme(admin: Client, admin_kubeconfig: Path, namespace: str) -> None:
    """It runs as it is printed."""
    text = (EXAMPLES / "README.md").read_text()
    (code,) = re.findall(r"<!-- example: run by the tests -->\n```python\n(.*?)```", text, re.DOTALL)
    program: dict[str, Any] = {}
    exec(code, program)
    stop = threading.Event()
    client = Client.load(str(admin_kubeconfig))
    thread = threading.Thread(target=program["run"], args=(client, stop), daemon=True)
    thread.start()
    admin.create(CONFIG_MAP, {"metadata": {"name": "parrot", "namespace": namespace}, "data": {"say": "hello"}})
    wait_for(lambda: find(admin, "parrot", namespace)["data"].get("shout") == "HELLO")
    stop.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    client.close()
