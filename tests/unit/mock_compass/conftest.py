"""A mock Compass per test, and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from e2e.mock_compass import MockCompass
from tests.support.compass_client import Client, Clock


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making an RSA authority takes longer than most tests, so all of them share one."""
    return tmp_path_factory.mktemp("authorities")


@pytest.fixture
def compass(clock: Clock, authorities: Path) -> Iterator[MockCompass]:
    with MockCompass(clock=clock, state_directory=authorities) as running:
        yield running


@pytest.fixture
def client(compass: MockCompass, tmp_path: Path, key: rsa.RSAPrivateKey) -> Client:
    """Not paired yet."""
    ca_file = tmp_path / "ca.crt"
    ca_file.write_text(compass.ca_pem)
    return Client(compass, tmp_path, ca_file, key)


@pytest.fixture
def paired(client: Client) -> Client:
    return client.pair()
