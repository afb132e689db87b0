"""Credentials from a program, the `exec` of a kubeconfig (client-go plugin/pkg/client/auth/exec)."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from informers.credentials import Authorizer, cause_of, pair
from informers.encoding import decode
from informers.errors import ConfigurationError
from workqueue.clock import Clock

log = logging.getLogger(__name__)

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

# A program that has not finished after this number of seconds is ended. That is longer than the timeout of most
# requests: the program goes on when the request that started it has ended, and a later request gets its result.
PROGRAM_TIMEOUT = 60.0
# The stop is looked at with this period while the program runs, which is seldom.
_POLL = 0.05
_MAX_FOREIGN_TEXT = 200


class _Failed(Exception):
    """The text is for people and repeats nothing of the program's answer."""


@dataclass(frozen=True, slots=True)
class _Credentials:
    """certificate: PEM with its key. expires: seconds since 1970, None for never. obtained_at: monotonic seconds."""

    token: str | None
    certificate: bytes | None
    expires: float | None
    obtained_at: float


@dataclass(frozen=True, slots=True)
class _Program:
    process: subprocess.Popen[bytes]
    started_at: float  # monotonic seconds
    own_group: bool


class ExecPlugin(Authorizer):
    """Runs the program if there are no credentials yet, if they have expired, or if the server has refused them.

    Thread-safe. The program runs once for all threads that wait for it.
    """

    def __init__(
        self,
        command: str,
        arguments: Sequence[str] = (),
        *,
        api_version: str,
        clock: Clock,
        environment: Mapping[str, str] | None = None,
        interactive: bool = False,
        cluster: Mapping[str, Any] | None = None,
        install_hint: str = "",
    ) -> None:
        """command: a path, or a name that is searched in $PATH. interactive: it may use standard input. cluster: its
        data about the cluster, None for none.
        """
        self._command = command
        self._arguments = arguments
        self._api_version = api_version
        self._clock = clock
        self._environment = dict(environment or {})
        self._interactive = interactive
        self._cluster = cluster
        self._install_hint = install_hint
        self._running = threading.Lock()  # held by the thread that waits for the program
        self._program: _Program | None = None  # started and not finished; guarded by _running
        self._lock = threading.Lock()  # never held for long
        self._known: _Credentials | None = None  # guarded by _lock
        self._closed = threading.Event()

    def authorization(self, *, timeout: float, stop: threading.Event | None) -> str | None:
        """Raises ConfigurationError if the program fails, or has not finished within `timeout` seconds or until `stop`
        is set. The stop ends the program.
        """
        token = self._credentials(timeout, stop).token
        return None if token is None else f"Bearer {token}"

    def certificate(self) -> bytes | None:
        with self._lock:
            return None if self._known is None else self._known.certificate

    def refused(self, *, sent_at: float) -> None:
        with self._lock:
            if self._known is not None and self._known.obtained_at < sent_at:
                self._known = None

    def close(self) -> None:
        self._closed.set()
        # Whoever waits for the program ends it within _POLL seconds and lets go.
        with self._running:
            self._end_program()

    def _credentials(self, timeout: float, stop: threading.Event | None) -> _Credentials:
        deadline = self._clock.monotonic() + timeout
        if known := self._usable():
            return known
        while not self._running.acquire(timeout=_POLL):
            self._check(deadline, stop)
        try:
            # Another thread may have obtained them.
            if known := self._usable():
                return known
            self._check(deadline, stop)
            try:
                credentials = self._obtained(deadline, stop)
            except (_Failed, OSError, ValueError) as error:
                raise ConfigurationError(f"the credential plugin {self._command} failed: {cause_of(error)}") from None
            with self._lock:
                self._known = credentials
            log.info("Credential plugin returned credentials", extra={"command": self._command})
            return credentials
        finally:
            self._running.release()

    def _usable(self) -> _Credentials | None:
        with self._lock:
            known = self._known
        return known if known and (known.expires is None or self._clock.time() < known.expires) else None

    def _check(self, deadline: float, stop: threading.Event | None) -> None:
        """Raises ConfigurationError if there is no time left to wait for the program."""
        if self._closed.is_set() or (stop is not None and stop.is_set()):
            raise ConfigurationError(
                f"the credential plugin {self._command} was ended, because the request was stopped"
            )
        if self._clock.monotonic() >= deadline:
            raise ConfigurationError(
                f"the credential plugin {self._command} has not finished in the time of the request. It is ended after "
                f"{PROGRAM_TIMEOUT:g} s. Run it in a terminal to see what it waits for"
            )

    def _obtained(self, deadline: float, stop: threading.Event | None) -> _Credentials:
        """Start the program, unless an earlier request has, and wait for its answer."""
        program = self._program = self._program or self._started()
        while True:
            try:
                answer, complaint = program.process.communicate(timeout=_POLL)
                break
            except subprocess.TimeoutExpired:
                pass
            if self._clock.monotonic() >= program.started_at + PROGRAM_TIMEOUT:
                self._end_program()
                raise _Failed(f"it did not finish within {PROGRAM_TIMEOUT:g} s and was ended")
            if self._closed.is_set() or (stop is not None and stop.is_set()):
                self._end_program()
            self._check(deadline, stop)
        self._program = None
        if program.process.returncode != 0:
            raise _Failed(f"its exit status is {program.process.returncode}{_last_words(complaint)}")
        return self._parsed(answer, program.started_at)

    def _started(self) -> _Program:
        path = shutil.which(self._command)
        if path is None:
            raise _Failed(f"it is not installed{f': {self._install_hint}' if self._install_hint else ''}")
        spec: dict[str, Any] = {"interactive": self._interactive}
        if self._cluster is not None:
            spec["cluster"] = self._cluster
        info = {"kind": "ExecCredential", "apiVersion": self._api_version, "spec": spec}
        process = subprocess.Popen(  # noqa: S603 - the kubeconfig names it, as for kubectl
            [self._command, *self._arguments],
            executable=path,
            env=os.environ | self._environment | {"KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=None if self._interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if self._interactive else subprocess.PIPE,
            # Its own process group, so that its children end with it. That of the terminal if it reads from there.
            process_group=None if self._interactive else 0,
        )
        return _Program(process, self._clock.monotonic(), own_group=not self._interactive)

    def _end_program(self) -> None:
        program, self._program = self._program, None
        if program is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if program.own_group:
                os.killpg(program.process.pid, signal.SIGKILL)
            else:
                program.process.kill()
        program.process.wait()
        for pipe in (program.process.stdout, program.process.stderr):
            if pipe is not None:
                pipe.close()
        log.warning("Credential plugin was ended before it finished", extra={"command": self._command})

    def _parsed(self, answer: bytes, obtained_at: float) -> _Credentials:
        try:
            credential = decode(answer)
        except ValueError:
            raise _Failed("its answer is not JSON") from None
        if not isinstance(credential, dict) or credential.get("kind") not in (None, "", "ExecCredential"):
            raise _Failed("its answer is not an ExecCredential")
        if credential.get("apiVersion") != self._api_version:
            raise _Failed(f"its answer is not of the apiVersion {self._api_version}, which the kubeconfig names")
        status = credential.get("status")
        if not isinstance(status, dict):
            raise _Failed("its answer has no status")
        texts = {}
        for name in ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp"):
            texts[name] = status.get(name) or ""
            if not isinstance(texts[name], str):
                raise _Failed(f"the {name} of its answer is no text")
        token, certificate, key = texts["token"], texts["clientCertificateData"], texts["clientKeyData"]
        if not (token or certificate or key):
            raise _Failed("it printed neither a token nor a client certificate")
        if bool(certificate) != bool(key):
            raise _Failed("it printed a client certificate without its key, or a key without its certificate")
        if not (token.isascii() and token.isprintable()):
            raise _Failed("its token is not one line of printable characters")
        try:
            pem = pair(certificate.encode(), key.encode()) if certificate else None
        except ValueError as error:
            raise _Failed(str(error)) from None
        return _Credentials(token or None, pem, _seconds(texts["expirationTimestamp"]), obtained_at)


def is_interactive(mode: str) -> bool:
    """Whether a plugin with this interactiveMode gets standard input. Raises ConfigurationError without a terminal that
    it needs.
    """
    terminal = sys.stdin is not None and sys.stdin.isatty()
    if mode == "Always" and not terminal:
        raise ConfigurationError("the credential plugin needs a terminal (interactiveMode: Always), and there is none")
    return mode != "Never" and terminal


def _seconds(timestamp: str) -> float | None:
    if not timestamp:
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _Failed("its expirationTimestamp is not a time with a zone, such as 2026-01-01T00:00:00Z")
    return moment.timestamp()


def _last_words(complaint: bytes | None) -> str:
    """The end of what the program wrote to standard error, on one short line."""
    text = (complaint or b"").decode(errors="replace").strip()
    shown = "".join(c if c.isprintable() else " " for c in text)[-_MAX_FOREIGN_TEXT:]
    return f": {shown}" if shown else ""
