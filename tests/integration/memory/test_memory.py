"""Whatever a Director answers, the process that reads it stays within its memory. Measured as a process of its own."""

import ssl
from pathlib import Path

import pytest

from controller.compass.limits import Limits
from tests.support.large_answers import (
    MIB,
    Answering,
    LargeDirector,
    Tenant,
    WithSurprise,
    application,
    dumps,
    fetched,
    hostile,
    repeated,
)
from tests.unit.compass.https_server import Authority, pem, server_context

#: What the process may take, whatever the container allows.
MOST = 512

TOO_LARGE = "the answer is larger than 6 MiB"
RAISE_BOTH = "raise APP_MAX_APPLICATIONS and the container's memory limit"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Test CA")


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return server_context(authority)


@pytest.fixture(scope="module")
def ca_file(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(pem(authority.certificate))
    return path


def one_answer(size: int) -> Answering:
    """A valid answer of applications, as large as that whatever is asked."""
    before = b'{"data":{"runtime":{"labels":{}},"applicationsForRuntime":{"totalCount":1,"data":['
    return repeated(size, dumps(application(1)) + b",", before, b"{}]}}}")


def large_application(number: int) -> dict[str, object]:
    return application(number, bundles=10, apis=10, events=10, text=500)


#: The rest of a table takes minutes, and is for `make chaos` and the benchmark.
slow = pytest.mark.slow

SIZES = (10, pytest.param(50, marks=slow), pytest.param(200, marks=slow), 500)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("size", SIZES)
def test_one_answer_of_any_size(context: ssl.SSLContext, ca_file: Path, size: int, compressed: bool) -> None:
    """It is not read to its end; the error says so."""
    with LargeDirector(context, one_answer(size * MIB), compressed=compressed) as director:
        told = fetched(director.url, ca_file)
    assert told["error"] == f"TooLarge: {TOO_LARGE}"
    assert told["peak"] < 128


@pytest.mark.parametrize(
    ("size", "compressed"),
    [
        pytest.param(10, False, id="10-plain", marks=slow),
        pytest.param(10, True, id="10-gzip", marks=slow),
        pytest.param(50, False, id="50-plain", marks=slow),
        pytest.param(50, True, id="50-gzip"),
        pytest.param(200, False, id="200-plain", marks=slow),
        pytest.param(200, True, id="200-gzip", marks=slow),
        pytest.param(500, False, id="500-plain", marks=slow),
        pytest.param(500, True, id="500-gzip", marks=slow),
    ],
)
def test_a_runtime_with_applications_of_any_size(
    context: ssl.SSLContext, ca_file: Path, size: int, compressed: bool
) -> None:
    """Those of 10 MiB are read; of more, the error says which bound it was and how to raise it."""
    tenant = Tenant.of_size(size * MIB, large_application)
    with LargeDirector(context, tenant, compressed=compressed) as director:
        told = fetched(director.url, ca_file)
    if size == 10:
        assert (told["applied"], told["problems"]) == (tenant.count, [])
    else:
        assert told["error"] == f"TooLarge: the Applications of Compass take more than 312 MiB; {RAISE_BOTH}"
    assert told["peak"] < MOST


def huge(number: int) -> dict[str, object]:
    return application(number, text=2 * MIB if number == 3 else 60)


def test_one_application_that_is_too_large_leaves_the_others(context: ssl.SSLContext, ca_file: Path) -> None:
    """It is named; all others are applied."""
    with LargeDirector(context, Tenant(600, huge)) as director:
        told = fetched(director.url, ca_file)
    assert told["applied"] == 599
    assert told["problems"] == [f"the Director did not return it completely: too large: {TOO_LARGE}"]
    assert told["peak"] < MOST


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        pytest.param("different keys", b"surprise", marks=slow),
        ("client ids", b"auths"),
        pytest.param("different keys", b"labels", marks=slow),
        pytest.param("nested lists", b"surprise", marks=slow),
        pytest.param("objects of one", b"surprise", marks=slow),
    ],
)
def test_json_that_takes_much_to_decode(context: ssl.SSLContext, ca_file: Path, kind: str, field: bytes) -> None:
    """As much of it as one answer may be, while the Applications take nearly all that they may: with 256 MiB."""
    limits = Limits(memory_limit=256 * MIB)
    body = hostile(kind, limits.answer_bytes * 98 // 100)
    tenant = Tenant(4500)
    with LargeDirector(context, WithSurprise(tenant, body, field)) as director:
        told = fetched(director.url, ca_file, memory_limit=256 * MIB)
    if field == b"auths":
        assert told["error"].startswith("TooLarge: the Applications of Compass take more than"), told
    else:
        assert told.get("applied") in (tenant.count, tenant.count - 1), told
    assert told["peak"] < 256


@slow
def test_as_many_applications_as_may_be(context: ssl.SSLContext, ca_file: Path) -> None:
    """With the bounds as they are by default, and the worst answer at the end."""
    limits = Limits()
    body = hostile("different keys", limits.answer_bytes * 98 // 100)
    with LargeDirector(context, WithSurprise(Tenant(11_000), body)) as director:
        told = fetched(director.url, ca_file)
    assert told.get("applied") == 11_000, told
    assert told["peak"] < MOST
