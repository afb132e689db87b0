"""One history of the Director and of users, in which Applications and Secrets come, change and go, in an endless round.

An undisturbed run shows what each step leads to; other tests check that this is correct.
"""

import base64
from typing import Any

from controller.applications.conversion import is_managed
from controller.resources import APPLICATION, COMPASS_CONNECTION, CONNECTION_NAME, SECRET
from e2e.world import World, encoded
from informers import NotFound

Object = dict[str, Any]
Snapshot = dict[str, Any]

NAMESPACE = "kyma-system"


def _bundle(identifier: str, auth: Object | None) -> Object:
    return {
        "id": identifier,
        "name": "Main",
        "defaultInstanceAuth": auth,
        "apiDefinitions": [{"id": f"{identifier}-api", "name": "API", "targetURL": "https://api.example"}],
    }


def assigned(name: str, *auths: Object | None, identifier: str = "", description: str = "first") -> Object:
    identifier = identifier or f"id-{name}"
    bundles = [_bundle(f"{name}-{number}", auth) for number, auth in enumerate(auths)]
    return {"id": identifier, "name": name, "description": description, "bundles": bundles}


def basic(password: str) -> Object:
    return {"credential": {"username": "reader", "password": password}}


OAUTH = {"credential": {"clientId": "client", "clientSecret": "secret", "url": "https://token.example"}}
PARAMETERS = {"credential": None, "additionalHeaders": {"X-Zone": ["north"]}}

#: Each differs from the one before in objects that come, change and go; the last has a name again, with another id.
STATES: list[list[Object]] = [
    [],
    [
        assigned("mp-a", basic("one")),
        assigned("mp-b", OAUTH, PARAMETERS),
        assigned("mp-c", None),
        assigned("mp-u", basic("one")),
    ],
    [
        assigned("mp-a", basic("two")),
        assigned("mp-b", OAUTH, None),
        assigned("mp-c", basic("new"), description="second"),
        assigned("mp-d", PARAMETERS),
        assigned("mp-u", basic("one")),
    ],
    [
        assigned("mp-b", None, None, description="second"),
        assigned("mp-c", basic("new"), OAUTH, description="third"),
        assigned("mp-d", PARAMETERS),
    ],
    [
        assigned("mp-a", basic("three"), identifier="id-other-a"),
        assigned("mp-c", basic("newer"), description="third"),
    ],
]

#: The order in which they follow each other, again and again.
ROUND = [*range(1, len(STATES)), 0]

_LABELLED = "mp-c"  # by a user, from state 2 on
_TAKEN = "mp-u"  # in the last and the first state a user has an Application of that name, and a Secret
_TAKEN_SECRET = f"{_TAKEN}-{_TAKEN}-0"
_USERS_STATES = (STATES.index([]), len(STATES) - 1)

_NEVER = "2000-01-01T00:00:00Z"


def direct(world: World, state: int) -> None:
    """Users and the Director go on to another state; the Director does at one moment."""
    if state in _USERS_STATES:
        if _TAKEN not in world.applications():
            world.put(APPLICATION, {"metadata": {"name": _TAKEN}, "spec": {"description": "a user's"}})
            data = {"password": encoded("a user's")}
            world.put(SECRET, {"metadata": {"name": _TAKEN_SECRET, "namespace": NAMESPACE}, "data": data})
    elif state == 1:
        world.remove(APPLICATION, _TAKEN)
        world.remove(SECRET, _TAKEN_SECRET, NAMESPACE)
    elif state == 2:
        world.client.patch(APPLICATION, _LABELLED, {"metadata": {"labels": {"team": "red"}}})
    compass = world.compass
    with compass.state._lock:
        compass.state.remove_all_applications()
        for application in STATES[state]:
            compass.put_application(application)


def resync(world: World) -> None:
    world.patch_connection({"spec": {"resyncNow": True}})


