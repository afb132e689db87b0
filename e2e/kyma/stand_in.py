#!/usr/bin/env python3
"""A stand-in for the Go agent in a cluster with nodes: its Pod becomes ready, and it does nothing.

With it a Deployment really goes from one agent to the other. It needs nothing but the standard library.
"""

import os
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK if self.path == "/healthz" else HTTPStatus.NOT_FOUND)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("", int(os.environ["APP_HEALTH_PORT"])), _Health).serve_forever()
