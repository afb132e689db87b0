"""One history of the Director that creates, updates and deletes Applications and Secrets, and what each step leads to.

What a step leads to is learnt from a run that nothing disturbs; that it is right is for other tests.
"""

import base64
from typing import Any

from controller.resources import APPLICATION, SECRET
from e2e.world import World

Object = dict[str, Any]
Snapshot = dict[str, Any]


def _bundle(identifier: str, auth: Object | None) -> Object:
    return {
        "id": identifier,
        "name": "Main",
        "defaultInstanceAuth": auth,
        "apiDefinitions": [{"id": f"{identifier}-api", "name": "API", "targetURL": "https://api.example"}],
    }


def _application(name: str, *auths: Object | None, identifier: str = "", description: str = "first") -> Object:
    identifier = identifier or f"id-{name}"
    bundles = [_bundle(f"{name}-{number}", auth) for number, auth in enumerate(auths)]
    return {"id": identifier, "name": name, "description": description, "bundles": bundles}


def _basic(password: str) -> Object:
    return {"credential": {"username": "reader", "password": password}}


_OAUTH = {"credential": {"clientId": "client", "clientSecret": "secret", "url": "https://token.example"}}
_PARAMETERS = {"credential": None, "additionalHeaders": {"X-Zone": ["north"]}}

#: Each differs from the one before in objects that come, change and go; the last has a name again, with another id.
STATES: list[list[Object]] = [
    [],
    [
        _application("mp-a", _basic("one")),
        _application("mp-b", _OAUTH, _PARAMETERS),
        _application("mp-c", None),
    ],
    [
        _application("mp-a", _basic("two")),
        _application("mp-b", _OAUTH, None),
        _application("mp-c", _basic("new"), description="second"),
        _application("mp-d", _PARAMETERS),
    ],
    [
        _application("mp-b", None, None, description="second"),
        _application("mp-c", _basic("new"), _OAUTH, description="third"),
        _application("mp-d", _PARAMETERS),
    ],
    [
        _application("mp-a", _basic("three"), identifier="id-other-a"),
        _application("mp-c", _basic("newer"), description="third"),
    ],
]


def direct(world: World, state: int) -> None:
    """The Director assigns another state, at one moment."""
    compass = world.compass
    with compass.state._lock:
        compass.state.remove_all_applications()
        for application in STATES[state]:
            compass.put_application(application)


def resync(world: World) -> None:
    world.patch_connection({"spec": {"resyncNow": True}})


def clear(world: World) -> None:
    """No Application, no Secret, and nothing assigned."""
    direct(world, 0)
    for name in world.applications():
        world.remove(APPLICATION, name)
    for name in world.secrets():
        world.remove(SECRET, name, "kyma-system")


def snapshot(world: World) -> Snapshot:
    """All that belongs to Applications in the cluster. Secrets have to be owned by the very Application that is there.

    Also Secrets without labels are in it, so that none is orphaned unseen.
    """
    applications = world.applications()
    secrets = {}
    for secret in world.client.list(SECRET, namespace="kyma-system")["items"]:
        name = secret["metadata"]["name"]
        if not name.startswith(("mp-", "params-mp-")):
            continue
        (owner,) = secret["metadata"]["ownerReferences"]
        present = applications.get(owner["name"], {"metadata": {"uid": None}})["metadata"]["uid"]
        values = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
        secrets[name] = (secret["metadata"]["labels"], values, owner["name"], owner["uid"] == present)
    return {"applications": {name: obj["spec"] for name, obj in applications.items()}, "secrets": secrets}