def forget_attempts(world: World) -> None:
    """From now on `attempted` means: since now. No agent is in the middle of a synchronisation."""
    status = {"status": {"synchronizationStatus": {"lastAttempt": _NEVER}}}
    try:
        world.client.patch(COMPASS_CONNECTION, CONNECTION_NAME, status, subresource="status")
    except NotFound:  # the CRD has no such subresource
        world.patch_connection(status)


def attempted(world: World) -> bool:
    """Whether an agent has fetched from the Director and tried to write all differences, with or without success."""
    status = (world.connection() or {}).get("status") or {}
    return bool(status.get("synchronizationStatus", {}).get("lastAttempt", _NEVER) != _NEVER)


def outcome(world: World, what: str) -> Snapshot:
    """What the Director's present state leads to, of an agent that nothing disturbs."""
    forget_attempts(world)
    resync(world)
    world.wait_for(what, lambda: _concluded(world), timeout=180)
    return snapshot(world)


def _concluded(world: World) -> bool:
    return attempted(world) and world.state() == "Synchronized" and not _unsettled(world)


def _unsettled(world: World) -> bool:
    """Whether anything was written in the last moments."""
    before = snapshot(world)
    return before != snapshot(world)


def uids(world: World) -> set[str]:
    """Of all Applications and their Secrets."""
    return {obj["metadata"]["uid"] for obj in (*world.applications().values(), *_secrets(world).values())}


def tamper(world: World, wanted: Snapshot, known: set[str]) -> None:
    """Users edit and delete objects of the agent, in whatever state they find them.

    Two things are left out, since nothing could show them to the agent at once. What an agent has made itself and not
    seen yet, so what is not among the `known` uids, is not deleted or hidden: it looks as before that, so the agent
    believes its own write until it lists again. And labels are taken only from Secrets that are `wanted` or that a
    standing Application names: when it is deleted too, only a dangling reference shows that a Secret has no owner,
    which is for the garbage collection of a cluster. That does not run here.
    """
    for name, secret in _secrets(world).items():
        metadata = secret["metadata"]
        if not metadata.get("labels"):
            continue  # a user's
        named = name in wanted["secrets"] or metadata["labels"].get("app") == _LABELLED
        hidden = named and metadata["uid"] in known
        change = {"labels": {"app": None}} if hidden else {"ownerReferences": None}
        patch = {"data": {"password": encoded("other")}, "metadata": change}
        world.client.patch(SECRET, name, patch, namespace=NAMESPACE)
    for name, application in world.applications().items():
        if not is_managed(application):
            continue
        if name == _LABELLED:  # and goes on to name its Secrets
            world.client.patch(APPLICATION, name, {"spec": {"description": "edited"}})
        elif application["metadata"]["uid"] in known:
            world.remove(APPLICATION, name)
        else:
            world.client.patch(APPLICATION, name, {"spec": {"services": [], "description": "edited"}})


def clear(world: World) -> None:
    """No Application, no Secret, and nothing assigned."""
    world.compass.state.remove_all_applications()
    for name in world.applications():
        world.remove(APPLICATION, name)
    for name in _secrets(world):
        world.remove(SECRET, name, NAMESPACE)


def snapshot(world: World) -> Snapshot:
    """All that belongs to Applications in the cluster, with the owner of each Secret, and whether that very one exists.

    Also Secrets without labels are in it, so that none is orphaned unseen.
    """
    applications = world.applications()
    uids = {obj["metadata"]["uid"] for obj in applications.values()}
    secrets = {}
    for name, secret in _secrets(world).items():
        metadata = secret["metadata"]
        owners = [(owner["name"], owner["uid"] in uids) for owner in metadata.get("ownerReferences", ())]
        values = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
        secrets[name] = (metadata.get("labels"), values, owners)
    return {
        "applications": {name: (obj["metadata"].get("labels"), obj["spec"]) for name, obj in applications.items()},
        "secrets": secrets,
    }


def _secrets(world: World) -> dict[str, Object]:
    found = {obj["metadata"]["name"]: obj for obj in world.client.list(SECRET, namespace=NAMESPACE)["items"]}
    return {name: obj for name, obj in found.items() if name.startswith(("mp-", "params-mp-"))}
