"""Tokens and certificates of files that change while the process runs."""

import logging
import os
import ssl
import tempfile
from pathlib import Path

import pytest
from kubernetes.client import Configuration

from e2e.pki import Authority, KeyPair
from informers import Client, ConfigurationError, Unauthorized
from informers.credentials import CERTIFICATE_PERIOD, Credentials, TokenFile
from informers.transport.tls import TLSMaterial, client_context
from tests.clock import VirtualClock
from tests.fake_api_server.server import Answer, FakeAPIServer


class TestTokenFile:
    """A token file is re-read each minute, with ten seconds of leeway."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "token"
        path.write_text("first\n")
        return path

    def test_is_read_again(self, path: Path) -> None:
        """After 50 seconds, not before."""
        clock = VirtualClock()
        token = TokenFile(path, clock)
        assert token.token() == "first"
        path.write_text("second")
        clock.advance(49)
        assert token.token() == "first"
        clock.advance(1)
        assert token.token() == "second"

    @pytest.mark.parametrize("content", ["", None], ids=["empty", "missing"])
    def test_is_kept_when_it_cannot_be_read(self, path: Path, content: str | None) -> None:
        """An unreadable file is no reason to give up a token that may be good."""
        clock = VirtualClock()
        token = TokenFile(path, clock)
        token.token()
        path.write_text(content) if content is not None else path.unlink()
        clock.advance(60)
        assert token.token() == "first"

    def test_refusal_drops_it(self, path: Path, server: FakeAPIServer) -> None:
        """After a 401 the file is read again, unless it was read after the refused request was sent."""
        clock = VirtualClock()
        token = TokenFile(path, clock)
        configuration = Configuration(host=server.url)
        client = Client(configuration, Credentials(configuration, token), clock=clock)
        server.inject("other", Answer(200, body=b"{}"), Answer(401, "Unauthorized"), Answer(200, body=b"{}"))
        client.request("GET", "/x")
        path.write_text("second")
        clock.advance(1)
        with pytest.raises(Unauthorized):
            client.request("GET", "/x")
        client.request("GET", "/x")
        sent = [request.headers["Authorization"] for request in server.requests]
        assert sent == ["Bearer first", "Bearer first", "Bearer second"]
        token.refused(sent_at=clock.monotonic())
        path.write_text("third")
        assert token.token() == "second"

    def test_none_to_use(self, path: Path) -> None:
        """Without any token the error names the file."""
        path.unlink()
        with pytest.raises(ConfigurationError, match=f"{path}: No such file"):
            TokenFile(path, VirtualClock()).token()

    def test_warns_once(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Not for each request, and again for the next failure."""
        clock = VirtualClock()
        token = TokenFile(path, clock)
        token.token()
        for content in (None, "second", None):
            path.write_text(content) if content is not None else path.unlink()
            for _ in range(3):
                clock.advance(60)
                token.token()
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


