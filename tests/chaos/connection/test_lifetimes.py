"""Renewals under load: a hundred certificates one after the other, and no call to the Director that fails."""

import time

import pytest

from e2e.mock_compass.examples import generate
from e2e.world import World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import events, issued

pytestmark = pytest.mark.slow

_CERTIFICATES = 100
_VALIDITY = 20  # seconds
_THRESHOLD = 0.9  # renewed after two seconds, with eighteen to spare on a machine that has other things to do
_LIMIT = 1200.0  # seconds; ten times what it takes


def test_a_hundred_certificates_in_turn_fail_no_call(
    world: World, agent: StartAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Director is asked without a pause while certificates come and go, and Applications change all the time."""
    for application in generate(50):
        world.compass.put_application(application)
    world.compass.settings.certificate_validity = _VALIDITY
    world.configure()
    agent(
        CONTROLLER_SYNC_PERIOD="20ms",
        MINIMAL_COMPASS_SYNC_TIME="10ms",
        CERT_VALIDITY_RENEWAL_THRESHOLD=str(_THRESHOLD),
    )
    world.wait_for_state("Synchronized")
    began = time.monotonic()
    calls = failed = changes = 0
    states: set[str] = set()
    while issued(world) <= _CERTIFICATES:
        assert time.monotonic() - began < _LIMIT
        changes += 1
        assigned = world.compass.state.applications_of(world.compass.runtime_id)
        changed = assigned[changes % len(assigned)]
        world.compass.state.change_application(changed["id"], {"description": f"change {changes}"})
        time.sleep(0.05)
        states.add(world.state())
        outcomes = [call.outcome for call in world.compass.requests.all() if call.target == "director"]
        world.compass.requests.clear()
        calls += len(outcomes)
        failed += sum(outcome != "ok" for outcome in outcomes)
    took = time.monotonic() - began
    world.wait_for(
        "the last change",
        lambda: f"change {changes}" in {a["spec"]["description"] for a in world.applications().values()},
    )
    written = events(world)
    assert written
    warnings = {event["reason"] for event in written if event["type"] == "Warning"}
    with capsys.disabled():
        print(
            f"\n{issued(world)} certificates in {took:.0f} s, {calls} calls to the Director of which {failed} failed, "
            f"{changes} changes of Applications; states {sorted(states)}; Warning Events: {sorted(warnings) or 'none'}"
        )
    assert failed == 0
    assert states == {"Synchronized"}
    assert not warnings
    assert calls > 3 * _CERTIFICATES
