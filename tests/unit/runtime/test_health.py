"""The HTTP endpoints, asked over real sockets: formats, status codes, addresses, bad clients."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from controller.runtime import HTTPServer, ServerBindError
from controller.runtime.health import HealthHandler, MetricsHandler
from controller.runtime.http_server import MAX_CONNECTIONS, Request, Response
from controller.runtime.http_server import serve as serve_until
from informers import Stop
from tests.fake_api_server.waiting import eventually

TIMEOUT = 60.0


def passing() -> None:
    """All is well."""


def failing() -> None:
    raise RuntimeError("the disk is full")


@pytest.fixture
def serve() -> Iterator[Callable[..., HTTPServer]]:
    stop = Stop()
    threads: list[threading.Thread] = []

    def start(*handlers: Any) -> HTTPServer:
        server = HTTPServer("test", 0, {handler.path: handler for handler in handlers})
        threads.append(threading.Thread(target=serve_until, args=([server], stop), daemon=True))
        threads[-1].start()
        return server

    yield start
    stop.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def ask(
    server: HTTPServer,
    path: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    try:
        connection.request(method, path, headers=headers or {}, body=body)
        response = connection.getresponse()
        return response.status, response.read().decode(), dict(response.getheaders())
    finally:
        connection.close()


class TestFormats:
    """controller-runtime's pkg/healthz, byte for byte."""

    @pytest.mark.parametrize(
        ("checks", "path", "status", "body"),
        [
            ({"a": passing, "b": passing}, "/readyz", 200, "ok"),
            ({"a": passing, "b": passing}, "/readyz/", 200, "ok"),
            ({"a": passing, "b": passing}, "/readyz?verbose", 200, "[+]a ok\n[+]b ok\nhealthz check passed\n"),
            (
                {"a": passing, "b": failing},
                "/readyz",
                500,
                "[+]a ok\n[-]b failed: reason withheld\nhealthz check failed\n",
            ),
            ({"a": passing, "b": failing}, "/readyz/a", 200, "ok"),
            ({"a": passing, "b": failing}, "/readyz/b", 500, "internal server error: the disk is full\n"),
            ({"a": passing}, "/readyz/b", 404, "404 page not found\n"),
            ({"a": passing}, "/readyz/a/b", 404, "404 page not found\n"),
            ({"a": passing}, "/readyzz", 404, "404 page not found\n"),
            ({"a": passing}, "/", 404, "404 page not found\n"),
            ({"a": passing}, "//readyz/../readyz", 200, "ok"),
        ],
    )
    def test_answers(self, checks: Any, path: str, status: int, body: Any, serve: Callable[..., HTTPServer]) -> None:
        assert ask(serve(HealthHandler("/readyz", **checks)), path)[:2] == (status, body)

    def test_an_address_that_is_none(self, serve: Callable[..., HTTPServer]) -> None:
        with socket.create_connection(("127.0.0.1", serve().port), TIMEOUT) as connection:
            connection.sendall(b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")

    def test_plain_text_that_is_not_sniffed(self, serve: Callable[..., HTTPServer]) -> None:
        headers = ask(serve(HealthHandler("/healthz", a=passing)), "/healthz")[2]
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_every_method_is_answered(self, method: Any, serve: Callable[..., HTTPServer]) -> None:
        """Probes of all kinds work; HEAD has no body."""
        server = serve(HealthHandler("/healthz", a=passing))
        body = b"not read" if method in ("POST", "PUT", "PATCH") else None
        status, text, _ = ask(server, "/healthz", method=method, body=body)
        assert (status, text) == (200, "" if method == "HEAD" else "ok")


class TestChecks:
    def test_only_changes_are_logged(self, serve: Callable[..., HTTPServer], caplog: pytest.LogCaptureFixture) -> None:
        """A probe each second must not fill the log; the reason, withheld from the answer, is in it."""
        states = [False, False, True, True, False]

        def check() -> None:
            if not states.pop(0):
                raise RuntimeError("reason for the log")

        server = serve(HealthHandler("/healthz", a=check))
        while states:
            ask(server, "/healthz")
        records = [r for r in caplog.records if r.getMessage().startswith("Health check")]
        assert [r.getMessage() for r in records] == [
            "Health check failed",
            "Health check passed again",
            "Health check failed",
        ]
        assert records[0].error == "reason for the log"  # type: ignore[attr-defined]

    def test_a_slow_check_does_not_hold_up_others(self, serve: Callable[..., HTTPServer]) -> None:
        """Each connection has its own thread."""
        entered = threading.Event()
        release = threading.Event()

        def slow() -> None:
            entered.set()
            release.wait(TIMEOUT)

        server = serve(HealthHandler("/healthz", slow=slow, fast=passing))
        thread = threading.Thread(target=ask, args=(server, "/healthz/slow"))
        thread.start()
        assert entered.wait(TIMEOUT)
        assert ask(server, "/healthz/fast")[:2] == (200, "ok")
        release.set()
        thread.join()


class TestMetrics:
    @pytest.mark.parametrize(
        ("accept", "content_type", "ends"),
        [
            ("", "text/plain", "sheep_total 1.0\n"),
            ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n"),
        ],
    )
    def test_format_follows_the_accept_header(
        self, accept: Any, content_type: Any, ends: Any, serve: Callable[..., HTTPServer]
    ) -> None:
        """Prometheus text by default, OpenMetrics to those who ask for it."""
        registry = CollectorRegistry()
        counter = Counter("sheep", "Sheep counted.", registry=registry)
        counter._created = 0
        counter.inc()
        status, body, headers = ask(serve(MetricsHandler(registry)), "/metrics", headers={"Accept": accept})
        assert status == 200
        assert headers["Content-Type"].startswith(content_type)
        assert "sheep_total 1.0\n" in body
        assert content_type == "text/plain" or body.endswith(ends)

    def test_a_collector_that_raises_answers_500(
        self, serve: Callable[..., HTTPServer], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The scraper sees a failure, the log its reason."""

        class Broken:
            def collect(self) -> None:
                raise RuntimeError("broken collector")

            def describe(self) -> Any:
                return []

        registry = CollectorRegistry()
        registry.register(Broken())  # type: ignore[arg-type]
        assert ask(serve(MetricsHandler(registry)), "/metrics")[:2] == (500, "internal server error\n")
        assert "broken collector" in caplog.text


class TestServer:
    def test_a_port_in_use_is_a_clear_error(self) -> None:
        """The error names the server, the port and the reason."""
        with socket.create_server(("", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ServerBindError, match=f"test server: cannot listen on port {port}: .*already in use"):
                HTTPServer("test", port, {})

    def test_one_thread_serves_several_servers(self) -> None:
        servers = [HTTPServer(name, 0, {"/healthz": HealthHandler("/healthz")}) for name in ("a", "b")]
        stop = Stop()
        thread = threading.Thread(target=serve_until, args=(servers, stop), daemon=True)
        thread.start()
        for server in servers:
            assert ask(server, "/healthz")[:2] == (200, "ok")
        stop.set()
        thread.join(TIMEOUT)
        for server in servers:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"] if socket.has_dualstack_ipv6() else ["127.0.0.1"])
    def test_it_listens_on_both_ip_versions(self, host: Any, serve: Callable[..., HTTPServer]) -> None:
        """Probes come over IPv4 or IPv6, as the cluster has it."""
        server = serve(HealthHandler("/healthz", a=passing))
        connection = http.client.HTTPConnection(host, server.port, timeout=TIMEOUT)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok"
        connection.close()

    def test_garbage_is_survived(self, serve: Callable[..., HTTPServer]) -> None:
        """What is no HTTP gets an error or nothing, and the next client is served."""
        server = serve(HealthHandler("/healthz", a=passing))
        for garbage in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET /healthz HTTP/9.9\r\n\r\n", b""):
            with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as client:
                client.sendall(garbage)
        assert ask(server, "/healthz")[:2] == (200, "ok")


class Large:
    """An answer that does not fit into the buffers of a connection."""

    path = "/large"

    def __call__(self, _request: Request) -> Response:
        return Response(200, b"x" * 20_000_000)


class TestManyClients:
    """A client that holds connections does not keep others from being answered."""

    @pytest.fixture
    def server(self, serve: Callable[..., HTTPServer]) -> HTTPServer:
        return serve(HealthHandler("/healthz", a=passing), Large())

    def connect(self, server: HTTPServer, says: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
        if says:
            with suppress(ConnectionError):  # it may have lost its place already
                client.sendall(says)
        return client

    @pytest.mark.parametrize(
        "says",
        [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"],
        ids=["say nothing", "say half of it", "stay after an answer"],
    )
    def test_many_idle_clients(self, says: Any, server: HTTPServer) -> None:
        """Probes are answered meanwhile and afterwards; the number of connections and threads stays bounded."""
        clients = []
        for number in range(8 * MAX_CONNECTIONS):
            clients.append(self.connect(server, says))
            if number % 100 == 99:
                assert ask(server, "/healthz")[:2] == (200, "ok")
        eventually(lambda: threading.active_count() < MAX_CONNECTIONS + 20)
        assert ask(server, "/healthz")[:2] == (200, "ok")
        for client in clients:
            client.close()

    def test_clients_that_do_not_read_the_answer(self, server: HTTPServer) -> None:
        """They are not waited for."""
        clients = [self.connect(server, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(3)]
        clients += [self.connect(server, b"") for _ in range(MAX_CONNECTIONS)]
        assert ask(server, "/healthz")[:2] == (200, "ok")
        eventually(lambda: threading.active_count() < MAX_CONNECTIONS + 20)
        for client in clients:
            client.close()

    def test_an_active_client_keeps_its_connection(self, server: HTTPServer) -> None:
        """A scraper uses one connection for all its requests, which outlives hundreds of idle ones.

        Each of these has had an answer, so none still waits to be accepted when the scraper asks again.
        """
        scraper = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        clients = []
        for _ in range(5):
            scraper.request("GET", "/healthz")
            assert scraper.getresponse().read() == b"ok"
            assert scraper.sock is not None
            used = scraper.sock
            for _ in range(MAX_CONNECTIONS // 2):
                clients.append(self.connect(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"))
                assert clients[-1].recv(1)
            assert scraper.sock is used
        for client in clients:
            client.close()
        scraper.close()

    def test_a_client_that_reads_slowly_gets_the_whole_answer(
        self, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It makes progress: neither the idle limit nor new connections end it."""
        monkeypatch.setattr("controller.runtime.http_server._RequestHandler.timeout", 1.0)
        reader = self.connect(server, b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = 0
        clients = []
        while data := reader.recv(1 << 18):
            received += len(data)
            clients += [self.connect(server, b"") for _ in range(5)]
            time.sleep(0.03)
        assert received > 20_000_000
        assert len(clients) > 4 * MAX_CONNECTIONS
        for client in [reader, *clients]:
            client.close()

    def test_an_idle_connection_is_closed(self, server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when no other client needs its place."""
        monkeypatch.setattr("controller.runtime.http_server._RequestHandler.timeout", 0.05)
        client = self.connect(server, b"")
        assert client.recv(1) == b""
        client.close()
