"""Archives that are the same for the same files and the same time."""

import gzip
import io
import tarfile
from collections.abc import Collection, Mapping


def tar_gz(files: Mapping[str, bytes], *, modified: int, programs: Collection[str] = ()) -> bytes:
    """The files by their path. `modified`: in seconds since 1970. `programs`: those that can be run."""
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mtime, info.mode = len(data), modified, 0o755 if path in programs else 0o644
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(tarred.getvalue(), mtime=modified)
