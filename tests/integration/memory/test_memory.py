"""The memory of a process that reads from a Director is bounded for any answer. Measured as a process of its own."""

import ssl
from pathlib import Path

import pytest

from controller.compass.limits import Limits
from tests.support.large_answers import (
    MIB,
    LargeDirector,
    Tenant,
    WithSurprise,
    application,
    fetched,
    hostile,
    large_application,
    one_answer,
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


#: These take minutes, and are for `make chaos`. The benchmark has the whole table.
slow = pytest.mark.slow


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("size", [10, pytest.param(50, marks=slow), 500])
def test_one_answer_of_any_size(context: ssl.SSLContext, ca_file: Path, size: int, compressed: bool) -> None:
    """It is not read to its end; the error says so."""
    with LargeDirector(context, one_answer(size * MIB), compressed=compressed) as director:
        report = fetched(director.url, ca_file)
    assert report["error"] == f"TooLarge: {TOO_LARGE}"
    assert report["peak"] < 128


@pytest.mark.parametrize(
    ("size", "compressed"),
    [
        pytest.param(10, False, id="10-plain", marks=slow),
        pytest.param(50, True, id="50-gzip"),
        pytest.param(500, False, id="500-plain", marks=slow),
    ],
)
def test_a_runtime_with_applications_of_any_size(
    context: ssl.SSLContext, ca_file: Path, size: int, compressed: bool
) -> None:
    """Those of 10 MiB are read; of more, the error says which bound it was and how to raise it."""
    tenant = Tenant.of_size(size * MIB, large_application)
    with LargeDirector(context, tenant, compressed=compressed) as director:
        report = fetched(director.url, ca_file)
    if size == 10:
        assert (report["applied"], report["problems"]) == (tenant.count, [])
    else:
        assert report["error"] == f"TooLarge: the Applications of Compass take more than 312 MiB; {RAISE_BOTH}"
    assert report["peak"] < MOST


def huge(number: int) -> dict[str, object]:
    return application(number, text=2 * MIB if number == 3 else 60)


def test_one_application_that_is_too_large_leaves_the_others(context: ssl.SSLContext, ca_file: Path) -> None:
    """It is named; all others are applied."""
    with LargeDirector(context, Tenant(600, huge)) as director:
        report = fetched(director.url, ca_file)
    assert report["applied"] == 599
    assert report["problems"] == [f"the Director did not return it completely: too large: {TOO_LARGE}"]
    assert report["peak"] < MOST


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
        report = fetched(director.url, ca_file, memory_limit=256 * MIB)
    if field == b"auths":
        assert report["error"].startswith("TooLarge: the Applications of Compass take more than"), report
    else:
        assert report.get("applied") in (tenant.count, tenant.count - 1), report
    assert report["peak"] < 256


@slow
def test_as_many_applications_as_may_be(context: ssl.SSLContext, ca_file: Path) -> None:
    """With the bounds as they are by default, and the worst answer at the end."""
    limits = Limits()
    body = hostile("different keys", limits.answer_bytes * 98 // 100)
    with LargeDirector(context, WithSurprise(Tenant(11_000), body)) as director:
        report = fetched(director.url, ca_file)
    assert report.get("applied") == 11_000, report
    assert report["peak"] < MOST
