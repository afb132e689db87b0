"""Renewals under load: a hundred certificate lifetimes, and no call to the Director that fails."""

import time

import pytest

from e2e.mock_compass.examples import generate
from e2e.world import World
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import issued

pytestmark = pytest.mark.slow

_LIFETIMES = 100
_VALIDITY = 3  # seconds; certificates tell whole ones only, so half of it is left when one is renewed


def test_a_hundred_lifetimes_of_renewals_fail_no_call(
    world: World, agent: StartAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Director is asked without a pause while certificates come and go, and Applications change all the time."""
    applications = list(generate(50))
    for application in applications:
        world.compass.put_application(application)
    world.compass.settings.certificate_validity = _VALIDITY
    world.configure()
    agent(
        CONTROLLER_SYNC_PERIOD="20ms",
        MINIMAL_COMPASS_SYNC_TIME="10ms",
        CERT_VALIDITY_RENEWAL_THRESHOLD="0.6",
    )
    world.wait_for_state("Synchronized")
    end = time.monotonic() + _LIFETIMES * _VALIDITY
    failed, directors, number = [], 0, 0
    while time.monotonic() < end:
        number += 1
        assigned = world.compass.state.applications_of(world.compass.runtime_id)
        changed = assigned[number % len(assigned)]
        world.compass.state.change_application(changed["id"], {"description": f"change {number}"})
        time.sleep(0.1)
        calls = world.compass.requests.all()
        world.compass.requests.clear()
        directors += sum(call.target == "director" for call in calls)
        failed += [call for call in calls if call.target == "director" and call.outcome != "ok"]
    world.wait_for(
        "the last change",
        lambda: f"change {number}" in {a["spec"]["description"] for a in world.applications().values()},
    )
    world.wait_for_state("Synchronized")
    warnings = {event["reason"] for event in world.events() if event["type"] == "Warning"}
    with capsys.disabled():
        print(
            f"\n{_LIFETIMES} lifetimes of {_VALIDITY} s, {issued(world) - 1} renewals, {directors} Director calls, "
            f"{len(failed)} of them failed; {number} changes; Warning Events: {', '.join(warnings) or 'none'}"
        )
    assert not failed
    assert "SynchronizationFailed" not in warnings
    assert directors > 1000
    assert issued(world) > _LIFETIMES
