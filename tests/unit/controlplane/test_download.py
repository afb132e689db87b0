"""The envtest archive: verified before anything is unpacked, and quick to give up."""

import hashlib
import http.server
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.controlplane import download
from e2e.controlplane.errors import SourceFailed

PLATFORM = "linux-amd64"
NAMES = ("etcd", "kube-apiserver", "kubectl")


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = archive({f"controller-tools/envtest/{name}": name.encode() for name in NAMES})


@dataclass
class Mirror:
    """An HTTP server that gives one answer to every request."""

    url: str
    body: bytes = ARCHIVE
    status: int = 200
    announced: int | None = None
    path: str = ""


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.path = self.path
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body) if answer.announced is None else answer.announced))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        answer = Mirror(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield answer
        server.shutdown()
        thread.join()


def fetch(directory: Path, url: str, body: bytes = ARCHIVE) -> None:
    download.fetch(
        directory, list[str]().append, platform_name=PLATFORM, base_url=url, checksum=hashlib.sha512(body).hexdigest()
    )


def test_a_verified_archive_is_unpacked(tmp_path: Path, mirror: Mirror) -> None:
    """The three binaries end up in the folder itself, executable, with nothing beside them."""
    fetch(tmp_path, mirror.url)
    assert mirror.path == f"/envtest-{download.VERSION}/envtest-{download.VERSION}-{PLATFORM}.tar.gz"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (tmp_path / name).read_text() == name
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755


def test_a_wrong_checksum_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    """Nothing is unpacked from an archive with another checksum; the error shows both."""
    mirror.body = archive({"etcd": b"evil"})
    with pytest.raises(SourceFailed) as refused:
        fetch(tmp_path, mirror.url)
    assert hashlib.sha512(ARCHIVE).hexdigest() in str(refused.value)
    assert hashlib.sha512(mirror.body).hexdigest() in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_the_pinned_checksum_is_the_default(tmp_path: Path, mirror: Mirror) -> None:
    """Without a checksum given, the archive must have the pinned one."""
    with pytest.raises(SourceFailed, match=download.SHA512[PLATFORM]):
        download.fetch(tmp_path, list[str]().append, platform_name=PLATFORM, base_url=mirror.url)


def test_an_http_error_is_named(tmp_path: Path, mirror: Mirror) -> None:
    """The error has the status and the URL."""
    mirror.status = 404
    with pytest.raises(SourceFailed, match=r"envtest-.*404"):
        fetch(tmp_path, mirror.url)


def test_a_cut_off_answer_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    """An answer that ends early is a failed download, not a short archive."""
    mirror.announced = len(ARCHIVE) + 10
    with pytest.raises(SourceFailed, match="IncompleteRead"):
        fetch(tmp_path, mirror.url)


def test_no_network_is_named(tmp_path: Path) -> None:
    """A refused connection gives a one-line reason."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # not listening
        with pytest.raises(SourceFailed, match="Connection refused") as refused:
            fetch(tmp_path, f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert "\n" not in str(refused.value)


def test_an_unknown_platform_is_named(tmp_path: Path) -> None:
    """Without a pinned checksum nothing is downloaded."""
    with pytest.raises(SourceFailed, match="plan9-mips"):
        download.fetch(tmp_path, list[str]().append, platform_name="plan9-mips")


@pytest.mark.parametrize("name", ["../etcd", "/etcd", "a/../../etcd"])
def test_no_entry_leaves_the_folder(tmp_path: Path, mirror: Mirror, name: str) -> None:
    """Whatever path an entry has, it is unpacked into the folder."""
    mirror.body = archive({name: b"content", "README": b"not wanted"})
    target = tmp_path / "target"
    target.mkdir()
    fetch(target, mirror.url, mirror.body)
    assert [file.name for file in target.iterdir()] == ["etcd"]
    assert list(tmp_path.iterdir()) == [target]


def test_garbage_with_the_right_checksum_is_named(tmp_path: Path, mirror: Mirror) -> None:
    """A file that is not an archive is an error of the source, not a crash."""
    mirror.body = b"not an archive"
    with pytest.raises(SourceFailed, match="cannot be unpacked"):
        fetch(tmp_path, mirror.url, mirror.body)


def test_progress_is_reported(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person sees what is downloaded and how far it is."""
    monkeypatch.setattr(download, "REPORT_BYTES", 1)
    lines: list[str] = []
    download.fetch(
        tmp_path,
        lines.append,
        platform_name=PLATFORM,
        base_url=mirror.url,
        checksum=hashlib.sha512(ARCHIVE).hexdigest(),
    )
    assert lines[0] == f"downloading {mirror.url}{mirror.path}"
    assert lines[1] == "downloaded 0 of 0 MB"


@pytest.mark.parametrize("checksum", download.SHA512.values(), ids=download.SHA512.keys())
def test_pinned_checksums_are_sha512(checksum: str) -> None:
    """A slip in a pin shows here, not in a download."""
    assert len(bytes.fromhex(checksum)) == hashlib.sha512().digest_size