class Files:
    """Files of a client certificate, its key and the CA."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._authority = authority
        self.certificate, self.key, self.ca = (folder / name for name in ("client.crt", "client.key", "ca.crt"))
        self.write(self.pair("first"))
        self.ca.write_bytes(authority.certificate_pem)

    def pair(self, name: str) -> KeyPair:
        return self._authority.client(name, ())

    def write(self, pair: KeyPair) -> None:
        self.certificate.write_bytes(pair.certificate_pem)
        self.key.write_bytes(pair.key_pem)

    def credentials(self, clock: VirtualClock) -> Credentials:
        return Credentials(Configuration(), ca=self.ca, certificate=self.certificate, key=self.key, clock=clock)


class TestCertificateFiles:
    """They are looked at again while they are used, and a new content is a new TLSMaterial."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        return Files(tmp_path, Authority("own"))

    def test_are_looked_at_again(self, files: Files) -> None:
        """After a second, not before; the same object says that nothing has changed."""
        clock = VirtualClock()
        credentials = files.credentials(clock)
        first = credentials.tls()
        second = files.pair("second")
        files.write(second)
        assert credentials.tls() is first
        clock.advance(CERTIFICATE_PERIOD)
        changed = credentials.tls()
        assert changed.certificate == second.certificate_pem.rstrip() + b"\n" + second.key_pem
        clock.advance(CERTIFICATE_PERIOD)
        assert credentials.tls() is changed

    def test_are_looked_at_after_a_refusal(self, files: Files) -> None:
        """At once."""
        clock = VirtualClock()
        credentials = files.credentials(clock)
        first = credentials.tls()
        files.write(files.pair("second"))
        credentials.refused(sent_at=clock.monotonic())
        assert credentials.tls() is not first

    def test_symbolic_links(self, files: Files, tmp_path: Path) -> None:
        """The kubelet replaces the folder of a Secret behind them, perhaps by files of the same age and size."""
        for number, name in enumerate(("one", "two")):
            (tmp_path / name).mkdir()
            pair = files.pair(name)
            for path, content in ((files.certificate, pair.certificate_pem), (files.key, pair.key_pem)):
                (tmp_path / name / path.name).write_bytes(content)
                os.utime(tmp_path / name / path.name, (1, 1))
                if number == 0:
                    path.unlink()
                    path.symlink_to(Path("data", path.name))
        (tmp_path / "data").symlink_to("one")
        clock = VirtualClock()
        credentials = files.credentials(clock)
        first = credentials.tls()
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").rename(tmp_path / "data")
        clock.advance(CERTIFICATE_PERIOD)
        assert credentials.tls() is not first

    def test_ca(self, files: Files) -> None:
        """Is looked at too. Texts of people in it are left out."""
        clock = VirtualClock()
        credentials = files.credentials(clock)
        both = [Authority("next").certificate_pem, files.ca.read_bytes()]
        files.ca.write_bytes("# Autorit\u00e9\n".encode() + b"# and the old one\n".join(both))
        clock.advance(CERTIFICATE_PERIOD)
        material = credentials.tls()
        assert len(client_context(material).get_ca_certs()) == 2

    @pytest.mark.parametrize("step", ["the key is still the old one", "half a certificate", "an empty file", "no file"])
    def test_halves_change_nothing(self, files: Files, step: str, caplog: pytest.LogCaptureFixture) -> None:
        """The old pair is used until the new one is complete, and the log says so once."""
        clock = VirtualClock()
        credentials = files.credentials(clock)
        first = credentials.tls()
        pair = files.pair("second")
        match step:
            case "the key is still the old one":
                files.certificate.write_bytes(pair.certificate_pem)
            case "half a certificate":
                files.certificate.write_bytes(pair.certificate_pem[:200])
            case "an empty file":
                files.ca.write_bytes(b"")
            case "no file":
                files.key.unlink()
        for _ in range(3):
            clock.advance(CERTIFICATE_PERIOD)
            assert credentials.tls() is first
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "keeping the old content" in record.message
        assert "BEGIN" not in caplog.text
        files.write(pair)
        files.ca.write_bytes(Authority("next").certificate_pem)
        clock.advance(CERTIFICATE_PERIOD)
        assert credentials.tls() is not first

    def test_nothing_usable_at_the_start(self, files: Files) -> None:
        files.write(KeyPair(files.pair("a").certificate_pem, files.pair("b").key_pem))
        with pytest.raises(ConfigurationError, match="the private key does not belong to the client certificate"):
            files.credentials(VirtualClock())


class TestMaterial:
    """PEM in memory becomes a TLS context without a file."""

    def test_no_file_is_needed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No temporary folder either, as in a container with a read-only root."""
        pair = Authority("own").client("jane", ())
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        context = client_context(TLSMaterial(certificate=pair.certificate_pem + pair.key_pem))
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname

    def test_repr_has_no_key(self) -> None:
        pair = Authority("own").client("jane", ())
        assert "PRIVATE" not in repr(TLSMaterial(certificate=pair.certificate_pem + pair.key_pem))

    def test_encrypted_key(self) -> None:
        """Is refused; OpenSSL would ask the terminal for its password."""
        from cryptography.hazmat.primitives import serialization

        pair = Authority("own").client("jane", ())
        key = serialization.load_pem_private_key(pair.key_pem, None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cret"),
        )
        with pytest.raises(ValueError, match="not readable, unencrypted PEM"):
            client_context(TLSMaterial(certificate=pair.certificate_pem + key))

    @pytest.mark.parametrize("ca", [b"", b"no PEM", "\u00e4".encode()])
    def test_ca_that_is_none(self, ca: bytes) -> None:
        with pytest.raises(ValueError, match="no certificate in PEM format"):
            client_context(TLSMaterial(ca=ca))
