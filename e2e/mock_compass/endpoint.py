"""One GraphQL endpoint over HTTP: who asks, what goes wrong on order, what is answered, what is logged."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

import orjson
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from e2e.mock_compass.executor import Context, Operation, RequestError, Service
from e2e.mock_compass.faults import PAGES, Disorder, Fault, Faults, RequestInfo
from e2e.mock_compass.gateway import NOT_JSON, Outages, Reply
from e2e.mock_compass.state import LoggedRequest, RequestLog

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on with 0 seconds: close() sends RST instead of FIN


@dataclass(frozen=True)
class Peer:
    """The client certificate of a connection. Times in seconds since the epoch."""

    common_name: str
    fingerprint: str
    not_before: float
    not_after: float


@dataclass(frozen=True)
class Asked:
    """One HTTP request. `peer`: None where no certificate is asked for."""

    method: str
    headers: Mapping[str, str]
    body: bytes
    peer: Peer | None


@dataclass(frozen=True)
class Caller:
    """Who asks, as the log names them, and the context that the resolvers get."""

    client_id: str | None
    runtime_id: str | None
    context: Context


@dataclass(frozen=True)
class _Answer:
    """`response` as it is sent unless a fault replaces it."""

    response: web.Response
    outcome: str

    @classmethod
    def json(cls, status: int, document: object, outcome: str) -> "_Answer":
        return cls(web.Response(status=status, body=orjson.dumps(document), content_type="application/json"), outcome)


Authenticate = Callable[[Asked], Caller | Reply]
"""The caller, or the answer to somebody who is refused."""


class Endpoint:
    """`handle` is the aiohttp handler. `name`: the endpoint's column in the table of outages."""

    def __init__(
        self,
        *,
        target: str,
        name: str,
        service: Service,
        authenticate: Authenticate,
        disorder: Disorder,
        faults: Faults,
        outages: Outages,
        log: RequestLog,
        clock: Callable[[], float],
    ) -> None:
        self._target = target
        self._name = name
        self._service = service
        self._authenticate = authenticate
        self._disorder = disorder
        self._faults = faults
        self._outages = outages
        self._log = log
        self._clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.headers, await request.read(), _peer(request))
        operation = self._operation(asked.body)
        hit = self._faults.take(_describe(self._target, operation))
        await _accompany(hit.before)
        fault = hit.deciding
        if fault is not None and not _takes_effect(fault):
            self._record(request, operation, None, _status(fault), f"fault:{fault.kind}")
            return await _faulty(request, fault, b"")
        caller, answer = await self._answer(asked, operation, hit.overrides)
        await _accompany(hit.after)
        if fault is not None:
            self._record(request, operation, caller, _status(fault), f"fault:{fault.kind}")
            body = answer.response.body
            assert isinstance(body, bytes)
            return await _faulty(request, fault, body)
        self._record(request, operation, caller, answer.response.status, answer.outcome)
        return answer.response

    def _operation(self, body: bytes) -> Operation | RequestError:
        try:
            return self._service.prepare(body)
        except RequestError as error:
            return error

    async def _answer(
        self, asked: Asked, operation: Operation | RequestError, overrides: tuple[Fault, ...]
    ) -> tuple[Caller | None, _Answer]:
        effect = self._outages.effect(self._name)
        if effect is not None:
            if effect.spends_token:
                self._authenticate(asked)
            await asyncio.sleep(effect.reply.delay)
            return None, _Answer(effect.reply.response(), f"outage:{effect.outage}")
        caller = self._authenticate(asked)
        if isinstance(caller, Reply):
            return None, _Answer(caller.response(), "refused")
        if isinstance(operation, RequestError):
            if operation.status == HTTPStatus.BAD_REQUEST:
                return caller, _Answer(NOT_JSON.response(), "refused")
            return caller, _Answer.json(operation.status, {"errors": operation.errors, "data": None}, "refused")
        result = operation.run(replace(caller.context, overrides=overrides))
        if "errors" not in result:
            return caller, _Answer.json(200, result, "ok")
        return caller, _Answer.json(200, result | {"errors": self._disorder.shuffled(result["errors"])}, "errors")

    def _record(
        self,
        request: web.Request,
        operation: Operation | RequestError,
        caller: Caller | None,
        status: int,
        outcome: str,
    ) -> None:
        fields = () if isinstance(operation, RequestError) else operation.root_fields
        self._log.append(
            LoggedRequest(
                time=self._clock(),
                target=self._target,
                operation=",".join(fields) or "invalid",
                runtime_id=caller.runtime_id if caller else None,
                client_id=caller.client_id if caller else None,
                request_id=request.headers.get("x-request-id"),
                status=status,
                outcome=outcome,
            )
        )


def _describe(target: str, operation: Operation | RequestError) -> RequestInfo:
    if isinstance(operation, RequestError):
        return RequestInfo(target, frozenset(), next_page=False)
    names = {*operation.root_fields, *filter(None, [operation.name])}
    next_page = "applicationsForRuntime" in names and bool(operation.variables.get("after"))
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


def _status(fault: Fault) -> int:
    return PAGES[fault.page].status if fault.kind == "page" else fault.status


async def _faulty(request: web.Request, fault: Fault, body: bytes) -> web.StreamResponse:
    """What the client sees of a fault that decides the answer. `body`: the true answer, if there is one."""
    if fault.kind == "hang":
        await asyncio.Event().wait()  # ends when the client goes away or the server stops: both cancel the handler
    if fault.kind == "reset":
        return _reset(request)
    if fault.kind == "page":
        return PAGES[fault.page].response()
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
        document = {"errors": [fault.error.formatted], "data": None}
        return web.Response(body=orjson.dumps(document), content_type="application/json")
    return web.Response(status=fault.status, body=fault.raw_body, headers=dict(fault.headers))


def _reset(request: web.Request) -> web.Response:
    connection = request.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    if request.transport is not None:
        with contextlib.suppress(AttributeError):
            request.transport.abort()
    return web.Response()
