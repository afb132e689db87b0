"""A reverse proxy that passes the body of each response on only at its end, as some proxies do by default."""

import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import load_kube_config


class BufferingProxy:
    """In front of the API server of a kubeconfig, with its credentials; for GET requests.

    holds_headers: the headers wait for the end of the body too. scale: so many seconds of the client pass in one; its
    watches end accordingly earlier.
    """

    def __init__(self, kubeconfig: Path, *, holds_headers: bool, scale: int) -> None:
        configuration = Configuration()
        load_kube_config(str(kubeconfig), client_configuration=configuration)
        self._base = configuration.host
        self._pool = RESTClientObject(configuration).pool_manager
        self._holds_headers = holds_headers
        self._scale = scale
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with suppress(OSError, urllib3.exceptions.HTTPError, ValueError):
                    proxy._pass_on(self)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """The test has its own log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # server_close() waits for them
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="buffering-proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._pool.clear()

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        path = re.sub("timeoutSeconds=([0-9]+)", lambda it: f"timeoutSeconds={int(it[1]) // self._scale}", handler.path)
        response = self._pool.request("GET", self._base + path, preload_content=False, retries=False)
        try:
            if not self._holds_headers:
                self._send_headers(handler, response.status)
            body = response.read()
            if self._holds_headers:
                self._send_headers(handler, response.status)
            handler.wfile.write(body)
        finally:
            response.close()

    def _send_headers(self, handler: BaseHTTPRequestHandler, status: int) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.flush()
