"""The example of the README, against a real API server."""

import re
import threading
from pathlib import Path
from typing import Any

import informers
from informers import Client, Resource
from tests.fake_api_server.waiting import eventually

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


def test_readme_example(admin: Client, namespace: str) -> None:
    """It does what it says, for what exists and for what comes."""
    readme = Path(informers.__file__).parent / "README.md"
    example = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)[0]
    scope: dict[str, Any] = {}
    exec(compile(example, str(readme), "exec"), scope)

    def put(name: str, say: str) -> None:
        admin.create(CONFIG_MAPS, {"metadata": {"name": name, "namespace": namespace}, "data": {"say": say}})

    def shout(name: str) -> Any:
        return admin.get(CONFIG_MAPS, name, namespace=namespace)["data"].get("shout")

    put("before", "hello")
    stop = threading.Event()
    controller = threading.Thread(target=scope["run"], args=(admin, stop))
    controller.start()
    try:
        eventually(lambda: shout("before") == "HELLO")
        put("after", "bye")
        eventually(lambda: shout("after") == "BYE")
    finally:
        stop.set()
        controller.join(60)
    assert not controller.is_alive()
