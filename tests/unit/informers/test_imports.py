"""What importing the package loads, each in a process of its own."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    "module", ["pydantic", "oauthlib", "requests_oauthlib", "websocket", "kubernetes.dynamic", "yaml"]
)
def test_parts_of_the_official_client_that_are_not_used_are_not_loaded(module: str) -> None:
    assert run(f"import informers, sys; print({module!r} in sys.modules)") == "False"


@pytest.mark.parametrize(
    "code",
    [
        "import kubernetes; kubernetes.client.CoreV1Api; kubernetes.dynamic.DynamicClient",
        "import kubernetes; kubernetes.config.load_kube_config",
        "from kubernetes import client, config, dynamic, watch; config.load_incluster_config; client.ApiClient",
        "from kubernetes.config import load_config, ConfigException; import kubernetes.stream.ws_client",
        "import kubernetes; kubernetes.__version__",
        "from kubernetes import utils; utils.create_from_yaml; utils.parse_quantity",
    ],
)
@pytest.mark.parametrize("first", ["import informers", "pass"])
def test_other_code_in_the_process_has_the_whole_official_client(code: str, first: str) -> None:
    """Whoever imported it first, and whatever is asked of it first."""
    assert run(f"{first}; {code}; import informers; print('fine')") == "fine"


def test_what_a_package_does_not_have_is_an_attribute_error() -> None:
    code = "import informers, kubernetes\ntry:\n kubernetes.nothing\nexcept AttributeError as error: print(error)"
    assert "nothing" in run(code)
