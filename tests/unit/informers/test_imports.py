"""What importing the package loads, each in a process of its own."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_parts_of_the_official_client_that_are_not_used_are_not_loaded() -> None:
    unused = {"pydantic", "oauthlib", "requests_oauthlib", "websocket", "kubernetes.dynamic", "yaml"}
    assert run(f"import informers, sys; print({unused!r} & sys.modules.keys())") == "set()"


@pytest.mark.parametrize(
    "code",
    [
        "import informers, kubernetes; kubernetes.client.CoreV1Api; kubernetes.utils.create_from_yaml",
        "import informers; from kubernetes.config import load_config; import kubernetes.stream.ws_client",
        "from kubernetes import client, utils; import informers; client.ApiClient; utils.create_from_yaml",
    ],
)
def test_other_code_in_the_process_has_the_whole_official_client(code: str) -> None:
    """Whoever imported it first, and whatever is asked of it first. It has nothing more."""
    assert run(f"{code}; import kubernetes; print(hasattr(kubernetes, 'nothing'))") == "False"
