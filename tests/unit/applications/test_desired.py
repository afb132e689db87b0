"""The whole of an assignment: what is applied, what is reported and left alone, what is deleted."""

from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.applications.conversion import ConversionSettings, desired_application
from controller.applications.desired import DesiredSet, Reason, desired_set
from controller.applications.names import shown_name
from controller.compass.types import Application, Assignment, Auth, Bundle, Credential, IncompleteApplication
from tests.support import assigned
from tests.support.assigned import basic, listed

SETTINGS = ConversionSettings(gateway_url="http://gateway", reserved_secrets=frozenset({"compass-agent-configuration"}))
PARAMS = "params-" * 4  # 26 bytes of it are the same with another "params-" before it
NORMALIZED = {"isNormalized": "true"}


def app(number: int, name: str, *bundles: Bundle) -> Application:
    return Application(id=f"id-{number}", name=name, bundles=listed(*bundles))


bundle = partial(assigned.bundle, auth=basic())


def desire(*applications: Application | IncompleteApplication, labels: Any = NORMALIZED) -> DesiredSet:
    complete = tuple(item for item in applications if isinstance(item, Application))
    incomplete = tuple(item for item in applications if isinstance(item, IncompleteApplication))
    return desired_set(Assignment(complete, incomplete, labels), SETTINGS)


def stored(name: str, application_id: str | None) -> dict[str, Any]:
    metadata = {} if application_id is None else {"compassMetadata": {"applicationId": application_id}}
    return {"metadata": {"name": name}, "spec": metadata}


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"isNormalized": "true"}, "Shop"),
        ({"isNormalized": True}, "mp-shop"),
        ({"isNormalized": "false"}, "mp-shop"),
        ({}, "mp-shop"),
    ],
)
def test_names_are_normalised_unless_the_director_has_done_it(labels: dict[str, Any], name: str) -> None:
    """Only the text "true" says so; a name taken as it is may be one that Kubernetes refuses."""
    result = desire(app(1, "Shop"), labels=labels)
    assert {*result.by_name, *result.problems} == {name}
    assert (name in result.problems) is (name == "Shop")


PROBLEMS = [
    ("upper case", [app(1, "Shop")], {"Shop": Reason.INVALID_NAME}),
    ("empty", [app(1, "")], {"application id-1": Reason.INCOMPLETE}),
    ("too long", [app(1, "a" * 254)], {shown_name("a" * 254): Reason.INVALID_NAME}),
    ("two million characters", [app(1, "a" * 2_000_000)], {shown_name("a" * 2_000_000): Reason.INVALID_NAME}),
    ("twice, too long", [app(1, "a" * 254), app(2, "a" * 254)], {shown_name("a" * 254): Reason.DUPLICATE_NAME}),
    ("not printable", [app(1, "a\n\x1b[31m")], {shown_name("a\n\x1b[31m"): Reason.INVALID_NAME}),
    ("too large", [app(1, "shop", bundle("b", description="d" * 4_000_000))], {"shop": Reason.TOO_LARGE}),
    ("twice", [app(1, "shop"), app(2, "shop")], {"shop": Reason.DUPLICATE_NAME}),
    (
        "twice, one incomplete",
        [app(1, "shop"), IncompleteApplication("id-2", "shop", "x")],
        {"shop": Reason.DUPLICATE_NAME},
    ),
    ("incomplete", [IncompleteApplication("id-1", "shop", "boom")], {"shop": Reason.INCOMPLETE}),
    ("label too long", [app(1, "a" * 64, bundle("b"))], {"a" * 64: Reason.INVALID_SECRET}),
    ("bundle id", [app(1, "shop", bundle("B 1"))], {"shop": Reason.INVALID_SECRET}),
    (
        "shared Secret",
        [app(1, "a" * 26 + "-1", bundle("b")), app(2, "a" * 26 + "-2", bundle("b"))],
        {"a" * 26 + "-1": Reason.INVALID_SECRET, "a" * 26 + "-2": Reason.INVALID_SECRET},
    ),
    (
        "a Secret of the agent's own",
        [app(1, "compass", bundle("agent-configuration"))],
        {"compass": Reason.INVALID_SECRET},
    ),
    (
        "two Secrets of one name",
        [app(1, PARAMS + "shop", bundle("b", auth=basic(additionalHeaders={"accept": ["text/plain"]})))],
        {PARAMS + "shop": Reason.INVALID_SECRET},
    ),
]


