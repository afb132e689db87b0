"""The archive with the binaries of the control plane is used only if it has the pinned checksum."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import requests

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
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = requests.Response()
    answer.status_code, answer.raw = 200, io.BytesIO(ARCHIVE)
    monkeypatch.setattr(requests, "get", lambda *_, **__: answer)


def test_another_checksum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sources.AssetsUnavailable, match="the checksum is"):
        sources.download(tmp_path, PLATFORM)
    assert not list(tmp_path.iterdir())


def test_no_entry_leaves_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SHA512, PLATFORM, hashlib.sha512(ARCHIVE).hexdigest())
    sources.download(tmp_path, PLATFORM)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("kubectl", b"run")]
