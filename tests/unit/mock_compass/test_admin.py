"""The admin API over HTTP, the log of requests, and the life of the server."""

import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography import x509

from e2e.mock_compass import Listen, MockCompass, landscape
from tests.support.compass_client import CONFIGURATION, TIMEOUT, Client

NAMES = "query ($id: ID!) { applicationsForRuntime(runtimeID: $id) { data { id name } totalCount } }"


class Admin:
    def __init__(self, compass: MockCompass) -> None:
        self._url = compass.admin_url

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.raw(method, path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def raw(self, method: str, path: str, body: Any = None) -> requests.Response:
        data = None if body is None else json.dumps(body)
        return requests.request(method, self._url + path, data=data, timeout=TIMEOUT)


@pytest.fixture
def admin(compass: MockCompass) -> Admin:
    return Admin(compass)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def names(client: Client) -> list[str]:
    answer = client.ask(NAMES, {"id": client.compass.runtime_id})
    return sorted(record["name"] for record in answer["data"]["applicationsForRuntime"]["data"])


def test_applications_are_added_changed_and_removed(admin: Admin, paired: Client) -> None:
    """New ones are assigned to the first Runtime unless told otherwise."""
    (one,) = admin("POST", "/applications", {"name": "one"})["ids"]
    admin("POST", "/applications", {"applications": [{"name": "two"}, {"name": "three"}]})
    admin("POST", "/applications", {"name": "unassigned", "assignTo": []})
    assert names(paired) == ["mp-one", "mp-three", "mp-two"]
    assert admin("PATCH", f"/applications/{one}", {"name": "uno", "description": "d"})["description"] == "d"
    assert admin("GET", f"/applications/{one}")["name"] == "uno"
    assert names(paired) == ["mp-three", "mp-two", "mp-uno"]
    admin("DELETE", f"/applications/{one}")
    assert names(paired) == ["mp-three", "mp-two"]
    admin("DELETE", "/applications")
    assert admin("GET", "/applications") == []


def test_applications_are_assigned_and_unassigned(admin: Admin, paired: Client, compass: MockCompass) -> None:
    """An unassigned one stays known."""
    (one,) = admin("POST", "/applications", {"name": "one"})["ids"]
    admin("DELETE", f"/runtimes/{compass.runtime_id}/applications/{one}")
    assert names(paired) == []
    admin("PUT", f"/runtimes/{compass.runtime_id}/applications/{one}")
    assert names(paired) == ["mp-one"]


def test_examples_and_bulk_material(admin: Admin, paired: Client) -> None:
    """Generating again with a larger count adds only the difference."""
    assert len(admin("POST", "/applications/examples")["ids"]) == len(landscape())
    admin("POST", "/applications/generate", {"count": 3, "prefix": "bulk"})
    admin("POST", "/applications/generate", {"count": 5, "prefix": "bulk"})
    assert len(names(paired)) == len(landscape()) + 5


def test_a_token_call_gives_the_whole_configuration(admin: Admin, client: Client, compass: MockCompass) -> None:
    """The four keys that the agent is configured with, and a token that works."""
    given = admin("POST", f"/runtimes/{compass.runtime_id}/tokens", {"lifetime": 30})
    token = given.pop("TOKEN")
    assert given == {
        "CONNECTOR_URL": compass.connector_url,
        "RUNTIME_ID": compass.runtime_id,
        "TENANT": compass.tenant,
    }
    assert client.configuration(token)


def test_runtimes_are_separate(admin: Admin, compass: MockCompass, paired: Client) -> None:
    """What is assigned to another Runtime is not seen."""
    other = admin("POST", "/runtimes", {"name": "other"})["id"]
    admin("POST", "/applications", {"name": "theirs", "assignTo": [other]})
    assert names(paired) == []
    status = admin("GET", "/status")
    assert {runtime["name"] for runtime in status["runtimes"]} == {"runtime", "other"}
    admin("DELETE", f"/runtimes/{other}")
    assert len(admin("GET", "/status")["runtimes"]) == 1


def test_labels_are_set_and_deleted(admin: Admin, compass: MockCompass) -> None:
    """The body is the value, of any JSON type."""
    path = f"/runtimes/{compass.runtime_id}/labels/k"
    admin("PUT", path, {"a": [1]})
    assert admin("GET", "/status")["runtimes"][0]["labels"]["k"] == {"a": [1]}
    assert admin("DELETE", path) == {"a": [1]}


def test_certificates_are_listed_and_revoked(admin: Admin, compass: MockCompass, client: Client) -> None:
    """One by its fingerprint, or all of a Runtime."""
    client.pair()
    client.pair()
    path = f"/runtimes/{compass.runtime_id}/certificates"
    first, second = admin("GET", path)
    admin("DELETE", f"/certificates/{second['fingerprint']}")
    assert [entry["revoked"] for entry in admin("GET", path)] == [False, True]
    assert admin("DELETE", path) == {"revoked": 2}
    assert first["fingerprint"] != second["fingerprint"]


def test_settings_and_faults_take_effect(admin: Admin, compass: MockCompass, paired: Client) -> None:
    """A page instead of an answer; removing the fault brings the service back."""
    admin("PATCH", "/settings", {"certificate_validity": 9, "director_url": "https://elsewhere.example"})
    assert paired.configuration()["managementPlaneInfo"]["directorURL"] == "https://elsewhere.example"
    number = admin("POST", "/faults", {"kind": "page", "page": "unavailable", "target": "director"})["number"]
    answer = paired.post(compass.director_url, NAMES)
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html")
    assert admin("GET", "/faults")[0]["hits"] == 1
    admin("DELETE", f"/faults/{number}")
    assert names(paired) == []


def test_outages_are_switched_one_by_one(admin: Admin, compass: MockCompass, paired: Client) -> None:
    """Several at a time; the delay of an answer may be another than the real one."""
    admin("PUT", "/outages/connector")
    admin("PUT", "/outages/hydrator", {"delay": 0})
    assert admin("GET", "/outages") == ["hydrator", "connector"]
    assert paired.post(compass.secured_connector_url, CONFIGURATION).status_code == 500
    admin("DELETE", "/outages/hydrator")
    assert paired.post(compass.secured_connector_url, CONFIGURATION).status_code == 503
    admin("DELETE", "/outages")
    assert paired.configuration()


def test_the_rate_limit_is_changed(admin: Admin, compass: MockCompass, paired: Client) -> None:
    """Smaller, so that a test need not send thousands of requests, and off."""
    assert admin("PATCH", "/rate-limit", {"capacity": 0}) == {
        "enabled": True,
        "capacity": 0,
        "fill": 300,
        "interval": 30.0,
    }
    answer = paired.post(compass.director_url, NAMES)
    assert (answer.status_code, answer.text) == (429, "local_rate_limited")
    admin("PATCH", "/rate-limit", {"enabled": False})
    assert names(paired) == []


def test_an_action_fault_replays_admin_calls(admin: Admin, paired: Client) -> None:
    """So paging races can be ordered from another process."""
    (one,) = admin("POST", "/applications", {"name": "one"})["ids"]
    calls = [{"method": "DELETE", "path": f"/applications/{one}"}]
    admin("POST", "/faults", {"kind": "action", "target": "director", "times": 1, "calls": calls})
    assert names(paired) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/nothing", None, 404, "there is no /nothing"),
        ("PUT", "/applications", None, 405, "has no PUT"),
        ("POST", "/applications", [], 400, "must be a JSON object"),
        ("POST", "/applications", {"name": 1}, 400, "application.name"),
        ("POST", "/applications", {"name": "x", "assignTo": ["nobody"]}, 404, "no Runtime nobody"),
        ("POST", "/applications/generate", {"count": "many"}, 400, "count"),
        ("PATCH", "/applications/none", {"name": "x"}, 404, "no Application none"),
        ("DELETE", "/applications/none", None, 404, "no Application none"),
        ("POST", "/runtimes/none/tokens", None, 404, "no Runtime none"),
        ("POST", "/faults", {"kind": "nothing"}, 400, "fault kind"),
        ("POST", "/faults", {"kind": "page", "page": "nothing"}, 400, "login page"),
        ("PUT", "/outages/nothing", None, 404, "no outage nothing"),
        ("DELETE", "/outages/nothing", None, 404, "no outage nothing"),
        ("PUT", "/outages/hydrator", {"delay": "long"}, 400, "long"),
        ("POST", "/faults", {"kind": "action"}, 400, "calls"),
        ("POST", "/faults", {"kind": "reset", "nonsense": 1}, 400, "nonsense"),
        ("PATCH", "/settings", {"nonsense": 1}, 400, "nonsense"),
        ("PATCH", "/rate-limit", {"nonsense": 1}, 400, "nonsense"),
        ("PATCH", "/rate-limit", {"capacity": True}, 400, "capacity"),
        ("PATCH", "/rate-limit", {"interval": "long"}, 400, "interval"),
        ("PATCH", "/settings", {"certificate_validity": "long"}, 400, "wrong type"),
    ],
)
def test_a_wrong_call_is_explained(admin: Admin, method: str, path: str, body: Any, status: int, message: str) -> None:
    """The status fits, and the text says what is wrong."""
    answer = admin.raw(method, path, body)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_body_that_is_not_json_is_explained(compass: MockCompass) -> None:
    """Rather than failing inside."""
    answer = requests.post(f"{compass.admin_url}/applications", data="{", timeout=TIMEOUT)
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]


