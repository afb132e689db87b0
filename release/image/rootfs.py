"""Copies what the agent needs at run time, and nothing else, into an empty root: `python rootfs.py /app /rootfs`.

That is the folder of the virtual environment, the Python interpreter with its standard library, the shared libraries
that the dynamic linker loads for them, the CA certificates and the account the agent runs as. For scanners, the records
of the Debian packages the files came from go into /var/lib/dpkg/status.d, as in other images without a package manager.
"""

# ruff: noqa: S607 -- runs ldd and dpkg-query while the image is built, with paths it has found itself

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

NOT_NEEDED = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "venv", "pydoc_data", "site-packages",
              "dist-packages", "config-*", "__phello__", "lib2to3")  # fmt: skip
CERTIFICATES = ("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/usr/lib/ssl", "/usr/share/ca-certificates")
ACCOUNT = "65535"


def main(environment: Path, root: Path) -> None:
    interpreter = Path(sys.executable)
    library = Path(sysconfig.get_path("stdlib"))
    extensions = [file for folder in (library, environment) for file in folder.rglob("*.so*")]
    libraries = _libraries([interpreter, *extensions])

    _copy_tree(environment, root)
    _copy_tree(library, root, ignore=shutil.ignore_patterns(*NOT_NEEDED))
    for path in (interpreter, *libraries):
        _copy_file(path, root)
    for name in CERTIFICATES:
        path = Path(name)
        if path.is_dir():
            _copy_tree(path, root)
        elif path.exists():
            _copy_file(path, root)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(f"agent:x:{ACCOUNT}:{ACCOUNT}:agent:/:/sbin/nologin\n")
    (root / "etc/group").write_text(f"agent:x:{ACCOUNT}:\n")
    (root / "tmp").mkdir(mode=0o1777, exist_ok=True)
    _link_merged_folders(root)
    _record_packages([interpreter, *libraries], root)


def _libraries(binaries: list[Path]) -> list[Path]:
    """Real paths and the links to them, of every library that ldd names."""
    found: set[Path] = set()
    for binary in binaries:
        listed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
        found |= {Path(match) for match in re.findall(r"(/\S+) \(0x", listed)}
    return sorted(found)


def _copy_tree(source: Path, root: Path, ignore: object = None) -> None:
    target = root / source.relative_to("/")
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignore)  # type: ignore[arg-type]


def _copy_file(path: Path, root: Path) -> None:
    """The file, and every link on the way to it."""
    while path.is_symlink():
        link = root / _merged(path).relative_to("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path.readlink())
        path = path.parent / path.readlink()
    target = root / path.resolve().relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)


def _merged(path: Path) -> Path:
    """/lib/x -> /usr/lib/x where the distribution has merged them; links in the last part stay."""
    return path.parent.resolve() / path.name


def _link_merged_folders(root: Path) -> None:
    for name in ("lib", "lib64", "bin"):
        link = Path("/") / name
        if link.is_symlink() and not (root / name).exists() and (root / link.resolve().relative_to("/")).exists():
            (root / name).symlink_to(link.readlink())


def _record_packages(files: list[Path], root: Path) -> None:
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True)
    names = {str(name) for path in files for name in (path, path.resolve(), _unmerged(path.resolve()))}
    owners = subprocess.run(["dpkg-query", "-S", *sorted(names)], capture_output=True, text=True, check=False).stdout
    for package in {line.split(":")[0] for line in owners.splitlines()} | {"ca-certificates"}:
        record = subprocess.run(["dpkg-query", "-s", package], capture_output=True, text=True, check=False).stdout
        if record:
            (folder / package).write_text(record)


def _unmerged(path: Path) -> Path:
    return Path("/", *path.parts[2:]) if path.parts[1] == "usr" else path


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
