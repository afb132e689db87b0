"""The handlers of the HTTP servers: health and readiness on one port, metrics on another.

Formats are those of controller-runtime (pkg/healthz). The endpoints need no authentication, so the list has only the
names of failed checks; the log has the reasons.
"""

import logging
import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from controller.runtime.http_server import NOT_FOUND, Request, Response

log = logging.getLogger(__name__)

# A check raises when it fails; the text of the error is the reason.
Check = Callable[[], None]


class HealthHandler:
    """Serves the checks below one path, `/healthz` or `/readyz`. Checks are added before it serves."""

    def __init__(self, path: str, **checks: Check) -> None:
        self.path = path
        self._checks = checks
        self._reported: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    def __call__(self, request: Request) -> Response:
        name = request.path.removeprefix(self.path).strip("/")
        if not name:
            return self._all(verbose="verbose" in request.query)
        if name not in self._checks:
            return NOT_FOUND
        failure = self._failure(name)
        return Response(500, f"internal server error: {failure}\n".encode()) if failure else Response(200, b"ok")

    def _all(self, *, verbose: bool) -> Response:
        failed = [name for name in self._checks if self._failure(name)]
        if not failed and not verbose:
            return Response(200, b"ok")
        lines = [f"[-]{name} failed: reason withheld" if name in failed else f"[+]{name} ok" for name in self._checks]
        lines.append("healthz check failed" if failed else "healthz check passed")
        return Response(500 if failed else 200, "".join(f"{line}\n" for line in lines).encode())

    def _failure(self, name: str) -> str:
        """Run a check; return the reason of a failure, or "". Kubelets call this every few seconds, so only changes are
        logged.
        """
        try:
            self._checks[name]()
        except Exception as error:  # noqa: BLE001 - a check fails by raising whatever it likes
            failure = str(error) or type(error).__name__
        else:
            failure = ""
        with self._lock:
            before = self._reported.get(name, "")
            self._reported[name] = failure
        if failure and not before:
            log.warning("Health check failed", extra={"path": self.path, "check": name, "error": failure})
        elif before and not failure:
            log.info("Health check passed again", extra={"path": self.path, "check": name})
        return failure


class MetricsHandler:
    """Serves a registry as Prometheus text, or as OpenMetrics to clients that accept it."""

    path = "/metrics"

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def __call__(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.accept)
        return Response(200, encode(self._registry), content_type)
