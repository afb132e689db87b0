"""The whole agent in a thread of the test: the same build as the process has, in a fraction of its time to start.

Only the client keys are smaller, because a key of 4096 bits takes a second or two of a busy machine.
"""

import io
import logging
import threading
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from controller.agent import build
from controller.runtime import Manager, Metrics
from controller.runtime.logs import TextFormatter
from controller.settings import Settings
from e2e.world import World
from informers import Client

_STOP_SECONDS = 40.0
_POOL = 4  # keys, made once in a process
_KEYS: list[rsa.RSAPrivateKey] = []
_LOCK = threading.Lock()


def small_key(_bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of a few keys, in turn: no two that are asked for one after the other are the same."""
    with _LOCK:
        _KEYS.append(
            rsa.generate_private_key(public_exponent=65537, key_size=2048) if len(_KEYS) < _POOL else _KEYS.pop(0)
        )
        return _KEYS[-1]


class AgentThread:
    """Starts and stops one agent; `log` is what it would have written."""

    def __init__(self, world: World, *, kubeconfig: Path | None = None, **settings: str) -> None:
        self._settings = Settings.from_environment(world.environment(**settings))
        self._kubeconfig = kubeconfig or world.kubeconfig
        self._text = io.StringIO()
        self._handler = logging.StreamHandler(self._text)
        self._handler.setFormatter(TextFormatter())
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def log(self) -> str:
        return self._text.getvalue()

    def start(self) -> "AgentThread":
        logging.getLogger().addHandler(self._handler)
        self._stop.clear()
        client = self.new_client()
        manager = build(self._settings, client, Metrics(), new_key=small_key)
        self._thread = threading.Thread(target=self._run, args=(manager, client), name="agent")
        self._thread.start()
        return self

    def new_client(self) -> Client:
        """The client of the next start."""
        return Client.load(str(self._kubeconfig), user_agent="compass-runtime-agent/test")

    def _run(self, manager: Manager, client: Client) -> None:
        try:
            manager.run(self._stop)
        except BaseException as error:  # noqa: BLE001 - raised in stop()
            self._failure = error
        finally:
            client.close()

    def stop(self) -> None:
        """As SIGTERM does; raises what ended the agent before, if something did."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join(_STOP_SECONDS)
        alive, self._thread = self._thread.is_alive(), None
        logging.getLogger().removeHandler(self._handler)
        if self._failure is not None:
            raise self._failure
        assert not alive, "the agent does not stop"

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()


def leaked(text: Any, secrets: set[str]) -> list[str]:
    """Which kinds of secrets a text holds: for an assertion that does not print them."""
    text = str(text)
    found = [f"token {number}" for number, secret in enumerate(sorted(secrets)) if secret in text]
    return found + (["private key"] if "PRIVATE KEY" in text else [])
