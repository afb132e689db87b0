"""The Go agent, as its objects: what it leaves behind, and what it has to find when it comes back."""

import copy
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from controller.resources import APPLICATION, COMPASS_CONNECTION, CONFIG_MAP, SECRET
from controller.settings import ObjectName
from e2e.cluster import CLUSTER_SECRET, CONFIGURATION, Cluster

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


def assert_takeover(cluster: Cluster, *, ca_secret: ObjectName) -> None:
    """The Go agent could go on with the objects of the cluster.

    It starts with the credentials and URLs that are stored, asks for the configuration in each cycle, writes status and
    spec with one PUT, and takes as its own each Application that has compassMetadata.
    """
    configuration = cluster.secret(CONFIGURATION) or {}
    assert all(configuration.get(key) for key in ("CONNECTOR_URL", "RUNTIME_ID", "TENANT", "TOKEN"))
    _assert_credentials(cluster.secret(CLUSTER_SECRET) or {})
    authority = (cluster.secret(ca_secret) or {}).get("cacert", "")
    assert authority.startswith("-----BEGIN CERTIFICATE-----"), "without it, it renews the certificate"
    _assert_connection(cluster)
    for name, application in cluster.applications().items():
        if "compassMetadata" in application["spec"]:
            _assert_application(cluster, name, application)


def _assert_credentials(found: dict[str, str]) -> None:
    assert {"crt", "key", "crtChain"} <= found.keys()
    assert found["key"].startswith("-----BEGIN RSA PRIVATE KEY-----"), "the key is not PKCS#1"
    certificate = x509.load_pem_x509_certificate(found["crt"].encode())
    assert load_pem_private_key(found["key"].encode(), password=None).public_key() == certificate.public_key()
    assert x509.load_pem_x509_certificates(found["crtChain"].encode())[0] == certificate


def _assert_connection(cluster: Cluster) -> None:
    group = f"/apis/{COMPASS_CONNECTION.group}/{COMPASS_CONNECTION.version}"
    served = {resource["name"] for resource in cluster.client.request("GET", group)["resources"]}
    assert f"{COMPASS_CONNECTION.plural}/status" not in served, "the status that it writes is dropped"
    connection = cluster.connection()
    assert connection is not None, "it pairs with the token"
    urls, status = connection["spec"]["managementInfo"], connection["status"]
    assert urls["connectorUrl"]
    assert urls["directorUrl"]
    assert status["connectionState"] in _STATES, "it pairs again"
    validity = status["connectionStatus"]["certificateStatus"]
    assert validity["notBefore"]
    assert validity["notAfter"]
    known: Object = {**connection, "status": {key: status[key] for key in _STATUS if key in status}}
    cluster.client.update(COMPASS_CONNECTION, known, dry_run=True)


def _assert_application(cluster: Cluster, name: str, application: Object) -> None:
    """It can be written, and each Secret that it names has what the Go agent looks for."""
    cluster.client.update(APPLICATION, application, dry_run=True)
    for service in application["spec"].get("services", []):
        needed: dict[str, set[str]] = {}  # keys by Secret
        for entry in service["entries"]:
            credentials = entry.get("credentials") or {}
            if secret := credentials.get("secretName"):
                needed[secret] = _SECRET_KEYS[credentials["type"]]
            if secret := entry.get("requestParametersSecretName"):
                needed[secret] = set()
        for secret, keys in needed.items():
            stored = cluster.client.get(SECRET, secret, namespace="kyma-system")
            assert keys <= stored.get("data", {}).keys(), secret
            labels = {"app": name, "bundleId": service["id"]}
            assert labels.items() <= (stored["metadata"].get("labels") or {}).items(), secret
            owners = [owner["uid"] for owner in stored["metadata"].get("ownerReferences", [])]
            assert owners == [application["metadata"]["uid"]], secret
