"""A mutating webhook that does what the policy of config/kyma does, for API servers that know no such policy."""

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from e2e.kyma.operator import NAME
from e2e.pki import Authority

Object = dict[str, Any]


class Webhook:
    """Serves on the loopback inside the block. `configuration()` registers it with an API server of this machine."""

    def __init__(self, directory: Path, *, image: str) -> None:
        authority = Authority("webhook-ca")
        pair = authority.serving("webhook", dns_names=["localhost"], addresses=["127.0.0.1"])
        certificate = directory / "webhook.pem"
        certificate.write_bytes(pair.certificate_pem + pair.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = json.dumps(_answer(review, image)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True)
        self._ca = authority.certificate_pem

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def configuration(self) -> Object:
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": NAME},
            "webhooks": [
                {
                    "name": "compass-runtime-agent.kyma-project.io",
                    "clientConfig": {
                        "url": f"https://127.0.0.1:{self._server.server_address[1]}/",
                        "caBundle": base64.b64encode(self._ca).decode(),
                    },
                    "rules": [
                        {
                            "apiGroups": ["apps"],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": ["deployments"],
                        }
                    ],
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        }


def _answer(review: Object, image: str) -> Object:
    request = review["request"]
    response: Object = {"uid": request["uid"], "allowed": True}
    if request["object"]["metadata"]["name"] == NAME:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(_patch(request["object"], image)).encode()).decode()
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


def _patch(deployment: Object, image: str) -> list[Object]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    at = "/spec/template/spec/containers/0"
    (number,) = [n for n, var in enumerate(container["env"]) if var["name"] == "APP_SKIP_COMPASS_TLS_VERIFY"]
    return [
        {"op": "replace", "path": f"{at}/image", "value": image},
        {"op": "replace", "path": f"{at}/env/{number}/value", "value": "false"},
        {"op": "replace", "path": f"{at}/readinessProbe/httpGet/path", "value": "/readyz"},
    ]
