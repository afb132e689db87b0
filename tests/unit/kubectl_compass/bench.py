"""A cluster in memory, a kubectl that is a script, and a terminal whose text can be read."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

from controller.resources import COMPONENT
from informers import NotFound
from kubectl_compass.arguments import Connect, Output
from kubectl_compass.cluster import Cluster
from kubectl_compass.terminal import Terminal
from tests.clock import VirtualClock

Object = dict[str, Any]
NAMESPACE = "kyma-system"
VERSION_TOLD = 'case "$*" in *--version) echo "compass-runtime-agent 1.2.3 (commit abc)";; *) exit 1;; esac'


def kubectl(directory: Path, script: str) -> str:
    """A kubectl that writes its arguments to the file `commands`, and then does what the script says."""
    file = directory / "kubectl"
    file.write_text(f'#!/bin/sh\necho "$@" >>{directory}/commands\n{script}\n')
    file.chmod(0o755)
    return str(file)


def commands(directory: Path) -> list[str]:
    """Those that were run."""
    file = directory / "commands"
    return file.read_text().splitlines() if file.exists() else []


def deployment(
    wanted: int = 1, ready: int = 1, *, probe: str = "/readyz", image: str = "registry/agent:1", **variables: str
) -> Object:
    env = [{"name": name, "value": value} for name, value in variables.items()]
    container = {"name": COMPONENT, "image": image, "readinessProbe": {"httpGet": {"path": probe}}, "env": env}
    spec = {"replicas": wanted, "template": {"spec": {"containers": [container], "serviceAccountName": "robot"}}}
    return {"spec": spec, "status": {"readyReplicas": ready} if ready else {}}


def held_by(holder: str) -> Object:
    """A Lease."""
    return {"spec": {"holderIdentity": holder}}


class Clock(VirtualClock):
    """A sleep ends at once, when its time is over."""

    def sleep(self, seconds: float, stop: Any) -> bool:
        self.advance(seconds)
        return False


class Server:
    """An API server that gives the answers by kind, one after the other, the last one for ever.

    An exception is raised, None is no object. Lists have one object on each page.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, list[Any]] = {kind: [answer] for kind, answer in answers.items()}
        self.reads: Counter[str] = Counter()
        self.patches: list[Object] = []
        self._listed: dict[str, list[Object]] = {}

    def get(self, resource: Any, _name: str, **_: Any) -> Any:
        self.reads[resource.kind] += 1
        if (found := self._next(resource.kind)) is None:
            raise NotFound("no", status=404)
        return found

    def list(self, resource: Any, *, continue_: str, **_: Any) -> Object:
        if not continue_:
            self._listed[resource.plural] = self._next(resource.plural) or []
        items, at = self._listed[resource.plural], int(continue_ or 0)
        more = str(at + 1) if at + 1 < len(items) else ""
        return {"metadata": {"continue": more}, "items": items[at : at + 1]}

    def patch(self, _resource: Any, _name: str, patch: Object) -> Object:
        self.patches.append(patch)
        return {}

    def delete(self, *_: Any, **__: Any) -> None:
        pass

    def _next(self, key: str) -> Any:
        answers = self.answers.get(key, [None])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bench:
    """`kubectl`: the text of a script."""

    def __init__(
        self, directory: Path, *, script: str = VERSION_TOLD, connect: Connect | None = None, **answers: Any
    ) -> None:
        self.server = Server(**answers)
        self.clock = Clock()
        self.cluster = Cluster(
            self.server,  # type: ignore[arg-type]
            connect or Connect(),
            environment={},
            kubectl=kubectl(directory, script),
        )
        self.out, self.err = io.StringIO(), io.StringIO()

    def terminal(self, output: Output = "text") -> Terminal:
        return Terminal(output, out=self.out, err=self.err, clock=self.clock)

    def json(self) -> Any:
        """What was printed."""
        return json.loads(self.out.getvalue())
