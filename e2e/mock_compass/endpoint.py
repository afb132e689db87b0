"""One GraphQL endpoint over HTTP: who asks, what goes wrong on order, what is answered, what is logged."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from e2e.mock_compass.executor import Executor, FieldOverride, Operation, RequestError
from e2e.mock_compass.faults import Fault, Faults, RequestInfo
from e2e.mock_compass.request_log import LoggedRequest, RequestLog

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on with 0 seconds: close() sends RST instead of FIN


class AccessRefused(Exception):
    """The gateway answers instead of the service: an HTTP status and, maybe, GraphQL errors."""

    def __init__(self, status: int, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = b"" if errors is None else orjson.dumps({"errors": errors, "data": None})


@dataclass(frozen=True)
class Peer:
    """The client certificate of a connection. Times in seconds since the epoch."""

    common_name: str
    fingerprint: str
    not_before: float
    not_after: float


@dataclass(frozen=True)
class Caller:
    """Who asks, as the log names them, and the context that the resolvers get."""

    client_id: str | None
    runtime_id: str | None
    context: Any


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    outcome: str


Authenticate = Callable[[web.Request, Peer | None], Caller]
"""Raises AccessRefused."""


class Endpoint:
    """``handle`` is the aiohttp handler."""

    def __init__(
        self,
        *,
        target: str,
        executor: Executor,
        authenticate: Authenticate,
        faults: Faults,
        log: RequestLog,
        clock: Callable[[], float],
    ) -> None:
        self._target = target
        self._executor = executor
        self._authenticate = authenticate
        self._faults = faults
        self._log = log
        self._clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        operation: Operation | RequestError
        try:
            operation = self._executor.prepare(body)
        except RequestError as error:
            operation = error
        hit = self._faults.take(_describe(self._target, operation))
        await _accompany(hit.before)
        fault = hit.deciding
        if fault is not None and not _takes_effect(fault):
            self._record(request, operation, None, _Answer(fault.status, b"", f"fault:{fault.kind}"))
            return await _faulty(request, fault, b"")
        caller, answer = self._answer(request, operation, hit.overrides)
        if fault is not None:
            answer = _Answer(fault.status, answer.body, f"fault:{fault.kind}")
        await _accompany(hit.after)
        self._record(request, operation, caller, answer)
        if fault is not None:
            return await _faulty(request, fault, answer.body)
        content_type = "application/json" if answer.body else None
        return web.Response(status=answer.status, body=answer.body, content_type=content_type)

    def _answer(
        self, request: web.Request, operation: Operation | RequestError, overrides: tuple[FieldOverride, ...]
    ) -> tuple[Caller | None, _Answer]:
        try:
            caller = self._authenticate(request, _peer(request))
        except AccessRefused as refused:
            return None, _Answer(refused.status, refused.body, "refused")
        if isinstance(operation, RequestError):
            body = orjson.dumps({"errors": operation.errors, "data": None})
            return caller, _Answer(operation.status, body, "refused")
        result = operation.run(caller.context, overrides)
        return caller, _Answer(200, orjson.dumps(result), "errors" if "errors" in result else "ok")

    def _record(
        self, request: web.Request, operation: Operation | RequestError, caller: Caller | None, answer: _Answer
    ) -> None:
        fields = () if isinstance(operation, RequestError) else operation.root_fields
        self._log.append(
            LoggedRequest(
                time=self._clock(),
                target=self._target,
                operation=",".join(field.name for field in fields) or "invalid",
                runtime_id=caller.runtime_id if caller else None,
                client_id=caller.client_id if caller else None,
                request_id=request.headers.get("x-request-id"),
                status=answer.status,
                outcome=answer.outcome,
            )
        )


def _describe(target: str, operation: Operation | RequestError) -> RequestInfo:
    if isinstance(operation, RequestError):
        return RequestInfo(target, frozenset(), next_page=False)
    names = {field.name for field in operation.root_fields}
    if operation.name:
        names.add(operation.name)
    next_page = any(
        field.name == "applicationsForRuntime" and field.arguments.get("after") for field in operation.root_fields
    )
    return RequestInfo(target, frozenset(names), next_page)


def _peer(request: web.Request) -> Peer | None:
    """The certificate that TLS has verified; None where none is asked for."""
    tls = request.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
    if der is None:
        return None
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Peer(
        common_name=str(names[0].value) if names else "",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


async def _accompany(faults: tuple[Fault, ...]) -> None:
    for fault in faults:
        if fault.action is not None:
            fault.action()
        else:
            await asyncio.sleep(fault.seconds)


def _takes_effect(fault: Fault) -> bool:
    """Whether the request is served although its answer is replaced; a cut answer has to exist first."""
    return fault.after or fault.kind in ("truncated", "cut")


async def _faulty(request: web.Request, fault: Fault, body: bytes) -> web.StreamResponse:
    """What the client sees of a fault that decides the answer. ``body``: the true answer, if there is one."""
    if fault.kind == "hang":
        await asyncio.Event().wait()  # ends when the client goes away or the server stops: both cancel the handler
    if fault.kind == "reset":
        return _reset(request)
    if fault.kind == "truncated":
        return web.Response(body=body[: len(body) // 2], content_type="application/json")
    if fault.kind == "cut":
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response
    if fault.kind == "graphql_error":
        error: dict[str, Any] = {"message": fault.message or "injected error"}
        if fault.code is not None:
            error["extensions"] = {"error_code": fault.code}
        return web.Response(
            body=orjson.dumps({"errors": [error], "data": None}),
            content_type="application/json",
        )
    return web.Response(status=fault.status, body=fault.raw_body, headers=dict(fault.headers))


def _reset(request: web.Request) -> web.Response:
    connection = request.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    if request.transport is not None:
        with contextlib.suppress(AttributeError):
            request.transport.abort()
    return web.Response()
