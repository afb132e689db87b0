"""What is stored, field by field: what the Director says of an application, and what the cluster then holds.

The expectations are written out by hand. Other components read these objects, so nothing in them may drift along with
the code that makes them.
"""

import re
from typing import Any

import yaml

from controller.resources import SECRET
from e2e.world import CA_SECRET, CLUSTER_SECRET, World, encoded
from tests.integration.conftest import Servers
from tests.integration.sync.conftest import StartAgent

Object = dict[str, Any]

DIRECTOR = yaml.safe_load("""
id: 9b0c4f7e-51f2-4f0c-8a57-3f6a1c2d0001
name: Fjord Ferries
description: null
providerName: Fjord Lines
labels: {region: west}
auths: [{id: 9b0c4f7e-51f2-4f0c-8a57-3f6a1c2da001}, {id: 9b0c4f7e-51f2-4f0c-8a57-3f6a1c2da002}]
bundles:
  - id: 4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7001
    name: "Tickets & Seats (2024)"
    description: Sells tickets
    instanceAuthRequestInputSchema: '{"type":"object"}'
    defaultInstanceAuth: {credential: {username: conductor, password: "p\\u00e4ss:word"}}
    apiDefinitions: [{id: api-1, name: Tickets API v2, targetURL: "https://ferries.example/tickets", group: sales}]
    eventDefinitions: [{id: event-1, name: Departures, description: A ferry has left}]
  - id: 4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7002
    name: Berths
    defaultInstanceAuth:
      credential: {clientId: harbour-id, clientSecret: harbour-secret, url: "https://harbour.example/token"}
      requestAuth: {csrf: {tokenEndpointURL: "https://harbour.example/csrf"}}
    apiDefinitions: [{id: api-2, name: Berths, targetURL: "https://harbour.example/berths"}]
  - id: 4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7004
    name: Duties
    description: Lists of duties
    defaultInstanceAuth:
      credential: null
      additionalHeaders: {X-Zone: [north, "<south>"], Accept: [text/plain]}
      additionalQueryParams: {q: ["a&b", "\\u00f8\\u2028"]}
      requestAuth: {csrf: {tokenEndpointURL: "https://keepers.example/csrf"}}
    apiDefinitions: [{id: api-3, name: Duties, targetURL: "https://keepers.example"}]
""")

NAME = "mp-fjord-ferries"

APPLICATION = yaml.safe_load("""
apiVersion: applicationconnector.kyma-project.io/v1alpha1
kind: Application
metadata:
  name: mp-fjord-ferries
  labels: {applicationconnector.kyma-project.io/managed-by: compass-runtime-agent}
  annotations: {compass.kyma-project.io/sync-status: Synced}
spec:
  displayName: ""
  providerDisplayName: ""
  longDescription: ""
  skipVerify: false
  encodeUrl: false
  description: Description not provided
  labels: {connected-app: mp-fjord-ferries}
  compassMetadata:
    applicationId: 9b0c4f7e-51f2-4f0c-8a57-3f6a1c2d0001
    authentication: {clientIds: [9b0c4f7e-51f2-4f0c-8a57-3f6a1c2da001, 9b0c4f7e-51f2-4f0c-8a57-3f6a1c2da002]}
  services:
    - id: 4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7001
      identifier: ""
      name: tickets-seats-2024-0e7c3
      displayName: "Tickets & Seats (2024)"
      description: Sells tickets
      providerDisplayName: ""
      authCreateParameterSchema: '{"type":"object"}'
      entries:
        - type: API
          id: api-1
          name: Tickets API v2
          targetUrl: https://ferries.example/tickets
          centralGatewayUrl: http://central-application-gateway.kyma-system.svc.cluster.local:8082/mp-fjord-ferries/tickets-seats-2024/tickets-api-v2
          gatewayUrl: ""
          credentials: {type: Basic, secretName: mp-fjord-ferries-4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7001}
        - type: Events
          id: event-1
          name: Departures
          targetUrl: ""
          centralGatewayUrl: ""
          gatewayUrl: ""
          credentials: {type: "", secretName: ""}
    - id: 4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7002
      identifier: ""
      name: berths-ca662
      displayName: Berths
      description: Description not provided
      providerDisplayName: ""
      entries:
        - type: API
          id: api-2
          name: Berths
          targetUrl: https://harbour.example/berths
          centralGatewayUrl: http://central-application-gateway.kyma-system.svc.cluster.local:8082/mp-fjord-ferries/berths/berths
          gatewayUrl: ""
          credentials:
            type: OAuth
            secretName: mp-fjord-ferries-4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7002
            authenticationUrl: https://harbour.example/token
            csrfInfo: {tokenEndpointURL: https://harbour.example/csrf}
    - id: 4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7004
      identifier: ""
      name: duties-2cf51
      displayName: Duties
      description: Lists of duties
      providerDisplayName: ""
      entries:
        - type: API
          id: api-3
          name: Duties
          targetUrl: https://keepers.example
          centralGatewayUrl: http://central-application-gateway.kyma-system.svc.cluster.local:8082/mp-fjord-ferries/duties/duties
          gatewayUrl: ""
          credentials: {type: "", secretName: ""}
          requestParametersSecretName: params-mp-fjord-ferries-4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7004
status:
  installationStatus: {status: "", description: ""}
""")

