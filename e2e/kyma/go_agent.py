"""The Go agent, told by its objects: what it leaves behind, and what it has to find when it comes back."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, SECRET
from controller.settings import ObjectName
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION, Cluster
from informers import ApiError, NotFound

Object = dict[str, Any]

_STATES = {"Connected", "ConnectionMaintenanceFailed", "SynchronizationFailed", "ResourceApplicationFailed"}
_STATES |= {"MetadataUpdateFailed", "Synchronized"}
_STATUS = ("connectionState", "connectionStatus", "synchronizationStatus")
_SECRET_KEYS = {"Basic": {"username", "password"}, "OAuth": {"clientId", "clientSecret"}}


def leave_objects(cluster: Cluster, configuration: dict[str, str]) -> None:
    """Take from the objects in the cluster what the Go agent does not write. Its configuration is a Secret.

    No agent runs, and the CRD is the project's own, with a status subresource.
    """
    credentials = cluster.client.get(SECRET, CLUSTER_SECRET.name, namespace=CLUSTER_SECRET.namespace)
    kept = {key: credentials["data"][key] for key in ("crt", "key", "crtChain")}
    name = {key: credentials["metadata"][key] for key in ("name", "namespace")}
    cluster.put(SECRET, {"metadata": name, "data": kept})

    cluster.remove(CONFIG_MAP, CONFIGURATION.name, CONFIGURATION.namespace)
    cluster.configure(configuration, secret=True)

    connection = cluster.connection()
    assert connection is not None
    cluster.delete_connection()
    created = cluster.client.create(
        COMPASS_CONNECTION,
        {
            "apiVersion": COMPASS_CONNECTION.api_version,
            "kind": COMPASS_CONNECTION.kind,
            "metadata": {"name": connection["metadata"]["name"]},
            "spec": {"managementInfo": connection["spec"]["managementInfo"]},
        },
    )
    status = {key: connection["status"][key] for key in _STATUS}
    cluster.client.update(COMPASS_CONNECTION, {**created, "status": status}, subresource="status")

    for application in cluster.applications().values():
        plain: Object = copy.deepcopy(application)
        plain["metadata"].pop("annotations", None)
        cluster.client.update(APPLICATION, plain)


def takeover_problems(cluster: Cluster, *, ca_secret: ObjectName) -> list[str]:
    """What keeps the Go agent from going on with the objects of the cluster; [] if nothing does.

    It starts with the credentials and URLs that are stored, asks for the configuration in each cycle, writes status and
    spec with one PUT, and takes as its own each Application that has compassMetadata.
    """
    parts: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: _configuration(cluster),
        lambda: _credentials(cluster, ca_secret),
        lambda: _connection(cluster),
        lambda: _applications(cluster),
    )
    return [problem for part in parts for problem in part()]


def _configuration(cluster: Cluster) -> Iterator[str]:
    found = cluster.secret(CONFIGURATION) or {}
    for key in ("CONNECTOR_URL", "RUNTIME_ID", "TENANT", "TOKEN"):
        if not found.get(key):
            yield f"Secret {CONFIGURATION}: no {key}"


def _credentials(cluster: Cluster, ca_secret: ObjectName) -> Iterator[str]:
    found = cluster.secret(CLUSTER_SECRET) or {}
    missing = [key for key in ("crt", "key", "crtChain") if not found.get(key)]
    if missing:
        yield f"Secret {CLUSTER_SECRET}: no {', '.join(missing)}"
        return
    if not found["key"].startswith("-----BEGIN RSA PRIVATE KEY-----"):
        yield f"Secret {CLUSTER_SECRET}: the key is not PKCS#1"
    certificate = x509.load_pem_x509_certificate(found["crt"].encode())
    if load_pem_private_key(found["key"].encode(), password=None).public_key() != certificate.public_key():
        yield f"Secret {CLUSTER_SECRET}: key and certificate do not belong together"
    if x509.load_pem_x509_certificates(found["crtChain"].encode())[0] != certificate:
        yield f"Secret {CLUSTER_SECRET}: the chain does not begin with the certificate"
    # Without this Secret it renews the certificate.
    authority = (cluster.secret(ca_secret) or {}).get("cacert", "")
    if not authority.startswith("-----BEGIN CERTIFICATE-----"):
        yield f"Secret {ca_secret}: no cacert"


def _connection(cluster: Cluster) -> Iterator[str]:
    group = f"/apis/{COMPASS_CONNECTION.group}/{COMPASS_CONNECTION.version}"
    served = {resource["name"] for resource in cluster.client.request("GET", group)["resources"]}
    if f"{COMPASS_CONNECTION.plural}/status" in served:
        yield "the CRD of CompassConnections has a status subresource, so the status that it writes is dropped"
    connection = cluster.connection()
    if connection is None:
        yield "there is no CompassConnection, so it pairs with the token"
        return
    urls = connection["spec"].get("managementInfo") or {}
    for key in ("connectorUrl", "directorUrl"):
        if not urls.get(key):
            yield f"CompassConnection: no spec.managementInfo.{key}"
    status = connection.get("status") or {}
    if status.get("connectionState") not in _STATES:
        yield f"CompassConnection: state {status.get('connectionState')!r}, with which it pairs again"
    validity = (status.get("connectionStatus") or {}).get("certificateStatus") or {}
    for key in ("notBefore", "notAfter"):
        if not validity.get(key):
            yield f"CompassConnection: no status.connectionStatus.certificateStatus.{key}"
    known: Object = {**connection, "status": {key: status[key] for key in _STATUS if key in status}}
    try:
        cluster.client.update(COMPASS_CONNECTION, known, dry_run=True)
    except ApiError as error:
        yield f"CompassConnection: it cannot be written: {error}"


def _applications(cluster: Cluster) -> Iterator[str]:
    for name, application in cluster.applications().items():
        if "compassMetadata" not in application["spec"]:
            continue
        try:
            cluster.client.update(APPLICATION, application, dry_run=True)
        except ApiError as error:
            yield f"Application {name}: it cannot be written: {error}"
        for service in application["spec"].get("services", []):
            for entry in service["entries"]:
                yield from _secrets_of(cluster, application, service["id"], entry)


def _secrets_of(cluster: Cluster, application: Object, bundle: str, entry: Object) -> Iterator[str]:
    credentials = entry.get("credentials") or {}
    if name := credentials.get("secretName"):
        yield from _secret(cluster, application, bundle, name, _SECRET_KEYS[credentials["type"]])
    if name := entry.get("requestParametersSecretName"):
        yield from _secret(cluster, application, bundle, name, set())


def _secret(cluster: Cluster, application: Object, bundle: str, name: str, keys: set[str]) -> Iterator[str]:
    what = f"Secret {name} of Application {application['metadata']['name']}"
    try:
        secret = cluster.client.get(SECRET, name, namespace="kyma-system")
    except NotFound:
        yield f"{what}: there is none"
        return
    if not keys <= secret.get("data", {}).keys():
        yield f"{what}: it has {sorted(secret.get('data', {}))} and not {sorted(keys)}"
    labels = {"app": application["metadata"]["name"], "bundleId": bundle}
    if not labels.items() <= (secret["metadata"].get("labels") or {}).items():
        yield f"{what}: it has not the labels {labels}"
    owners = [owner["uid"] for owner in secret["metadata"].get("ownerReferences", [])]
    if owners != [application["metadata"]["uid"]]:
        yield f"{what}: its owner is not the Application"
