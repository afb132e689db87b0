"""A kubeconfig means what it means to kubectl: both ask the same server, which notes how.

The differences that stay are in docs/client-go-parity.md. For proxies: test_proxies.py.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest import mock

import pytest
import yaml

from e2e.controlplane.assets import find_assets
from informers import Client, ConfigurationError, ConnectionFailed, NoCredentials
from informers.configuration import load
from tests.support.noting_server import Note, NotingServer

_SECONDS = 60.0  # a limit, not a duration: kubectl takes a tenth of a second
_HANG_SECONDS = 2.0

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"

PLUGIN = """
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
seen = {"info": info, "arguments": sys.argv[1:], "variable": os.environ.get("PLUGIN_VARIABLE")}
(here / "seen").write_text(json.dumps(seen))
answer = (here / "answer").read_text()
if answer == "hang":
    time.sleep(600)
print(answer)
sys.exit(3 if answer == "fail" else 0)
"""


@dataclass(frozen=True)
class Outcome:
    """What the server noted, and what an exec plugin saw. Without notes it was refused."""

    notes: list[Note]
    plugin: Any


class World:
    """The files and the environment of one case, which both clients get."""

    def __init__(self, folder: Path, server: NotingServer) -> None:
        self.folder = folder
        self.server = server
        self.url = f"https://127.0.0.1:{server.port}"
        self.address = f"127.0.0.1:{server.port}"
        (folder / "home").mkdir()
        self.environ = {"HOME": str(folder / "home"), "PATH": f"{folder}:{os.environ['PATH']}"}
        self.kubeconfig: str | None = None
        self.context: str | None = None
        self.ca_file = self.file("ca.pem", server.authority.certificate_pem)
        self.ca_data = base64.b64encode(server.authority.certificate_pem).decode()
        jane = server.client("jane")
        self.certificate, self.key = jane.certificate_pem, jane.key_pem
        self.file("jane.crt", self.certificate)
        self.file("jane.key", self.key)
        self.certificate_data = base64.b64encode(self.certificate).decode()
        self.key_data = base64.b64encode(self.key).decode()
        self.pair = {"client-certificate-data": self.certificate_data, "client-key-data": self.key_data}

    def file(self, name: str, content: bytes | str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def config(self, name: str = "config", *, raw: str | None = None, **changes: Any) -> str:
        """Write a kubeconfig with one context. changes: fields of `cluster`, `user`, `context`, None to remove one;
        other keys are of the file.
        """
        cluster = {"server": self.url, "certificate-authority-data": self.ca_data} | changes.pop("cluster", {})
        user = changes.pop("user", {"token": "t"})
        context = {"cluster": "c", "user": "u"} | changes.pop("context", {})
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": without_none(cluster)}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": without_none(context)}],
            "current-context": "x",
        } | {key.replace("_", "-"): value for key, value in changes.items()}
        return self.file(name, raw if raw is not None else yaml.safe_dump(without_none(config)))

    def one(self, **changes: Any) -> Self:
        """One kubeconfig in $KUBECONFIG."""
        return self.several(self.config(**changes))

    def several(self, *files: str) -> Self:
        return self.variable(KUBECONFIG=":".join(files))

    def variable(self, **variables: str) -> Self:
        self.environ |= variables
        return self

    def argument(self, kubeconfig: str | None = None, *, context: str | None = None) -> Self:
        """Of the command line."""
        self.kubeconfig, self.context = kubeconfig, context
        return self

    def program(self, name: str) -> Self:
        """An exec plugin whose token is its name."""
        path = Path(self.file(name, '#!/bin/sh\nexec cat "$0.json"\n'))
        path.chmod(0o755)
        self.file(f"{name}.json", self.credential(token=path.name))
        return self

    def plugin(self, answer: str | None = None, *, cluster: Any = None, **changes: Any) -> Self:
        """A user with an exec plugin. answer: what it prints; a token by default."""
        version = changes.get("apiVersion") or V1
        token = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": "of-plugin"}}
        self.file("answer", answer if answer is not None else json.dumps(token))
        self.file("plugin.py", PLUGIN)
        command = {
            "command": sys.executable,
            "args": [str(self.folder / "plugin.py"), "argument"],
            "apiVersion": V1,
            "interactiveMode": "IfAvailable",
            "env": [{"name": "PLUGIN_VARIABLE", "value": "value"}],
        }
        more = changes.pop("user", {})
        return self.one(cluster=cluster or {}, user={"exec": without_none(command | changes)} | more)

    def credential(self, version: str = V1, **status: Any) -> str:
        return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})

    def kubectl(self) -> Outcome:
        command = [str(find_assets().kubectl)]
        if self.kubeconfig:
            command.append(f"--kubeconfig={self.kubeconfig}")
        if self.context:
            command.append(f"--context={self.context}")
        command += ["get", "--raw", "/version"]
        hangs = (self.folder / "answer").exists() and (self.folder / "answer").read_text() == "hang"
        try:
            done = subprocess.run(
                command,
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_HANG_SECONDS if hangs else _SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            assert hangs
            return self._outcome()
        outcome = self._outcome()
        assert (done.returncode == 0) == bool(outcome.notes), done.stderr.decode()
        print("kubectl:", done.stderr.decode())
        return outcome

    def ours(self) -> tuple[Outcome, Exception | None]:
        error = None
        with mock.patch.dict(os.environ, self.environ, clear=True):
            try:
                with closing(Client(*load(self.kubeconfig, context=self.context))) as client:
                    client.request("GET", "/version", timeout=_SECONDS if "hang" not in self._answer() else 0.5)
            except (ConfigurationError, NoCredentials, ConnectionFailed) as caught:
                error = caught
        return self._outcome(), error

    def _answer(self) -> str:
        file = self.folder / "answer"
        return file.read_text() if file.exists() else ""

    def _outcome(self) -> Outcome:
        seen = self.folder / "seen"
        plugin = json.loads(seen.read_text()) if seen.exists() else None
        seen.unlink(missing_ok=True)
        return Outcome(self.server.taken(), plugin)


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def named(name: str, **entry: Any) -> list[dict[str, Any]]:
    return [{"name": name, **entry}]


Case = Callable[[World], Any]

SENT: dict[str, Case] = {
    "one file": lambda w: w.one(),
    "the argument, not the variable": lambda w: w.one(user={"token": "other"}).argument(w.config("argument")),
    "the home directory": lambda w: w.config("home/.kube/config"),
    "an empty variable": lambda w: w.several("").config("home/.kube/config"),
    "the first current-context counts": lambda w: w.several(
        w.config("a", current_context="x"),
        w.config("b", current_context="z", contexts=named("z", context={"cluster": "c", "user": "none"})),
    ),
    "the first user of a name counts": lambda w: w.several(
        w.config("a", user={"token": "of-a"}), w.config("b", user={"token": "of-b"})
    ),
    "an entry is not merged with one of another file": lambda w: w.several(
        w.config("a", user={"token": "of-a"}), w.config("b", user={"as": "jane", "token": "of-b"})
    ),
    "parts in several files": lambda w: w.several(
        w.config("a", users=None, contexts=None, current_context=None),
        w.config("b", clusters=None, contexts=None, current_context=None),
        w.config("c", clusters=None, users=None),
    ),
    "an empty file in the list": lambda w: w.several(w.file("empty", ""), w.config()),
    "a file of comments in the list": lambda w: w.several(w.file("comments", "# nothing\n"), w.config()),
    "a missing file in the list": lambda w: w.several(str(w.folder / "missing"), w.config()),
    "an empty current-context in the first file": lambda w: w.several(
        w.config("a", current_context=""), w.config("b", current_context="x")
    ),
    "no current-context in the first file": lambda w: w.several(
        w.config("a", current_context=None), w.config("b", current_context="x")
    ),
    "an empty element of the list": lambda w: w.several("", w.config(), ""),
    "the same file twice": lambda w: w.several(w.config(), w.config()),
    "a relative file in the list": lambda w: w.several("config").config(),
    "a context by its name": lambda w: w.argument(context="z").one(
        users=[*named("u", user={"token": "t"}), *named("v", user={"token": "of-v"})],
        contexts=[
            *named("x", context={"cluster": "c", "user": "u"}),
            *named("z", context={"cluster": "c", "user": "v"}),
        ],
    ),
    "a context by its name, without a current one": lambda w: w.argument(context="x").one(current_context=None),
    "a context by its name, with a wrong current one": lambda w: w.argument(context="x").one(current_context="nowhere"),
    "entries without names": lambda w: w.one(
        clusters=[{"cluster": {"server": w.url, "certificate-authority-data": w.ca_data}}],
        users=[{"user": {"token": "t"}}],
        contexts=None,
        current_context=None,
    ),
    "neither kind nor apiVersion": lambda w: w.one(kind=None, apiVersion=None),
    "unknown fields": lambda w: w.one(more={"a": 1}, cluster={"more": [1]}, user={"token": "t", "more": 1}),
    "JSON": lambda w: w.one(raw=json.dumps(yaml.safe_load(Path(w.config("yaml")).read_text()))),
    "a second document": lambda w: w.one(raw=Path(w.config("yaml")).read_text() + "\n---\nkind: Other\n"),
    "a token that looks like a date": lambda w: w.one(
        raw=Path(w.config("yaml")).read_text().replace("token: t", "token: 2026-01-01")
    ),
    "an anchor and a merge key": lambda w: w.one(
        raw=Path(w.config("yaml")).read_text().replace("token: t", "<<: &a {token: of-anchor}")
    ),
    # Files.
    "a CA file that is relative to its kubeconfig": lambda w: w.one(
        name="sub/config", cluster={"certificate-authority-data": None, "certificate-authority": "../ca.pem"}
    ),
    "a token file that is relative to its kubeconfig": lambda w: w.one(
        name="sub/config", user={"tokenFile": Path(w.file("sub/token", "of-file\n")).name}
    ),
    "certificate files with ..": lambda w: w.one(
        name="sub/config", user={"client-certificate": "../jane.crt", "client-key": "../jane.key"}
    ),
    "certificate and key as data": lambda w: w.one(user=w.pair),
    "the certificate as data, the key as a file": lambda w: w.one(
        user={"client-certificate-data": w.certificate_data, "client-key": w.file("k.pem", w.key)}
    ),
    "one file with certificate and key": lambda w: w.one(
        user=dict.fromkeys(("client-certificate", "client-key"), w.file("both.pem", w.key + w.certificate))
    ),
    "base64 on several lines": lambda w: w.one(
        cluster={"certificate-authority-data": "\n".join(w.ca_data[i : i + 64] for i in range(0, len(w.ca_data), 64))}
    ),
    "a CA with texts of people": lambda w: w.one(
        cluster={
            "certificate-authority-data": None,
            "certificate-authority": w.file("t.pem", "# Autorit\u00e9\n".encode() + w.server.authority.certificate_pem),
        }
    ),
    "a certificate, and a token": lambda w: w.one(user=w.pair | {"token": "t"}),
    "a key without a certificate, and a token": lambda w: w.one(user={"token": "t", "client-key-data": w.key_data}),
    "a token file": lambda w: w.one(user={"tokenFile": w.file("token", "of-file\n")}),
    "a token and a token file: the file": lambda w: w.one(user={"token": "t", "tokenFile": w.file("token", "of-file")}),
    "a token and a missing token file": lambda w: w.one(user={"token": "t", "tokenFile": "missing"}),
    "user and password": lambda w: w.one(user={"username": "jane", "password": "p\u00e4ss:word"}),
    "a user without a password": lambda w: w.one(user={"username": "jane"}),
    "a certificate, user and password": lambda w: w.one(user=w.pair | {"username": "jane", "password": "p"}),
    # Impersonation.
    "as": lambda w: w.one(user={"token": "t", "as": "jane"}),
    "as, with all that belongs to it": lambda w: w.one(
        user={
            "token": "t",
            "as": "j\u00e4ne",
            "as-uid": "1",
            "as-groups": ["a", "b"],
            "as-user-extra": {"example.com/Team": ["x", "z"], "a!b%c": ["x"]},
        }
    ),
    "as, over http": lambda w: w.one(cluster={"server": f"http://{w.address}"}, user={"token": "t", "as": "jane"}),
    # Servers.
    "a path": lambda w: w.one(cluster={"server": f"{w.url}/a/b"}),
    "a path with a slash at its end": lambda w: w.one(cluster={"server": f"{w.url}/a/b/"}),
    "a path with two slashes and dots": lambda w: w.one(cluster={"server": f"{w.url}/a//b/../c"}),
    "only a slash": lambda w: w.one(cluster={"server": f"{w.url}/"}),
    "a query and a fragment": lambda w: w.one(cluster={"server": f"{w.url}/a?b=c#d"}),
    "a scheme in capitals": lambda w: w.one(cluster={"server": w.url.replace("https", "HTTPS")}),
    "a host name": lambda w: w.one(cluster={"server": f"https://localhost:{w.server.port}"}),
    "http: the token stays here": lambda w: w.one(cluster={"server": f"http://{w.address}"}),
    "http: a missing CA file of the user's": lambda w: w.one(
        cluster={"server": f"http://{w.address}"}, user={"tokenFile": "missing"}
    ),
    "http: an unknown user": lambda w: w.one(cluster={"server": f"http://{w.address}"}, context={"user": "nobody"}),
    "no scheme is http: the token stays here": lambda w: w.one(cluster={"server": w.address}),
    "no scheme, a host name": lambda w: w.one(cluster={"server": f"localhost:{w.server.port}"}),
    "user and password in the URL": lambda w: w.one(cluster={"server": f"https://me:p%20w@{w.address}"}),
    "user and password in the URL of http": lambda w: w.one(cluster={"server": f"http://me:pw@{w.address}"}),
    "tls-server-name": lambda w: w.one(cluster={"tls-server-name": "api.example.com"}),
    "insecure": lambda w: w.one(
        cluster={"insecure-skip-tls-verify": True, "certificate-authority-data": None}, user=w.pair
    ),
    "insecure with tls-server-name": lambda w: w.one(
        cluster={
            "insecure-skip-tls-verify": True,
            "certificate-authority-data": None,
            "tls-server-name": "other.example.com",
        }
    ),
    "the authorities of the system": lambda w: w.variable(SSL_CERT_FILE=w.ca_file).one(
        cluster={"certificate-authority-data": None}
    ),
    # Plugins.
    "a plugin": lambda w: w.plugin(),
    "a plugin of v1beta1, whose interactiveMode may be missing": lambda w: w.plugin(
        apiVersion=V1BETA1, interactiveMode=None
    ),
    "a plugin that never reads": lambda w: w.plugin(interactiveMode="Never"),
    "a plugin that prints a certificate": lambda w: w.plugin(
        w.credential(clientCertificateData=w.certificate.decode(), clientKeyData=w.key.decode())
    ),
    "a plugin that prints a certificate and a token": lambda w: w.plugin(
        w.credential(token="of-plugin", clientCertificateData=w.certificate.decode(), clientKeyData=w.key.decode())
    ),
    "a plugin whose credentials have expired": lambda w: w.plugin(
        w.credential(token="of-plugin", expirationTimestamp="2020-01-01T00:00:00Z")
    ),
    "a plugin that prints no kind": lambda w: w.plugin(json.dumps({"apiVersion": V1, "status": {"token": "t"}})),
    "a plugin is told about the cluster": lambda w: w.plugin(
        provideClusterInfo=True,
        cluster={
            "tls-server-name": "api.example.com",
            "proxy-url": f"http://{w.address}",
            "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}],
        },
    ),
    "a plugin is told about the cluster, shortly": lambda w: w.plugin(provideClusterInfo=True),
    "a plugin is told about the cluster's CA file": lambda w: w.plugin(
        provideClusterInfo=True,
        cluster={"certificate-authority-data": None, "certificate-authority": w.ca_file, "disable-compression": True},
    ),
    "a plugin and a token: the token": lambda w: w.plugin(user={"token": "t"}),
    "a plugin and a certificate: the certificate": lambda w: w.plugin(user=w.pair),
    "a plugin that is relative to its kubeconfig": lambda w: w.program("bin/own").plugin(
        command="./bin/own", args=None
    ),
    "a plugin in the path": lambda w: w.program("own").plugin(command="own", args=None),
}

REFUSED: dict[str, Case] = {
    "no kubeconfig at all": lambda _: None,
    "no home directory": lambda w: w.variable(HOME=""),
    "only missing files": lambda w: w.several(str(w.folder / "a"), str(w.folder / "b")),
    "a missing argument": lambda w: w.argument(str(w.folder / "missing")),
    "an argument with a colon is one file": lambda w: w.argument(f"{w.config('a')}:{w.config('b')}"),
    "a tilde is not the home directory": lambda w: w.several("~/config").config("home/config"),
    "an empty file": lambda w: w.one(raw=""),
    "an empty object": lambda w: w.one(raw="{}"),
    "a list": lambda w: w.one(raw="- a\n"),
    "no YAML": lambda w: w.one(raw="a: 's3cret"),
    "a broken file beside a good one": lambda w: w.several(w.file("broken", "a: 's3cret"), w.config()),
    "a folder": lambda w: w.several(str(w.folder)),
    "another kind": lambda w: w.one(kind="Pod"),
    "another apiVersion": lambda w: w.one(apiVersion="v2"),
    "no current-context": lambda w: w.one(current_context=None),
    "an empty current-context": lambda w: w.one(current_context=""),
    "an unknown current-context": lambda w: w.one(current_context="nowhere"),
    "an unknown context by its name": lambda w: w.one().argument(context="nowhere"),
    "an unknown cluster": lambda w: w.one(context={"cluster": "nowhere"}),
    "an unknown user": lambda w: w.one(context={"user": "nobody"}),
    "no cluster": lambda w: w.one(context={"cluster": None}),
    "no user": lambda w: w.one(context={"user": None}),
    "no server": lambda w: w.one(cluster={"server": None}),
    "an empty server": lambda w: w.one(cluster={"server": ""}),
    "a server of another scheme": lambda w: w.one(cluster={"server": f"ftp://{w.address}"}),
    "a server with a path and no scheme": lambda w: w.one(cluster={"server": f"{w.address}/a"}),
    "a server with a wrong port": lambda w: w.one(cluster={"server": "https://127.0.0.1:port"}),
    "a server with a space": lambda w: w.one(cluster={"server": f"https://127.0.0.1 :{w.server.port}"}),
    "two clusters of one name": lambda w: w.one(clusters=named("c", cluster={"server": w.url}) * 2),
    "two users of one name": lambda w: w.one(users=named("u", user={"token": "t"}) * 2),
    "two contexts of one name": lambda w: w.one(contexts=named("x", context={"cluster": "c", "user": "u"}) * 2),
    "extensions that are no list": lambda w: w.one(context={"extensions": "a"}),
    "preferences that are a text": lambda w: w.one(preferences="a"),
    "clusters that are no list": lambda w: w.one(clusters={"c": {}}),
    "a plain y is a boolean": lambda w: w.one(raw=Path(w.config("yaml")).read_text().replace("token: t", "token: y")),
    "a token that is a number": lambda w: w.one(user={"token": 5}),
    "a token that is a number, of another user": lambda w: w.one(
        users=[*named("u", user={"token": "t"}), *named("v", user={"token": 5})]
    ),
    "a boolean that is a text": lambda w: w.one(cluster={"insecure-skip-tls-verify": "true"}),
    "data that is not base64": lambda w: w.one(cluster={"certificate-authority-data": "?"}),
    "a CA that is no certificate": lambda w: w.one(
        cluster={"certificate-authority-data": base64.b64encode(b"no PEM").decode()}
    ),
    "an unreadable CA file": lambda w: w.one(
        cluster={"certificate-authority-data": None, "certificate-authority": "missing"}
    ),
    "CA as file and data": lambda w: w.one(cluster={"certificate-authority": w.ca_file}),
    "insecure with a CA": lambda w: w.one(cluster={"insecure-skip-tls-verify": True}),
    "no credentials": lambda w: w.one(user={}),
    "only as": lambda w: w.one(user={"as": "jane"}),
    "groups without as": lambda w: w.one(user={"token": "t", "as-groups": ["a"]}),
    "a uid without as": lambda w: w.one(user={"token": "t", "as-uid": "1"}),
    "extra without as": lambda w: w.one(user={"token": "t", "as-user-extra": {"a": ["b"]}}),
    "as on two lines": lambda w: w.one(user={"token": "t", "as": "a\nX-More: b"}),
    "groups that are a text": lambda w: w.one(user={"token": "t", "as": "a", "as-groups": "b"}),
    "a token on two lines": lambda w: w.one(user={"token": "a\nX-More: b"}),
    "token and password": lambda w: w.one(user={"token": "t", "username": "u", "password": "p"}),
    "token file and user": lambda w: w.one(user={"tokenFile": w.file("token", "t"), "username": "u"}),
    "only a password": lambda w: w.one(user={"password": "p"}),
    "a missing token file": lambda w: w.one(user={"tokenFile": "missing"}),
    "an empty token file": lambda w: w.one(user={"tokenFile": w.file("token", "\n")}),
    "a certificate without a key": lambda w: w.one(user={"client-certificate-data": w.certificate_data}),
    "a key without a certificate": lambda w: w.one(user={"client-key-data": w.key_data}),
    "a certificate with the key of another": lambda w: w.one(
        user=w.pair | {"client-key-data": base64.b64encode(w.server.client("other").key_pem).decode()}
    ),
    "a certificate that is none": lambda w: w.one(user=w.pair | {"client-certificate-data": "AAAA"}),
    "a missing certificate file": lambda w: w.one(user={"client-certificate": "missing", "client-key": "missing"}),
    "certificate as file and data": lambda w: w.one(user=w.pair | {"client-certificate": w.file("c", w.certificate)}),
    "key as file and data": lambda w: w.one(user=w.pair | {"client-key": w.file("k", w.key)}),
    "auth-provider": lambda w: w.one(user={"auth-provider": {"name": "gcp"}}),
    "auth-provider, and a token": lambda w: w.one(user={"token": "t", "auth-provider": {"name": "gcp"}}),
    "a plugin without a command": lambda w: w.plugin(command=None),
    "a plugin without an apiVersion": lambda w: w.plugin(apiVersion=None),
    "a plugin of an unknown apiVersion": lambda w: w.plugin(apiVersion="client.authentication.k8s.io/v1alpha1"),
    "a plugin of v1 without an interactiveMode": lambda w: w.plugin(interactiveMode=None),
    "a plugin of an unknown interactiveMode": lambda w: w.plugin(interactiveMode="Perhaps"),
    "a plugin that needs a terminal": lambda w: w.plugin(interactiveMode="Always"),
    "a plugin with a variable without a name": lambda w: w.plugin(env=[{"value": "v"}]),
    "a plugin that is not installed": lambda w: w.plugin(command="no-such-plugin"),
    "a plugin that fails": lambda w: w.plugin("fail"),
    "a plugin that hangs": lambda w: w.plugin("hang"),
    "a plugin that prints no JSON": lambda w: w.plugin("{"),
    "a plugin that prints another kind": lambda w: w.plugin('{"kind": "Pod", "apiVersion": "v1"}'),
    "a plugin that prints no apiVersion": lambda w: w.plugin(
        json.dumps({"kind": "ExecCredential", "status": {"token": "t"}})
    ),
    "a plugin that prints another version": lambda w: w.plugin(w.credential(V1BETA1, token="t")),
    "a plugin that prints no status": lambda w: w.plugin(json.dumps({"apiVersion": V1, "kind": "ExecCredential"})),
    "a plugin that prints an empty status": lambda w: w.plugin(w.credential()),
    "a plugin that prints a token that is a number": lambda w: w.plugin(w.credential(token=5)),
    "a plugin that prints a certificate without its key": lambda w: w.plugin(
        w.credential(clientCertificateData=w.certificate.decode())
    ),
    "a plugin that prints a certificate that is none": lambda w: w.plugin(
        w.credential(clientCertificateData="C", clientKeyData="K")
    ),
    "a plugin that prints a time without a zone": lambda w: w.plugin(
        w.credential(token="t", expirationTimestamp="2036-01-01T00:00:00")
    ),
}

FAILED: dict[str, Case] = {
    "an authority that has not signed": lambda w: w.one(cluster={"certificate-authority-data": w.certificate_data}),
    "no authority that the system knows": lambda w: w.one(cluster={"certificate-authority-data": None}),
    "a name that is not in the certificate": lambda w: w.one(cluster={"tls-server-name": "other.example.com"}),
    "nobody listens": lambda w: w.one(cluster={"server": "https://127.0.0.1:1"}),
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: NotingServer) -> World:
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, server)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotingServer]:
    with NotingServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.mark.parametrize("name", SENT)
def test_sent(world: World, name: str) -> None:
    """The same request."""
    SENT[name](world)
    theirs = world.kubectl()
    ours, error = world.ours()
    assert error is None
    assert ours == theirs
    assert len(ours.notes) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_refused(world: World, name: str) -> None:
    """Nothing is sent, the error is one of the configuration, and names no secret."""
    REFUSED[name](world)
    assert not world.kubectl().notes
    ours, error = world.ours()
    assert not ours.notes
    assert isinstance(error, ConfigurationError | NoCredentials)
    assert "s3cret" not in str(error)
    print("ours:", error)


@pytest.mark.parametrize("name", FAILED)
def test_failed(world: World, name: str) -> None:
    """The server is not talked to."""
    FAILED[name](world)
    assert not world.kubectl().notes
    ours, error = world.ours()
    assert not ours.notes
    assert isinstance(error, ConnectionFailed)
