import pytest

from tests.support.connection_bench import Bench


# They differ in where the status is stored, which tests/unit/controller/test_stores.py holds, and in `make test` the
# integration tests.
@pytest.fixture(
    params=[
        pytest.param(True, id="own CRD"),
        pytest.param(False, id="CRD of the Go agent", marks=pytest.mark.slow),
    ]
)
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(subresource=request.param)