def test_the_root_lists_every_call(admin: Admin) -> None:
    """For a person with curl."""
    assert any(line.startswith("POST /runtimes/{runtime}/tokens") for line in admin("GET", "/"))


# --- the log ---


def test_requests_are_logged_without_secrets(admin: Admin, client: Client, compass: MockCompass) -> None:
    """Operation, Runtime, client, x-request-id, status, outcome; neither tokens nor bodies."""
    token = compass.issue_token()
    client.configuration(token)
    client.post(compass.connector_url, CONFIGURATION, headers={"Connector-Token": token})
    paired = client.pair()
    paired.post(compass.director_url, "{ viewer { id } }", headers={"x-request-id": "abc"})
    paired.post(compass.director_url, "{ nothing }")
    logged = admin("GET", "/requests")
    assert [(entry["target"], entry["operation"], entry["status"], entry["outcome"]) for entry in logged] == [
        ("connector", "configuration", 200, "ok"),
        ("connector", "configuration", 400, "refused"),
        ("connector", "configuration", 200, "ok"),
        ("connector", "signCertificateSigningRequest", 200, "ok"),
        ("director", "viewer", 200, "ok"),
        ("director", "invalid", 422, "refused"),
    ]
    assert logged[4]["request_id"] == "abc"
    assert logged[4]["runtime_id"] == compass.runtime_id
    assert logged[4]["client_id"] == paired.common_name
    assert token not in json.dumps(logged)
    assert admin("GET", "/counters")["connector/configuration"] == 3
    assert compass.requests.count("director") == 2
    assert compass.requests.count(operation="viewer") == 1
    admin("DELETE", "/requests")
    assert compass.requests.count() == 0


