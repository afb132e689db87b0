"""One mock Compass for the tests of a file, and clients of it."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from e2e.mock_compass import MockCompass
from tests.support.compass_client import Client


@pytest.fixture(scope="module")
def compass() -> Iterator[MockCompass]:
    with MockCompass() as running:
        yield running


@pytest.fixture(scope="module")
def unpaired(compass: MockCompass, tmp_path_factory: pytest.TempPathFactory) -> Client:
    directory = tmp_path_factory.mktemp("client")
    ca_file = directory / "ca.crt"
    ca_file.write_text(compass.ca_pem)
    return Client(compass, directory, ca_file, rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture(scope="module")
def paired(unpaired: Client) -> Client:
    return unpaired.pair()
