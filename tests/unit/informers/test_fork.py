"""A forked child uses the client of its parent."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.noting_server import NotingServer

FORKS = """
import os, sys, warnings
from pathlib import Path
from kubernetes.client import Configuration
from informers import Client
from informers.credentials import Credentials

url, ca = sys.argv[1:]
configuration = Configuration(host=url)
client = Client(configuration, Credentials(configuration, ca=Path(ca)))
client.request("GET", "/parent")  # leaves an idle connection
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about threads
children = []
for number in range(2):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            client.request("GET", f"/child{number}", timeout=20)
            client.request("PUT", f"/child{number}", body={}, timeout=20)
            status = 0
        finally:
            os._exit(status)
    children.append(pid)
print(*[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
client.request("GET", "/parent", timeout=20)
client.close()
"""


@pytest.mark.timeout(120)
def test_idle_connections_stay_with_the_parent(tmp_path: Path) -> None:
    """Parent and children would read each other's answers, and the sequence numbers of TLS would not fit."""
    with NotingServer(tmp_path) as server:
        ca = tmp_path / "ca"
        ca.write_bytes(server.authority.certificate_pem)
        command = [sys.executable, "-c", FORKS, f"https://127.0.0.1:{server.port}", str(ca)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "0 0", "")
        assert len(server.taken()) == 6
