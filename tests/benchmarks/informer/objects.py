"""The objects of the benchmarks: Applications as a sync writes them, and Pods, of 3 to 4 KiB each."""

from typing import Any

GROUP, VERSION, PLURAL = "applicationconnector.kyma-project.io", "v1alpha1", "applications"
API_VERSION = f"{GROUP}/{VERSION}"
_NAMESPACE = "default"  # of the Pods; Applications have none


def application(number: int) -> dict[str, Any]:
    """One of them, with the managedFields that a server adds."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Application",
        "metadata": {
            "name": f"app-{number}",
            "uid": f"b2c4d6e8-0000-4000-8000-{number:012d}",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app.kubernetes.io/managed-by": "benchmark", "team": f"team-{number % 10}"},
            "managedFields": [
                {
                    "manager": "benchmark",
                    "operation": "Update",
                    "apiVersion": API_VERSION,
                    "time": "2026-01-01T00:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        "f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/managed-by": {}, "f:team": {}}},
                        "f:spec": {".": {}, "f:description": {}, "f:labels": {}, "f:services": {}},
                    },
                }
            ],
        },
        "spec": {
            "description": f"Application {number} of the benchmark, registered by a sales system",
            "skipVerify": False,
            "labels": {"region": f"region-{number % 7}"},
            "services": [_service(number, service) for service in range(2)],
        },
    }


def _service(number: int, service: int) -> dict[str, Any]:
    identity = f"{number:08x}-0000-4000-8000-{service:012d}"
    return {
        "id": identity,
        "name": f"bundle-{service}-{number:05x}",
        "displayName": f"Bundle {service}",
        "identifier": identity,
        "providerDisplayName": "Provider of the benchmark",
        "description": "Orders, customers and prices, readable by those who hold the credentials of this bundle",
        "labels": {"connected-app": f"app-{number}"},
        "entries": [
            {
                "type": "API",
                "id": f"{identity}-api-{entry}",
                "name": f"api-{entry}",
                "targetUrl": f"https://api-{entry}.system-{number}.example.com/path/v1",
                "centralGatewayUrl": f"http://central-application-gateway.kyma-system:8082/app-{number}/bundle/api-{entry}",
                "gatewayUrl": f"http://central-application-gateway.kyma-system:8080/app-{number}/api-{entry}",
                "credentials": {
                    "type": "OAuth",
                    "secretName": f"app-{number}-{identity}",
                    "authenticationUrl": f"https://auth.system-{number}.example.com/oauth/token",
                    "csrfInfo": {"tokenEndpointURL": f"https://auth.system-{number}.example.com/csrf"},
                },
            }
            for entry in range(2)
        ],
    }


def pod(number: int) -> dict[str, Any]:
    """A kind for which the official client has models."""
    containers = range(2)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"web-{number}",
            "namespace": _NAMESPACE,
            "uid": f"b2c4d6e8-0000-4000-8000-{number:012d}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "web", "team": f"team-{number % 10}"},
        },
        "spec": {
            "nodeName": f"node-{number % 50}",
            "serviceAccountName": "default",
            "volumes": [{"name": f"v{volume}", "configMap": {"name": f"cm-{volume}"}} for volume in range(3)],
            "containers": [
                {
                    "name": f"c{container}",
                    "image": f"registry.example.com/team/image:{container}",
                    "env": [{"name": f"VARIABLE_{name}", "value": f"value of {name}"} for name in range(8)],
                    "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
                    "volumeMounts": [{"name": f"v{volume}", "mountPath": f"/mnt/{volume}"} for volume in range(3)],
                }
                for container in containers
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": [
                {
                    "name": f"c{container}",
                    "ready": True,
                    "restartCount": 0,
                    "image": f"registry.example.com/team/image:{container}",
                    "imageID": "sha256:0123456789",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                }
                for container in containers
            ],
        },
    }
