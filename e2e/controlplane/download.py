"""The official envtest archive: etcd, kube-apiserver and kubectl, as controller-runtime's tests use them."""

import hashlib
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO

import requests

from e2e.controlplane.errors import SourceFailed
from e2e.controlplane.progress import Report

VERSION = "v1.36.2"
BASE_URL = "https://github.com/kubernetes-sigs/controller-tools/releases/download"
SHA512 = {
    "linux-amd64": "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dc"
    "f30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08",
    "linux-arm64": "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae2818"
    "1afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac",
}
"""Of the archive, by platform; the releases' own list is envtest-releases.yaml in kubernetes-sigs/controller-tools."""

MEMBERS = ("etcd", "kube-apiserver", "kubectl")
CONNECT_SECONDS = 3.0
"""Without a way to the internet the build has to begin soon."""
READ_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
REPORT_BYTES = 10 << 20


def fetch(
    directory: Path, report: Report, *, platform_name: str, base_url: str = BASE_URL, checksum: str | None = None
) -> None:
    """Download, verify and unpack the archive for `platform_name` into `directory`.

    `checksum` (SHA-512, hex) defaults to the pinned one. Nothing is unpacked unless it matches. Raises SourceFailed.
    """
    checksum = checksum or SHA512.get(platform_name)
    if checksum is None:
        raise SourceFailed(f"there is none with a known checksum for {platform_name}")
    url = f"{base_url}/envtest-{VERSION}/envtest-{VERSION}-{platform_name}.tar.gz"
    with tempfile.TemporaryFile(dir=directory) as archive:
        _download(url, archive, checksum, report)
        archive.seek(0)
        _unpack(archive, directory)


def _download(url: str, archive: IO[bytes], checksum: str, report: Report) -> None:
    report(f"downloading {url}")
    digest = hashlib.sha512()
    done = reported = 0
    try:
        with requests.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as answer:
            answer.raise_for_status()
            total = int(answer.headers.get("Content-Length") or 0)
            for chunk in answer.iter_content(CHUNK_BYTES):
                archive.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if done - reported >= REPORT_BYTES:
                    reported = done
                    report(f"downloaded {done >> 20} of {total >> 20} MB" if total else f"downloaded {done >> 20} MB")
    except requests.RequestException as error:
        raise SourceFailed(f"{url}: {_reason(error)}") from error
    if digest.hexdigest() != checksum:
        raise SourceFailed(f"{url}: the checksum is {digest.hexdigest()}, expected {checksum}")


def _unpack(archive: IO[bytes], directory: Path) -> None:
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name not in MEMBERS or not member.isfile():
                    continue
                # Only the last part of the name is used: no entry can leave the folder.
                member.name = name
                tar.extract(member, directory, filter="data")
                (directory / name).chmod(0o755)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceFailed(f"the archive cannot be unpacked: {error}") from error


def _reason(error: requests.RequestException) -> str:
    """The innermost cause: the outer texts repeat the URL and wrap each other."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return str(cause) or type(cause).__name__
