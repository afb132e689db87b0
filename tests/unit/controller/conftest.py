import pytest

from tests.support.connection_bench import Bench


@pytest.fixture(params=[True, False], ids=["own CRD", "CRD of the Go agent"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(subresource=request.param)
