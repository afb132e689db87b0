"""Order is no change: what is stored does not depend on the order in which the Director sends things."""

import copy
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.applications.conversion import ConversionSettings, merge_application
from controller.applications.desired import DesiredSet, desired_set
from controller.compass.types import (
    ApiDefinition,
    Application,
    Assignment,
    BasicCredentials,
    Bundle,
    EventDefinition,
    IncompleteApplication,
    UnsupportedCredentials,
)

SETTINGS = ConversionSettings(gateway_url="http://gateway")
LONG = "a" * 30  # two Applications whose names begin like this share the names of their Secrets

IDS = st.sampled_from("abcdef")
NAMES = st.sampled_from(["shop", "Shop", "mp-shop", LONG + "-1", LONG + "-2", "b", "c d", ""])
CREDENTIALS = st.sampled_from(
    [None, BasicCredentials("u", "p"), BasicCredentials("u", ""), UnsupportedCredentials("CertificateOAuth")]
)


def several(value: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(value, max_size=4, unique_by=lambda item: item.id).map(tuple)


APIS = several(st.builds(ApiDefinition, IDS, NAMES, st.just("https://t")))
EVENTS = several(st.builds(EventDefinition, IDS, NAMES))
HEADERS = st.sampled_from([None, {"x": ["1"]}])
BUNDLES = st.builds(Bundle, id=IDS, name=NAMES, apis=APIS, events=EVENTS, credentials=CREDENTIALS, headers=HEADERS)
APPLICATIONS = several(
    st.builds(Application, id=IDS, name=NAMES, auth_ids=st.lists(IDS).map(tuple), bundles=several(BUNDLES))
    | st.builds(IncompleteApplication, IDS, NAMES, st.just("boom"))
)


def shuffled(value: Any, draw: st.DrawFn) -> Any:
    """The same value, built from its parts in another order at every level."""
    if isinstance(value, Application):
        bundles = [shuffled(bundle, draw) for bundle in value.bundles]
        return replace(value, auth_ids=order(value.auth_ids, draw), bundles=order(bundles, draw))
    if isinstance(value, Bundle):
        return replace(value, apis=order(value.apis, draw), events=order(value.events, draw))
    return value


def order(items: Any, draw: st.DrawFn) -> tuple[Any, ...]:
    return tuple(draw(st.permutations(items)))


def desire(applications: tuple[Any, ...], previous: DesiredSet | None = None) -> DesiredSet:
    complete = tuple(item for item in applications if isinstance(item, Application))
    incomplete = tuple(item for item in applications if isinstance(item, IncompleteApplication))
    return desired_set(Assignment(complete, incomplete, {}), SETTINGS, previous=previous)


@st.composite
def assignments(draw: st.DrawFn) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The same applications twice, in different orders."""
    applications = draw(APPLICATIONS)
    return applications, order([shuffled(item, draw) for item in applications], draw)


@given(assignments())
def test_any_order_at_any_level_gives_the_same_desired_set(
    orders: tuple[tuple[Any, ...], tuple[Any, ...]],
) -> None:
    """Services, entries, client ids, Secrets, warnings and problems; and nothing is converted again."""
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
