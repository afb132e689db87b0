"""Whatever Connector and Director answer: no crash, no secret told, no wrong state; and the truth mends it all."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.compass.http import HttpAnswer
from controller.connection.credentials import CredentialsError
from tests.support.compass_border import RUNTIME, DirectorBorder, truthful
from tests.support.connection_bench import Bench
from tests.support.fuzzing import PLACES, any_json, log, planted, quickly
from tests.support.sync import Agent, Cluster

SECRET = "a-secret-that-Compass-knows"
"""Stands for each secret that was sent: the answer holds the true one in its place."""

PASSWORDS = ("generated-oauth-0", "generated-oauth-2")

STATUSES = st.sampled_from([200, 200, 200, 204, 302, 400, 401, 403, 404, 429, 500, 503])
TEXTS = st.text(max_size=12) | st.sampled_from(
    [SECRET, f"bad token {SECRET}", "insufficient scopes provided", "x" * 5000]
)
KEYS = st.sampled_from(["data", "errors", "message", "configuration", "token", "result", "extensions", "error_code"])
VALUES = any_json(TEXTS, KEYS)
BODIES = st.binary(max_size=64) | VALUES.map(lambda value: json.dumps(value).encode())


def secrets_of(bench: Bench) -> set[str]:
    """Collects every token that is issued from now on."""
    tokens: set[str] = set()
    issue = bench.connector.state.issue_token_for_client

    def noted(client_id: str, *, lifetime: float) -> str:
        token = issue(client_id, lifetime=lifetime)
        tokens.add(token)
        return token

    bench.connector.state.issue_token_for_client = noted  # type: ignore[assignment, method-assign]
    return tokens


def assert_nothing_leaks(bench: Bench, text: str, tokens: set[str]) -> None:
    told = text + str(bench.connection.get("status")) + str(bench.recorder.events)
    assert not any(token in told for token in tokens)
    assert "PRIVATE KEY" not in told


Answering = Callable[[Bench, set[str]], None]


@st.composite
def answers(draw: st.DrawFn) -> Answering:
    """Replaces the answers of one operation or all, wholly or in one place of the true one."""
    operation = draw(st.sampled_from(["configuration", "signCertificateSigningRequest", ""]))
    status, body = draw(STATUSES), draw(BODIES)
    way, value = draw(PLACES), draw(VALUES)
    whole = draw(st.booleans())

    def install(bench: Bench, tokens: set[str]) -> None:
        true = bench.connector.answer

        def answer(request: bytes, headers: Any, credentials: Any) -> HttpAnswer:
            given = true(request, headers, credentials)
            if operation not in ("", bench.connector.calls[-1]):
                return given
            if whole or given.status != 200:
                fake = HttpAnswer(status, body, "")
            else:
                fake = HttpAnswer(200, json.dumps(planted(json.loads(given.body), way, value)).encode(), "")
            echoed = max(tokens, key=lambda token: token in headers.values(), default="")
            return HttpAnswer(fake.status, fake.body.replace(SECRET.encode(), echoed.encode()), fake.retry_after)

        bench.connector.answer = answer  # type: ignore[assignment, method-assign]

    return install


@quickly
@given(install=answers())
def test_any_answer_while_pairing(install: Answering) -> None:
    """Connected only with credentials that can be used, else ConnectionFailed with an error; then a new token works."""
    bench = Bench()
    tokens = secrets_of(bench)
    bench.configure()
    true = bench.connector.answer
    install(bench, tokens)
    with log() as text:
        bench.run(20)
    assert bench.state in ("Connected", "ConnectionFailed", "ConnectionMaintenanceFailed")
    if bench.state == "ConnectionFailed":
        assert bench.error
        with pytest.raises(CredentialsError):
            bench.credentials.load()
    else:
        assert bench.credentials.load().registration is not None
    assert_nothing_leaks(bench, text.getvalue(), tokens)

    bench.connector.answer = true  # type: ignore[method-assign]
    bench.configure()
    bench.run(400)
    assert bench.state == "Connected", bench.error


@quickly
@given(install=answers())
def test_any_answer_while_connected(install: Answering) -> None:
    """The credentials work throughout; the state is one of a connection that is kept; the truth ends all trouble."""
    bench = Bench()
    tokens = secrets_of(bench)
    bench.paired()
    true = bench.connector.answer
    install(bench, tokens)
    bench.refresh()
    with log() as text:
        bench.run(20)
        assert bench.credentials.load().registration is not None
    assert bench.state in ("Connected", "ConnectionMaintenanceFailed")
    assert bool(bench.error) == (bench.state == "ConnectionMaintenanceFailed")
    assert_nothing_leaks(bench, text.getvalue(), tokens)

    bench.connector.answer = true  # type: ignore[method-assign]
    bench.run(600)
    bench.assert_connected()
    assert "refreshCredentialsNow" not in bench.connection["spec"]


def _synchronized() -> tuple[Agent, DirectorBorder]:
    director = DirectorBorder(3)
    agent = Agent(Cluster(), director.client())  # type: ignore[arg-type]
    agent.credentials.registration = replace(agent.credentials.registration, runtime_id=RUNTIME)
    agent.settle()
    assert agent.state == "Synchronized"
    return agent, director


@quickly
@given(status=STATUSES, body=BODIES)
def test_any_answer_of_the_director_that_is_none(status: int, body: bytes) -> None:
    """Nothing in the cluster changes, the failure is told, and it ends with the next true answer."""
    agent, director = _synchronized()
    applications, secrets = agent.cluster.applications(), agent.cluster.secrets()
    director.intervene = lambda _: HttpAnswer(status, body, "")
    with log() as text:
        agent.cycle(60)
    assert agent.state in ("SynchronizationFailed", "ConnectionMaintenanceFailed")
    assert agent.sync_error
    assert (agent.cluster.applications(), agent.cluster.secrets()) == (applications, secrets)
    assert not any(password in text.getvalue() + str(agent.status) for password in PASSWORDS)
    director.intervene = truthful
    agent.cycle(60)
    assert agent.sync_error == ""
    assert (agent.cluster.applications(), agent.cluster.secrets()) == (applications, secrets)


@quickly
@given(way=PLACES, value=VALUES)
@example(way=[], value=-(2**63) - 1)
@example(way=[1, 1, 0, 1], value=2**64)
def test_any_value_in_any_place_of_what_the_director_says(way: list[int], value: Any) -> None:
    """No crash, no password told, one of the states that the place allows; the true answer restores everything."""
    agent, director = _synchronized()
    before = {name: obj["spec"] for name, obj in agent.cluster.applications().items()}

    def answer(document: dict[str, Any]) -> HttpAnswer:
        # orjson knows no integers beyond 64 bits, which others may send.
        return HttpAnswer(200, json.dumps({"data": planted(document["data"], way, value)}).encode(), "")

    director.intervene = answer
    with log() as text:
        agent.cycle(60)
    assert agent.state in ("Synchronized", "ResourceApplicationFailed", "SynchronizationFailed", "MetadataUpdateFailed")
    assert bool(agent.sync_error) == (agent.state != "Synchronized")
    if agent.state == "SynchronizationFailed":
        assert {name: obj["spec"] for name, obj in agent.cluster.applications().items()} == before
    assert not any(password in text.getvalue() + str(agent.status) for password in PASSWORDS)
    director.intervene = truthful
    for _ in range(3):
        agent.cycle(60)
    assert agent.state == "Synchronized"
    assert {name: obj["spec"] for name, obj in agent.cluster.applications().items()} == before
