"""One GraphQL endpoint over HTTP: who asks, what goes wrong on order, what is answered, what is logged."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from e2e.mock_compass.compass import Compass
from e2e.mock_compass.executor import Operation, RequestError, Service
from e2e.mock_compass.faults import Fault
from e2e.mock_compass.gateway import NOT_JSON, Reply

_SERVED = ("cut", "delay")
"""Faults whose request is served: they change how the true answer arrives."""


@dataclass(frozen=True)
class Peer:
    """The client certificate of a connection."""

    common_name: str
    fingerprint: str


@dataclass(frozen=True)
class Request:
    """One HTTP request. `peer`: None where no certificate is asked for."""

    method: str
    headers: Mapping[str, str]
    body: bytes
    peer: Peer | None


Authenticate = Callable[[Request], object]
"""What the resolvers get for the caller, or a Reply to one that is refused."""


class Endpoint:
    """`handle` is the aiohttp handler. `name`: the endpoint's column in the table of outages."""

    def __init__(
        self, compass: Compass, *, target: str, name: str, service: Service, authenticate: Authenticate
    ) -> None:
        self._compass = compass
        self._target = target
        self._name = name
        self._service = service
        self._authenticate = authenticate

    async def handle(self, received: web.Request) -> web.StreamResponse:
        request = Request(received.method, received.headers, await received.read(), _peer(received))
        operation = self._operation(request.body)
        fault, overrides = self._compass.faults.take(self._target, _names(operation))
        response, outcome = web.Response(), ""
        if fault is None or fault.kind in _SERVED:
            response, outcome = await self._answer(request, operation, overrides)
        self._compass.requests.record(
            received,
            target=self._target,
            operation="" if isinstance(operation, RequestError) else ",".join(operation.root_fields),
            status=response.status if fault is None else fault.status,
            outcome=outcome if fault is None else f"fault:{fault.kind}",
        )
        return response if fault is None else await _faulty(received, fault, response)

    def _operation(self, body: bytes) -> Operation | RequestError:
        try:
            return self._service.prepare(body)
        except RequestError as error:
            return error

    async def _answer(
        self, request: Request, operation: Operation | RequestError, overrides: tuple[Fault, ...]
    ) -> tuple[web.Response, str]:
        """The answer as it is sent unless a fault replaces it, and its outcome for the log."""
        effect = self._compass.outages.effect(self._name)
        if effect is not None:
            if effect.spends_token:
                self._authenticate(request)
            await asyncio.sleep(effect.reply.delay)
            return effect.reply.response(), f"outage:{effect.outage}"
        context = self._authenticate(request)
        if isinstance(context, Reply):
            return context.response(), "refused"
        if isinstance(operation, RequestError):
            if operation.status == HTTPStatus.BAD_REQUEST:
                return NOT_JSON.response(), "refused"
            return _json({"errors": operation.errors, "data": None}, operation.status), "refused"
        answer = operation.run(context, overrides)
        if "errors" not in answer:
            return _json(answer), "ok"
        return _json(answer | {"errors": self._compass.disorder.shuffled(answer["errors"])}), "errors"


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")


def _names(operation: Operation | RequestError) -> set[str]:
    """Of the operation, and of its root fields."""
    if isinstance(operation, RequestError):
        return set()
    return {*operation.root_fields, *filter(None, [operation.name])}


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
    )


async def _faulty(request: web.Request, fault: Fault, answer: web.Response) -> web.StreamResponse:
    """What the client sees of a fault that decides the answer. `answer`: the true one, if there is one."""
    if fault.kind == "hang":
        await asyncio.Event().wait()  # ends when the client goes away or the server stops: both cancel the handler
    if fault.kind == "delay":
        await asyncio.sleep(fault.seconds)
        return answer
    if fault.kind == "cut":
        body = answer.body
        assert isinstance(body, bytes)
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response
    if fault.kind == "graphql_error":
        return _json({"errors": [{"message": fault.message}], "data": None})
    return web.Response(status=fault.status, text=fault.body)
