"""Order is no change: what is stored does not depend on the order of the applications, or of what was stored before.

The order inside an application is that of the ids: a fetch sorts it (tests/unit/compass/test_known_applications.py).
"""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.applications.conversion import ConversionSettings, merge_application
from controller.applications.desired import DesiredSet, desired_set
from controller.compass.types import (
    ApiDefinition,
    Application,
    Assignment,
    Auth,
    Credential,
    EventDefinition,
    IncompleteApplication,
)
from tests.support.assigned import basic, bundle, listed

SETTINGS = ConversionSettings(gateway_url="http://gateway")
LONG = "a" * 30  # two Applications whose names begin like this share the names of their Secrets

IDS = st.sampled_from("abcdef")
NAMES = st.sampled_from(["shop", "Shop", "mp-shop", LONG + "-1", LONG + "-2", "b", "c d", ""])
AUTHS = st.sampled_from(
    [None, basic(), basic(password=""), Auth(Credential("CertificateOAuth")), Auth(additionalHeaders={"x": ["1"]})]
)


def several(value: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(value, max_size=4, unique_by=lambda item: item.id).map(tuple)


APIS = several(st.builds(ApiDefinition, IDS, NAMES, st.just("https://t")))
EVENTS = several(st.builds(EventDefinition, IDS, NAMES))
BUNDLES = st.builds(bundle, IDS, NAMES, AUTHS, apis=APIS, events=EVENTS)
APPLICATIONS = several(
    st.builds(Application, id=IDS, name=NAMES, bundles=several(BUNDLES).map(lambda bundles: listed(*bundles)))
    | st.builds(IncompleteApplication, IDS, NAMES, st.just("boom"))
)


def desire(applications: tuple[Any, ...], previous: DesiredSet | None = None) -> DesiredSet:
    complete = tuple(item for item in applications if isinstance(item, Application))
    incomplete = tuple(item for item in applications if isinstance(item, IncompleteApplication))
    return desired_set(Assignment(complete, incomplete, {}), SETTINGS, previous=previous)


@given(APPLICATIONS.flatmap(lambda some: st.tuples(st.just(some), st.permutations(some).map(tuple))))
def test_any_order_of_the_applications_gives_the_same_desired_set(
    orders: tuple[tuple[Any, ...], tuple[Any, ...]],
) -> None:
    """Secrets, warnings and problems; and nothing is converted again."""
    first, second = map(desire, orders)
    assert first == second
    again = desire(orders[1], previous=first)
    assert all(again.by_name[name] is desired for name, desired in first.by_name.items())


def reversed_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_lists(inner) for key, inner in value.items()}
    return [reversed_lists(inner) for inner in reversed(value)] if isinstance(value, list) else value


@given(APPLICATIONS)
def test_an_object_stored_in_another_order_is_rewritten_once(applications: tuple[Any, ...]) -> None:
    """As an earlier agent has stored it; after that it is right, whatever order the Director sends."""
    for desired in desire(applications).by_name.values():
        stored = reversed_lists(copy.deepcopy(merge_application(None, desired)))
        merged = merge_application(stored, desired)
        assert merge_application(merged or stored, desired) is None
