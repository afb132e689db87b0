"""What is answered in front of Connector and Director, by Envoy, Oathkeeper and the gateway, instead of a service.

Measured on Compass a423d60 with its own rules and filters, behind Oathkeeper 0.40.6 and Envoy 1.40.
"""

import uuid
from dataclasses import dataclass

from aiohttp import hdrs, web

_REQUEST_ID = "<request>"


@dataclass(frozen=True)
class Reply:
    """An HTTP answer that is no GraphQL. `delay`: seconds until it comes."""

    status: int
    content_type: str | None = None
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0

    def text(self) -> str:
        """The body; where it names the request, each answer has an id of its own."""
        return self.body.replace(_REQUEST_ID, str(uuid.uuid4()))

    def response(self) -> web.Response:
        response = web.Response(status=self.status, body=self.text().encode(), headers=self.headers)
        if self.content_type is not None:
            response.headers[hdrs.CONTENT_TYPE] = self.content_type
        return response


UNAUTHENTICATED = Reply(400, "application/json;charset=UTF-8")
"""The caller is nobody: no token or certificate that works, or nobody to look them up."""
NOT_FOUND = Reply(
    404,
    "application/json",
    '{"error":{"code":404,"status":"Not Found","request":"<request>",'
    '"message":"The requested resource could not be found"}}',
)
TOO_LARGE = Reply(413, "text/plain", "Payload Too Large")
RATE_LIMITED = Reply(429, "text/plain", "local_rate_limited", headers=(("x-local-rate-limit", "gateway"),))
HYDRATOR_FAILED = Reply(
    500,
    "application/json",
    '{"error":{"code":500,"status":"Internal Server Error","request":"<request>",'
    '"message":"An internal server error occurred, please contact the system administrator"}}',
    delay=7.0,
)
NOT_JSON = Reply(502)
UNAVAILABLE = Reply(
    503,
    "text/plain",
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
)