def test_waiting_for_a_request_ends_when_it_comes(paired: Client, compass: MockCompass) -> None:
    """Or says that it did not come."""
    assert not compass.requests.wait_for(1, "director", timeout=0)
    paired.ask("{ viewer { id } }")
    assert compass.requests.wait_for(1, "director", "viewer", timeout=TIMEOUT)


# --- life ---


def test_a_restart_keeps_ports_state_and_certificates(paired: Client, compass: MockCompass) -> None:
    """While stopped, connections are refused; afterwards everything is as before."""
    url = compass.director_url
    compass.put_application({"name": "one"})
    compass.stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        names(paired)
    compass.start()
    assert compass.director_url == url
    assert names(paired) == ["mp-one"]


def test_a_taken_port_is_an_error(compass: MockCompass, authorities: Path) -> None:
    """Raised by start(); nothing keeps running."""
    other = MockCompass(listen=Listen(port=port_of(compass.connector_url)), state_directory=authorities)
    with pytest.raises(OSError, match="address already in use"):
        other.start()
    other.stop()


def test_starting_twice_is_an_error(compass: MockCompass) -> None:
    """It would leave a thread behind."""
    with pytest.raises(RuntimeError, match="runs already"):
        compass.start()


def test_an_advertised_host_name_is_in_the_certificate(authorities: Path) -> None:
    """As are extra names."""
    compass = MockCompass(host_name="compass.example", extra_names=("10.0.0.7",), state_directory=authorities)
    with compass:
        assert compass.director_url.startswith("https://compass.example:")
        pem = ssl.get_server_certificate(("127.0.0.1", port_of(compass.connector_url)))
    certificate = x509.load_pem_x509_certificate(pem.encode())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"compass.example", "localhost"} <= set(found.get_values_for_type(x509.DNSName))
    assert ipaddress.ip_address("10.0.0.7") in found.get_values_for_type(x509.IPAddress)


def test_the_process_says_where_it_listens_and_ends_on_sigterm(tmp_path: Path) -> None:
    """One JSON line with all URLs; the authority is written for clients; exit code 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "e2e.mock_compass", "--state-dir", str(tmp_path), "--examples"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        status = requests.get(f"{ready['admin_url']}/status", timeout=TIMEOUT).json()
        assert status["applications"] == len(landscape())
        assert "BEGIN CERTIFICATE" in Path(ready["ca_file"]).read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0


def test_the_process_explains_a_taken_port(tmp_path: Path) -> None:
    """Exit code 1 and a line on stderr."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "e2e.mock_compass", "--state-dir", str(tmp_path), "--admin-port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
