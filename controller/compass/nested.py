"""One application with its bundles, and their APIs and events, page by page.

A part that cannot be read concerns this application only: a follow-up page that is refused, too slow or too large, a
field of the wrong type. Errors of the connection concern all.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from operator import attrgetter
from typing import Any, TypeVar

from controller.compass import decoder
from controller.compass.budget import Budget
from controller.compass.decoder import ApplicationNode, BundleNode, HasId, Page, label
from controller.compass.errors import (
    CompassError,
    InvalidAnswer,
    Refused,
    Unavailable,
    within,
)
from controller.compass.queries import MORE_APIS, MORE_BUNDLES, MORE_EVENTS, Operation
from controller.compass.types import Application, Bundle

#: The Director's maximum for lists inside an application.
NESTED_PER_PAGE = 200

#: Number of attempts to read a list inside an application. If its order were random for each page, one reading of 450
#: items would miss a quarter of them, and twelve readings of 1,000 items hardly ever one.
NESTED_READINGS = 12

#: Seconds for one follow-up page. The Director takes milliseconds.
FOLLOW_UP_TIMEOUT = 10.0

#: Follow-up pages of one application: enough for ten thousand items in a random order.
MAX_FOLLOW_UPS = 600

#: Number of applications that may delay a fetch with their follow-up pages. Follow-up pages of others are skipped.
MAX_SLOW_APPLICATIONS = 3

N = TypeVar("N", bound=HasId)
T = TypeVar("T")


class ApplicationReader:
    """Reads the applications of one fetch, one after the other."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._slow = 0
        self._follow_ups = 0
        self._bytes = 0

    @property
    def has_followed_up(self) -> bool:
        """Whether the last application has more items than its page contains."""
        return self._follow_ups > 0

    @property
    def follow_up_bytes(self) -> int:
        """The size of the follow-up pages of the last application."""
        return self._bytes

    def read(self, found: ApplicationNode) -> Application:
        """The application of a page; missing items are read with follow-up pages.

        Raises InvalidAnswer, UnexpectedAnswer, GraphQLError, TooLarge, or Refused and Unavailable, if only this
        application cannot be read, and other CompassErrors if none can.
        """
        self._follow_ups = self._bytes = 0
        try:
            return Application(
                id=found.id,
                name=found.name,
                description=found.description,
                auth_ids=tuple(auth.id for auth in found.auths or ()),
                bundles=_whole(
                    found.bundles,
                    "bundles",
                    lambda node: self._bundle(found.id, node),
                    lambda cursor: self._more_bundles(found.id, cursor),
                ),
            )
        except Unavailable:
            self._slow += 1
            raise

    def _bundle(self, application_id: str, found: BundleNode) -> Bundle:
        apis = _whole(
            found.apiDefinitions,
            "apiDefinitions",
            decoder.api,
            lambda cursor: self._more_of_bundle(MORE_APIS, application_id, found.id, cursor).apiDefinitions,
        )
        events = _whole(
            found.eventDefinitions,
            "eventDefinitions",
            decoder.event,
            lambda cursor: self._more_of_bundle(MORE_EVENTS, application_id, found.id, cursor).eventDefinitions,
        )
        return decoder.bundle(found, apis, events)

    def _more_bundles(self, application_id: str, cursor: str | None) -> Page[BundleNode] | None:
        found = self._follow_up(MORE_BUNDLES, {"application": application_id}, cursor).application
        _check_id(found, application_id)
        return found.bundles

    def _more_of_bundle(
        self, operation: Operation[decoder.MoreOfBundleData], application_id: str, bundle_id: str, cursor: str | None
    ) -> decoder.BundleWithLists:
        variables = {"application": application_id, "bundle": bundle_id}
        found = self._follow_up(operation, variables, cursor).application.bundle
        _check_id(found, bundle_id)
        return found

    def _follow_up(self, operation: Operation[T], variables: dict[str, Any], cursor: str | None) -> T:
        """A page of a nested list, without the application's name, which would be the raw one here."""
        self._follow_ups += 1
        if self._slow >= MAX_SLOW_APPLICATIONS:
            raise InvalidAnswer(
                f"not read, as the Director did not answer in time for {self._slow} other applications",
                path=operation.name,
            )
        if self._follow_ups > MAX_FOLLOW_UPS:
            raise InvalidAnswer(f"more than {MAX_FOLLOW_UPS} pages", path=operation.name)
        after = {} if cursor is None else {"after": cursor}
        variables = {**variables, "nested": NESTED_PER_PAGE, **after}
        answer = self._budget.call(operation, variables, timeout=FOLLOW_UP_TIMEOUT)
        self._bytes += answer.size
        return answer.whole()


def _check_id(found: HasId, expected: str) -> None:
    if found.id != expected:
        raise InvalidAnswer("is not the one that was asked for", path="id")


def is_about_one_application(error: CompassError) -> bool:
    """Whether others can be read in spite of this error. Not if the certificate is refused or the Director is down."""
    if isinstance(error, Refused):
        return error.status == HTTPStatus.OK  # scopes that only this application lacks
    return error.timed_out if isinstance(error, Unavailable) else True


def _whole(
    page: Page[N] | None, field: str, convert: Callable[[N], T], read: Callable[[str | None], Page[N] | None]
) -> tuple[T, ...]:
    """All items of a nested list that begins with this page; () for null. `read` returns the page after a cursor, and
    the first one for None. Raises InvalidAnswer.
    """
    if page is None:
        return ()
    if page.cursor is not None:
        return tuple(_gathered(page, field, convert, read).values())
    if len(page.items) != page.totalCount:
        raise InvalidAnswer(f"the total is {page.totalCount}, and {len(page.items)} were read", path=field)
    return _converted(page.items, field, convert)


def _gathered(
    page: Page[N], field: str, convert: Callable[[N], T], read: Callable[[str | None], Page[N] | None]
) -> dict[str, T]:
    """All items of a list with several pages, by id.

    The Director sorts such a list again for each page, so pages overlap and miss items. Items are collected by id, in
    several readings, until their number equals the total. Raises InvalidAnswer if it never does.
    """
    gathered: dict[str, T] = {}
    total = page.totalCount
    for _ in range(NESTED_READINGS):
        if page.totalCount != total:
            gathered.clear()
            total = page.totalCount
        count = 0
        while True:
            fresh = [item for item in page.items if item.id not in gathered]
            gathered.update(zip((item.id for item in fresh), _converted(fresh, field, convert), strict=True))
            count += len(page.items)
            if page.cursor is None:
                if count == total == len(gathered):
                    return gathered
                break
            if not page.items or count > total:
                break
            page = _not_null(read(page.cursor), field)
            if page.totalCount != total:
                break
        page = _not_null(read(None), field)
    raise InvalidAnswer(
        f"changed while it was read: {len(gathered)} of {total} in {NESTED_READINGS} readings", path=field
    )


def _not_null(page: Page[N] | None, field: str) -> Page[N]:
    """null is an empty list, but this one had items."""
    if page is None:
        raise InvalidAnswer("is null or absent instead of an object", path=field)
    return page


def _converted(items: Sequence[N], field: str, convert: Callable[[N], T]) -> tuple[T, ...]:
    """Of several errors, the same one is raised for any order of the items."""
    if len(items) > 1 and len({item.id for item in items}) != len(items):
        raise InvalidAnswer("has an id twice", path=field)
    try:
        return tuple(map(convert, items))
    except InvalidAnswer:
        for item in sorted(items, key=attrgetter("id")):
            with within(f"{field}.data[{label(item.id)}]"):
                convert(item)
        raise