@pytest.mark.parametrize(("applications", "reasons"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
def test_a_problem_of_one_application_does_not_affect_others(
    applications: list[Application | IncompleteApplication], reasons: dict[str, Reason]
) -> None:
    """Each with a reason and a text; none of them is deleted, under whatever name it is in the cluster."""
    result = desire(app(0, "other"), *applications)
    assert list(result.by_name) == ["other"]
    assert {name: problem.reason for name, problem in result.problems.items()} == reasons
    assert {i for problem in result.problems.values() for i in problem.ids} == {item.id for item in applications}
    assert all(problem.message and problem.name == name for name, problem in result.problems.items())
    for text in [text for problem in result.problems.values() for text in (problem.name, problem.message)]:
        assert text.isprintable()
        assert len(text) < 1000
    for item in applications:
        assert not result.removes(stored(item.name, item.id))
        assert not result.removes(stored("name-before", item.id))


def test_a_long_name_is_no_problem_without_secrets() -> None:
    """Only the label of a Secret limits it to 63."""
    assert list(desire(app(1, "a" * 64)).by_name) == ["a" * 64]


def test_clashing_applications_are_all_named() -> None:
    """With name and id, so that one can be renamed."""
    (problem,) = desire(app(1, "My Shop"), app(2, "my-shop"), labels={}).problems.values()
    for text in ("'My Shop' (id-1)", "'my-shop' (id-2)", "'mp-my-shop'"):
        assert text in problem.message


@pytest.mark.parametrize(("count", "end"), [(10, "(id-19)"), (12, "(id-19) and 2 more")])
def test_many_clashing_applications_are_counted(count: int, end: str) -> None:
    (problem,) = desire(*(app(number, "shop") for number in range(10, 10 + count))).problems.values()
    assert problem.message.endswith(end)


def test_problems_with_the_same_shown_name_keep_both() -> None:
    lookalike = shown_name("a" * 300)
    result = desire(app(1, "a" * 300), app(2, lookalike))
    assert result.problem_ids == {"id-1", "id-2"}


def test_warnings_are_short_and_printable() -> None:
    """They become Events; a bundle's id is the Director's text."""
    odd = assigned.bundle("b\n" + "x" * 2_000_000, "n" * 100, Auth(Credential("Kind" * 1000)))
    for warning in desired_application(app(1, "shop", odd), "shop", SETTINGS).warnings:
        assert warning.isprintable()
        assert len(warning) < 300


def test_unassigned_applications_are_removed_and_no_others() -> None:
    """Managed and not assigned: by name, as a rename in the Director is a new object."""
    result = desire(app(1, "shop"))
    assert result.removes(stored("gone", "id-9"))
    assert result.removes(stored("name-before", "id-1"))
    assert not result.removes(stored("shop", "id-1"))
    assert not result.removes(stored("shop", "id-of-another"))
    assert not result.removes(stored("user-made", None))


LONG = "x" * 30  # two Applications whose names begin like this share the names of their Secrets
NAMES = st.sampled_from(["a", "b", "A", "mp-a", "a b", "", "\u00e4", LONG + "-1", LONG + "-2", "x" * 300])
KINDS = st.sampled_from(["incomplete", "complete", "with an unsupported credential"])


@given(
    st.lists(st.tuples(NAMES | st.text(max_size=5), KINDS), max_size=8),
    st.sampled_from(["true", "false"]),
    st.randoms(use_true_random=False),
)
def test_every_application_is_accounted_for(given_names: list[tuple[str, str]], label: str, order: Random) -> None:
    """Desired or a problem, never both and never neither, in any order of the answer; and nothing assigned is removed
    but by a rename.
    """
    auths = {"complete": basic(), "with an unsupported credential": Auth(Credential("X"))}
    applications = [
        app(n, name, bundle("b", auth=auths[kind])) if kind in auths else IncompleteApplication(f"id-{n}", name, "x")
        for n, (name, kind) in enumerate(given_names)
    ]
    result = desire(*applications, labels={"isNormalized": label})
    shuffled = order.sample(applications, len(applications))
    assert desire(*shuffled, labels={"isNormalized": label}) == result
    assert not result.by_name.keys() & result.problems.keys()
    ids = [desired.source.id for desired in result.by_name.values()]
    ids += [i for problem in result.problems.values() for i in problem.ids]
    assert sorted(ids) == sorted(item.id for item in applications)
    for name in (*result.by_name, *result.problems):
        assert not result.removes(stored(name, "anything"))


def test_unchanged_applications_are_not_converted_again() -> None:
    """The very objects of the set before are in the next one; what changed, clashes or came anew is converted."""
    one, two, three = (Application(id=f"id-{name}", name=f"mp-{name}") for name in ("one", "two", "three"))
    before = desired_set(Assignment((one, two, three), (), {}), SETTINGS)
    changed = msgspec.structs.replace(two, description="changed")
    same_as_one = Application(id="id-one", name="mp-one")
    assignment = Assignment((same_as_one, changed, three, msgspec.structs.replace(three, id="id-other")), (), {})
    after = desired_set(assignment, SETTINGS, previous=before)
    assert after == desired_set(assignment, SETTINGS)
    assert after.by_name["mp-one"] is before.by_name["mp-one"]
    assert after.by_name["mp-two"].spec["description"] == "changed"
    assert after.problems.keys() == {"mp-three"}


def test_an_equal_answer_gives_the_same_set() -> None:
    """The very set of before, problems included; whatever else the Runtime's labels are."""
    applications, incomplete = (app(1, "one"), app(2, "!")), (IncompleteApplication("id-3", "three", "boom"),)
    before = desired_set(Assignment(applications, incomplete, NORMALIZED), SETTINGS)
    again = Assignment((app(1, "one"), app(2, "!")), incomplete, {**NORMALIZED, "more": "x"})
    assert desired_set(again, SETTINGS, previous=before) is before
    for changed in (
        replace(again, labels={}),
        replace(again, incomplete=(replace(incomplete[0], reason="other"),)),
        replace(again, applications=applications[:1]),
        replace(again, applications=(msgspec.structs.replace(applications[0], description="x"), applications[1])),
    ):
        after = desired_set(changed, SETTINGS, previous=before)
        assert after is not before
        assert after == desired_set(changed, SETTINGS)


def test_while_an_application_has_no_id_nothing_is_deleted() -> None:
    """It may be any of those that are stored, under a new name."""
    result = desire(app(1, "one"), IncompleteApplication("", "two", "id: is null"))
    assert not result.removes(stored("gone", "id-9"))
    assert not result.removes(stored("two", "id-2"))
    assert desire(app(1, "one")).removes(stored("gone", "id-9"))


@pytest.mark.parametrize("labels", [NORMALIZED, {}])
def test_an_application_without_a_name_is_named_by_its_id(labels: Any) -> None:
    """Several of them are not duplicates; that of a former name is kept."""
    result = desire(app(1, ""), IncompleteApplication("id-2", "", "name: is empty"), labels=labels)
    assert {name: (problem.reason, problem.message) for name, problem in result.problems.items()} == {
        "application id-1": (Reason.INCOMPLETE, "the Director did not return it completely: it has no name"),
        "application id-2": (Reason.INCOMPLETE, "the Director did not return it completely: name: is empty"),
    }
    assert not result.removes(stored("former", "id-1"))
