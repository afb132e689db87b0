"""The control plane: its binaries are the pinned ones and complete, and a server that ended is an error of its own."""

import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane import AssetsUnavailable, ServerFailed
from e2e.controlplane.assets import Source, find_assets
from e2e.controlplane.process import ServerProcess
from e2e.controlplane.sources import SHA512, SourceFailed, download


@pytest.fixture
def mirror() -> Iterator[str]:
    """The URL of a server whose archive is not the pinned one."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"another archive")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_archive_with_another_checksum_is_not_unpacked(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(SourceFailed, match=SHA512["linux-amd64"]):
        download(tmp_path, list[str]().append, platform="linux-amd64", base_url=mirror)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_all_binaries_does_not_get_into_the_cache(tmp_path: Path) -> None:
    source = Source("source", "v1", lambda directory, _: (directory / "etcd").touch(mode=0o755))
    with pytest.raises(AssetsUnavailable, match="gave no kube-apiserver"):
        find_assets(environ={"PATH": ""}, cache=tmp_path, sources=[source], report=list[str]().append)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]


def test_a_server_that_ends_by_itself_is_an_error_with_its_log(tmp_path: Path) -> None:
    server = ServerProcess("server", [sys.executable, "-c", "print('no space'); exit(3)"], directory=tmp_path)
    server._process.wait(20)
    with pytest.raises(ServerFailed, match=r"(?s)server ended \(exit code 3\).*no space"):
        server.check()
    server.kill()
