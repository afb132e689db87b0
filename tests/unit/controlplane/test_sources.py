"""The archive with the binaries of the control plane is used only if it has the pinned checksum."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from e2e.controlplane import sources

PLATFORM = "linux-amd64"


def archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("controller-tools/envtest/../../kubectl")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"run"))
    return packed.getvalue()


ARCHIVE = archive()


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ARCHIVE)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr(sources, "ARCHIVE_URL", f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def test_another_checksum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sources.AssetsUnavailable, match="the checksum is"):
        sources.download(tmp_path, PLATFORM)
    assert not list(tmp_path.iterdir())


def test_no_entry_leaves_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SHA512, PLATFORM, hashlib.sha512(ARCHIVE).hexdigest())
    sources.download(tmp_path, PLATFORM)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("kubectl", b"run")]
