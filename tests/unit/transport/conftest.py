import contextlib
import ssl
from collections.abc import Callable, Iterator

import pytest

from informers.transport import Pool, TLSMaterial
from informers.transport.tls import client_context
from tests.unit.compass.https_server import Authority, pem, server_context
from tests.unit.transport.peer import Behaviour, Peer

Start = Callable[..., Peer]


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("Test CA")


@pytest.fixture(scope="session")
def serving(authority: Authority) -> ssl.SSLContext:
    """That of servers whose certificate is for localhost."""
    return server_context(authority)


@pytest.fixture(scope="session")
def trusting(authority: Authority) -> ssl.SSLContext:
    """That of clients which trust them."""
    return client_context(TLSMaterial(ca=pem(authority.certificate)))


@pytest.fixture
def pool(trusting: ssl.SSLContext) -> Iterator[Pool]:
    with contextlib.closing(Pool(trusting)) as pool:
        yield pool


@pytest.fixture
def start(serving: ssl.SSLContext) -> Iterator[Start]:
    """Starts a Peer, with TLS on request."""
    peers: list[Peer] = []

    def begin(behaviour: Behaviour, *, tls: bool = False) -> Peer:
        peers.append(Peer(behaviour, serving if tls else None))
        return peers[-1]

    yield begin
    for peer in peers:
        peer.close()
