"""The handlers of the HTTP servers: health and readiness on one port, metrics on another.

Formats are those of controller-runtime (pkg/healthz): 200 "ok", or 500 with a line for each check. `?verbose` lists
the checks of a success too, `?exclude=name` skips one, `/readyz/name` runs only one. All HTTP methods are
equivalent. The endpoints need no authentication, so the list has only the names of failed checks; the log has the
reasons.
"""

import logging
import threading
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from controller.runtime.http_server import NOT_FOUND, Request, Response

log = logging.getLogger(__name__)

# A check raises when it fails; the text of the error is the reason.
Check = Callable[[], None]


class HealthHandler:
    """Serves the checks below one path, `/healthz` or `/readyz`. Checks can be added while it serves."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._checks: dict[str, Check] = {}
        self._reported: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, check: Check) -> None:
        """Add a check. Raises ValueError when the name is taken or not usable in a path."""
        if not name or "/" in name:
            raise ValueError(f"health check name {name!r} is not usable in a path")
        with self._lock:
            if name in self._checks:
                raise ValueError(f"health check {name!r} exists already")
            self._checks = {**self._checks, name: check}

    def __call__(self, request: Request) -> Response:
        name = request.path.removeprefix(self.path).strip("/")
        checks = self._checks
        if not name:
            return self._aggregate(checks, request)
        if name not in checks:
            return NOT_FOUND
        failure = self._failure(name, checks[name])
        if failure:
            return Response(500, f"internal server error: {failure}\n".encode())
        return Response(200, b"ok")

    def _aggregate(self, checks: Mapping[str, Check], request: Request) -> Response:
        excluded = dict.fromkeys(name for name in request.query.get("exclude", ()) if name)
        lines = []
        failed = False
        for name in sorted(checks):
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
            elif self._failure(name, checks[name]):
                failed = True
                lines.append(f"[-]{name} failed: reason withheld")
            else:
                lines.append(f"[+]{name} ok")
        if not failed and "verbose" not in request.query:
            return Response(200, b"ok")
        unknown = [name for name in excluded if name not in checks]
        if unknown:
            names = ",".join(f'"{name}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        lines.append("healthz check failed" if failed else "healthz check passed")
        return Response(500 if failed else 200, "".join(f"{line}\n" for line in lines).encode())

    def _failure(self, name: str, check: Check) -> str:
        """Run a check; return the reason of a failure, or "". Kubelets call this every few seconds, so only changes are
        logged.
        """
        try:
            check()
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
