"""What users and others change is reverted from the cache, and their own fields survive.

The agent fetches once an hour here, so it reverts drift without a fetch.
"""

import copy
from typing import Any

import pytest
import yaml

from controller.resources import APPLICATION, SECRET, SYNC_STATUS
from e2e.world import World, encoded
from tests.integration.sync.conftest import StartAgent
from tests.integration.sync.test_isolation import director_application
from tests.support.audit_log import AuditLog

Object = dict[str, Any]

NAME = "mp-shop"
SECRET_NAME = "mp-shop-mp-shop-bundle"

#: As the Go agent has written it, with what users have added since.
OLD = yaml.safe_load("""
metadata:
  name: mp-old
  labels: {applicationconnector.kyma-project.io/managed-by: compass-runtime-agent, application-type: commerce}
  annotations: {team: red}
spec:
  description: Description not provided
  displayName: Old Shop
  longDescription: by hand
  providerDisplayName: Shop Inc.
  group: g
  tags: [t]
  tenant: t
  skipVerify: true
  encodeUrl: true
  labels: {connected-app: mp-old}
  compassMetadata: {applicationId: id-mp-old, authentication: {clientIds: []}}
  services:
    - id: mp-old-bundle
      identifier: ""
      name: main-2c457
      displayName: Main
      description: Description not provided
      providerDisplayName: ""
      entries:
        - type: API
          id: mp-old-api
          name: API
          targetUrl: https://mp-old.example
          centralGatewayUrl: http://central-application-gateway.kyma-system.svc.cluster.local:8082/mp-old/main/api
          gatewayUrl: ""
          credentials: {type: Basic, secretName: mp-old-mp-old-bundle}
status:
  installationStatus: {status: "", description: ""}
""")


@pytest.fixture
def synced(world: World, start: StartAgent, log: AuditLog) -> World:
    world.compass.put_application(director_application(NAME))
    start(CONTROLLER_SYNC_PERIOD="1h")
    world.wait_for_state("Synchronized")
    log.clear()
    return world


def _owner_uids(world: World) -> set[str]:
    return {r["uid"] for secret in world.secrets().values() for r in secret["metadata"]["ownerReferences"]}


def test_every_edit_and_deletion_is_undone_from_the_cache(synced: World, log: AuditLog) -> None:
    """Fields, labels, data, references, whole objects; each write says which version it replaces."""
    fetches = synced.compass.requests.count("director", "applicationsForRuntime")
    before = synced.applications()[NAME]
    secret = synced.secrets()[SECRET_NAME]

    def spec_is_right() -> bool:
        return bool(synced.applications()[NAME]["spec"] == {**before["spec"], "encodeUrl": True})

    edited = copy.deepcopy(before)
    edited["spec"]["description"] = "edited"
    edited["spec"]["services"] = []
    edited["spec"]["encodeUrl"] = True  # not the agent's
    edited["spec"]["compassMetadata"]["authentication"]["clientIds"] = ["intruder"]
    edited["metadata"]["labels"] = {"team": "red"}
    edited["metadata"]["annotations"] = {"note": "mine"}
    synced.client.update(APPLICATION, edited)
    synced.wait_for("the edit to be undone", spec_is_right)
    metadata = synced.applications()[NAME]["metadata"]
    assert metadata["labels"] == {**before["metadata"]["labels"], "team": "red"}
    assert metadata["annotations"] == {"note": "mine", SYNC_STATUS: "Synced"}

    for change in (
        {"data": {"password": encoded("other"), "more": encoded("x")}},
        {"data": None},
        {"metadata": {"labels": {"app": None}}},
        {"metadata": {"labels": {"app": None, "bundleId": None}}},
        {"metadata": {"ownerReferences": None}},
    ):
        synced.client.patch(SECRET, SECRET_NAME, change, namespace="kyma-system")
        synced.wait_for(
            f"{change} to be undone",
            lambda: (
                (found := synced.secrets().get(SECRET_NAME)) is not None
                and found.get("data") == secret["data"]
                and found["metadata"]["labels"] == secret["metadata"]["labels"]
                and found["metadata"].get("ownerReferences") == secret["metadata"]["ownerReferences"]
            ),
        )

    synced.client.delete(SECRET, SECRET_NAME, namespace="kyma-system")
    synced.wait_for("the Secret to be back", lambda: SECRET_NAME in synced.secrets())

    synced.client.delete(APPLICATION, NAME)
    synced.wait_for("the Application to be back", lambda: NAME in synced.applications())
    uid = synced.applications()[NAME]["metadata"]["uid"]
    assert uid != before["metadata"]["uid"]
    synced.wait_for("its Secrets to belong to it", lambda: _owner_uids(synced) == {uid})

    assert synced.compass.requests.count("director", "applicationsForRuntime") == fetches
    assert all(write.names_its_version for write in log.writes("applications", "secrets"))


def test_objects_of_the_go_agent_are_taken_over_as_they_are(world: World, start: StartAgent, log: AuditLog) -> None:
    """Those in sync are not written; a change in Compass leaves what the Go agent or users have set."""
    old = world.put(APPLICATION, OLD)
    reference = {"apiVersion": APPLICATION.api_version, "kind": "Application", "name": "mp-old"}
    secret = world.put(
        SECRET,
        {
            "metadata": {
                "name": "mp-old-mp-old-bundle",
                "namespace": "kyma-system",
                "labels": {"app": "mp-old", "bundleId": "mp-old-bundle"},
                "ownerReferences": [{**reference, "uid": old["metadata"]["uid"]}],
            },
            "data": {"username": encoded("reader"), "password": encoded("p")},
        },
    )
    user_made = world.put(
        APPLICATION,
        {"metadata": {"name": "mp-users", "labels": OLD["metadata"]["labels"]}, "spec": {}},
    )
    world.compass.put_application(director_application("mp-old", password="p"))
    start(CONTROLLER_SYNC_PERIOD="1h")
    world.wait_for_state("Synchronized")
    assert not log.writes("applications")
    assert world.applications()["mp-old"] == old
    assert world.secrets()["mp-old-mp-old-bundle"].items() <= secret.items()

    world.compass.put_application(director_application("mp-old", password=None, description="new"))
    world.patch_connection({"spec": {"resyncNow": True}})
    world.wait_for("the Secret to be gone", lambda: "mp-old-mp-old-bundle" not in world.secrets())
    new = world.applications()["mp-old"]
    assert new["spec"]["description"] == "new"
    own = ("description", "services", "compassMetadata", "labels")
    assert {k: v for k, v in new["spec"].items() if k not in own} == {
        k: v for k, v in old["spec"].items() if k not in own
    }
    for field in ("labels", "uid"):
        assert new["metadata"][field] == old["metadata"][field]
    assert new["metadata"]["annotations"] == {**old["metadata"]["annotations"], SYNC_STATUS: "Synced"}
    assert world.applications()["mp-users"] == user_made
    assert not (world.connection() or {})["spec"].get("resyncNow")