#: What the name begins with, the bundle, and the decoded values.
SECRETS: list[tuple[str, str, dict[str, str]]] = [
    (
        NAME,
        "4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7001",
        {"username": "conductor", "password": "p\u00e4ss:word"},
    ),
    (
        NAME,
        "4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7002",
        {"clientId": "harbour-id", "clientSecret": "harbour-secret"},
    ),
    (
        f"params-{NAME}",
        "4f6f0d1c-7c5e-4a53-9c0e-2b1d5f6a7004",
        {
            "headers": '{"Accept":["text/plain"],"X-Zone":["north","\\u003csouth\\u003e"]}',
            "queryParameters": '{"q":["a\\u0026b","\u00f8\\u2028"]}',
        },
    ),
]

STATUS = yaml.safe_load("""
connectionState: Synchronized
connectionStatus:
  certificateStatus: {acquired: TIME, notBefore: TIME, notAfter: TIME}
  established: TIME
  lastSync: TIME
  lastSuccess: TIME
  renewed: null
synchronizationStatus: {lastAttempt: TIME, lastSuccessfulFetch: TIME, lastSuccessfulApplication: TIME}
""")

#: What the agent's own CRD has beyond that.
ADDITIONS = yaml.safe_load("""
applications: {desired: 1, synced: 1, failed: 0, failing: []}
summary: {applications: 1/1, message: ""}
conditions:
  - {type: Ready, status: "True", reason: Ready, message: "", lastTransitionTime: TIME, observedGeneration: 1}
  - {type: Connected, status: "True", reason: Connected, message: "", lastTransitionTime: TIME, observedGeneration: 1}
  - type: Synchronized
    status: "True"
    reason: Synchronized
    message: ""
    lastTransitionTime: TIME
    observedGeneration: 1
observedGeneration: 1
""")

_SET_BY_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def _stored(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _SET_BY_THE_SERVER}
    return {**obj, "metadata": metadata}


def _without_times(value: Any) -> Any:
    """The value with every moment in the form that the Go agent writes replaced by TIME."""
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return "TIME" if isinstance(value, str) and _TIME.fullmatch(value) else value


def test_applications_secrets_and_connection_field_by_field(world: World, start: StartAgent, servers: Servers) -> None:
    """Nothing is missing, nothing is left over, every value is the written one."""
    world.compass.state.set_runtime_label(world.compass.runtime_id, "isNormalized", "false")
    world.compass.put_application(DIRECTOR)
    start()
    world.wait_for_state("Synchronized")
    applications = world.applications()
    assert {name: _stored(obj) for name, obj in applications.items()} == {NAME: APPLICATION}

    secrets = world.client.list(SECRET, namespace="kyma-system", label_selector="app")["items"]
    own_kind = {"apiVersion": "v1", "kind": "Secret"}
    owner = {
        "apiVersion": "applicationconnector.kyma-project.io/v1alpha1",
        "kind": "Application",
        "name": NAME,
        "uid": applications[NAME]["metadata"]["uid"],
    }
    assert {secret["metadata"]["name"]: own_kind | _stored(secret) for secret in secrets} == {
        f"{beginning}-{bundle}": {
            **own_kind,
            "type": "Opaque",
            "metadata": {
                "name": f"{beginning}-{bundle}",
                "namespace": "kyma-system",
                "labels": {"app": NAME, "bundleId": bundle},
                "ownerReferences": [owner],
            },
            "data": {key: encoded(value) for key, value in values.items()},
        }
        for beginning, bundle, values in SECRETS
    }

    connection, compass = world.connection(), world.compass
    assert connection is not None
    assert connection["spec"] == {
        "managementInfo": {"connectorUrl": compass.secured_connector_url, "directorUrl": compass.director_url}
    }
    assert _stored(connection)["metadata"] == {"name": "compass-connection"}
    additions = {**ADDITIONS, "runtime": {"id": compass.runtime_id, "tenant": compass.tenant}}
    assert _without_times(connection["status"]) == STATUS | (additions if servers.own_crds else {})

    for name, keys in ((CLUSTER_SECRET, {"crt", "key", "crtChain"}), (CA_SECRET, {"cacert"})):
        secret = world.secret(name)
        assert secret is not None
        assert keys <= secret.keys()
