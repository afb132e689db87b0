"""The desired set: the Applications that the Director assigns, as objects for the cluster."""

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from types import MappingProxyType

from controller.applications import names
from controller.applications.conversion import (
    ConversionSettings,
    Desired,
    Object,
    application_problem,
    desired_application,
    is_managed,
    secrets_problem,
)
from controller.compass.types import Application, Assignment, IncompleteApplication

_NONE: Mapping[str, Object] = MappingProxyType({})

#: Maximum number of applications with one name in a message.
_MAX_LISTED = 10


class Reason(enum.StrEnum):
    """Why an assigned application cannot be applied. Used as the reason of an Event."""

    DUPLICATE_NAME = "DuplicateName"
    INCOMPLETE = "Incomplete"
    INVALID_NAME = "InvalidName"
    INVALID_SECRET = "InvalidSecret"  # noqa: S105 - a reason, not a secret
    TOO_LARGE = "TooLarge"


@dataclass(frozen=True, slots=True)
class Problem:
    """An application that is reported and stays unchanged. `ids` are the Director's, several if names clash.

    `name` can be displayed: an invalid name is shortened and has no unprintable characters.
    """

    name: str
    ids: tuple[str, ...]
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class DesiredSet:
    """The assignment of the Director: `by_name` is applied, `problems` (by name) stay unchanged.

    The two have no name in common, and together contain each assigned application. `source` is the assignment.
    """

    by_name: Mapping[str, Desired]
    problems: Mapping[str, Problem]
    problem_ids: frozenset[str]
    source: Assignment = field(repr=False, compare=False)

    def removes(self, application: Object) -> bool:
        """Whether this Application of the cluster has to be deleted: it is managed, and no longer assigned.

        An application with a problem is kept, also under its former name.
        """
        name = application["metadata"]["name"]
        if name in self.by_name or name in self.problems or not is_managed(application):
            return False
        if "" in self.problem_ids:
            return False  # an assigned application has no id: it may be this one
        application_id = application["spec"]["compassMetadata"].get("applicationId")
        return not isinstance(application_id, str) or application_id not in self.problem_ids


def desired_set(
    assignment: Assignment,
    settings: ConversionSettings,
    *,
    previous: DesiredSet | None = None,
    stored: Mapping[str, Object] = _NONE,
) -> DesiredSet:
    """Convert an assignment in any order. Never fails: an application that cannot be applied becomes a problem.

    Unchanged applications are taken from `previous`, which was made with the same settings, because a comparison is
    much faster than a conversion. If nothing has changed, the result is `previous` itself.

    `stored` are the managed Applications of the cluster: what they have already is shared with them at once. After a
    restart, all that is desired would otherwise be in memory twice for a moment, which the process then keeps.
    """
    if previous is not None and _says_the_same(assignment, previous.source):
        return previous
    known = previous.by_name if previous is not None else {}
    groups: defaultdict[str, list[Application | IncompleteApplication]] = defaultdict(list)
    assigned: Iterable[Application | IncompleteApplication] = chain(assignment.applications, assignment.incomplete)
    name_of = str if assignment.names_are_normalized else names.application_name
    for application in assigned:
        name = name_of(application.name) if application.name else _no_name(application)
        groups[name].append(application)
    by_name: dict[str, Desired] = {}
    problems: list[Problem] = []
    for name, group in groups.items():
        result = _convert(name, group, settings, known.get(name), stored.get(name))
        if isinstance(result, Problem):
            problems.append(result)
        else:
            by_name[name] = result
    for problem in _sharing_secrets(by_name):
        problems.append(problem)
        by_name.pop(problem.name, None)
    kept = frozenset(application_id for problem in problems for application_id in problem.ids)
    return DesiredSet(by_name, {problem.name: problem for problem in problems}, kept, assignment)


def _says_the_same(assignment: Assignment, before: Assignment) -> bool:
    """Whether two assignments lead to the same set: of the labels, only one matters."""
    return (
        assignment.applications == before.applications
        and assignment.incomplete == before.incomplete
        and assignment.names_are_normalized == before.names_are_normalized
    )


def _convert(
    name: str,
    group: list[Application | IncompleteApplication],
    settings: ConversionSettings,
    known: Desired | None,
    stored: Object | None,
) -> Desired | Problem:
    group = sorted(group, key=attrgetter("id"))
    shown = names.shown_name(name)
    ids = tuple(application.id for application in group)
    if len(group) > 1:
        clashing = [
            f"{names.shown_name(application.name)!r} ({names.shown_name(application.id)})" for application in group
        ]
        message = f"several applications of the Director have the name {shown!r}: {_listed(clashing)}"
        return Problem(shown, ids, Reason.DUPLICATE_NAME, message)
    application = group[0]
    if not application.name:
        reason = application.reason if isinstance(application, IncompleteApplication) else "it has no name"
        return Problem(shown, ids, Reason.INCOMPLETE, f"the Director did not return it completely: {reason}")
    if problem := names.name_problem(name):
        return Problem(shown, ids, Reason.INVALID_NAME, f"its name {problem}")
    if known is not None and known.source == application:
        return known
    if isinstance(application, IncompleteApplication):
        message = f"the Director did not return it completely: {application.reason}"
        return Problem(shown, ids, Reason.INCOMPLETE, message)
    desired = desired_application(application, name, settings, stored=stored)
    if problem := secrets_problem(desired.secrets, settings.reserved_secrets):
        return Problem(shown, ids, Reason.INVALID_SECRET, problem)
    if problem := application_problem(desired):
        return Problem(shown, ids, Reason.TOO_LARGE, problem)
    return desired


def _sharing_secrets(by_name: Mapping[str, Desired]) -> list[Problem]:
    """The Applications that would share a Secret with another one: they would overwrite it again and again."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for name, desired in by_name.items():
        for secret in desired.secrets:
            owners[secret.name].add(name)
    return [
        Problem(
            name,
            (by_name[name].source.id,),
            Reason.INVALID_SECRET,
            f"its Secret {secret_name!r} would also belong to {_listed(sorted(sharing - {name}))}",
        )
        for secret_name, sharing in sorted(owners.items())
        if len(sharing) > 1
        for name in sorted(sharing)
    ]


def _no_name(application: Application | IncompleteApplication) -> str:
    """What to call an application without a name. No object can have this name."""
    return f"application {names.shown_name(application.id)}" if application.id else "application without id and name"


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _MAX_LISTED
    return ", ".join(texts[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
