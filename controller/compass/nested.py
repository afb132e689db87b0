"""One application with its bundles, and their APIs and events, page by page.

If a part of an application cannot be read, the application is incomplete, and the others are not affected: a follow-up
page that is refused, too slow or too large, a field of the wrong type. Only errors of the connection are raised.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from controller.compass import parsing
from controller.compass.budget import Budget
from controller.compass.errors import (
    CompassError,
    GraphQLError,
    InvalidAnswer,
    Refused,
    TooLarge,
    Unavailable,
    UnexpectedAnswer,
)
from controller.compass.parsing import Object, Page
from controller.compass.queries import MORE_APIS, MORE_BUNDLES, MORE_EVENTS, Operation
from controller.compass.types import ApiDefinition, Application, Bundle, EventDefinition, IncompleteApplication
from controller.compass.values import filled_text, optional_text, required_object

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

#: The page that came before, and one of bundles, may still be in memory when a follow-up is read.
_FOLLOW_UP_PART = 0.25

T = TypeVar("T", ApiDefinition, EventDefinition, Bundle)


class ApplicationReader:
    """Reads the applications of one fetch, one after the other."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._slow = 0
        self._follow_ups = 0

    @property
    def has_followed_up(self) -> bool:
        """Whether the last application has more items than its page contains."""
        return self._follow_ups > 0

    def read(self, application_id: str, name: str, item: dict[str, Any]) -> Application | IncompleteApplication:
        """The application of a page's item; missing items are read with follow-up pages."""
        self._follow_ups = 0
        try:
            return Application(
                id=application_id,
                name=name,
                description=optional_text(item, "description"),
                auth_ids=parsing.auth_ids(item),
                bundles=_whole(
                    parsing.page(item, "bundles"),
                    "bundles",
                    lambda raw: self._bundle(application_id, raw),
                    lambda cursor: self._more(MORE_BUNDLES, application_id, cursor),
                ),
            )
        except (InvalidAnswer, UnexpectedAnswer, GraphQLError, TooLarge, Refused, Unavailable) as error:
            if not _is_about_one_application(error):
                raise
            self._slow += isinstance(error, Unavailable)
            return IncompleteApplication(application_id, name, str(error))

    def _bundle(self, application_id: str, item: dict[str, Any]) -> Bundle:
        bundle_id = filled_text(item, "id")
        apis = _whole(
            parsing.page(item, "apiDefinitions"),
            "apiDefinitions",
            parsing.api,
            lambda cursor: self._more(MORE_APIS, application_id, cursor, bundle_id=bundle_id),
        )
        events = _whole(
            parsing.page(item, "eventDefinitions"),
            "eventDefinitions",
            parsing.event,
            lambda cursor: self._more(MORE_EVENTS, application_id, cursor, bundle_id=bundle_id),
        )
        return parsing.bundle(item, apis, events)

    def _more(
        self, operation: Operation, application_id: str, cursor: str | None, *, bundle_id: str | None = None
    ) -> Page[Object]:
        """A page of a nested list, without the application's name, which would be the raw one here."""
        variables = {"application": application_id, "nested": NESTED_PER_PAGE}
        if cursor is not None:
            variables["after"] = cursor
        if bundle_id is not None:
            variables["bundle"] = bundle_id
        holder = required_object(self._follow_up(operation, variables), "application")
        if bundle_id is not None:
            holder = required_object(holder, "bundle")
        if holder.get("id") != (bundle_id or application_id):
            raise InvalidAnswer("is not the one that was asked for", path="id")
        required_object(holder, operation.name)  # null is an empty list, but this one had items
        return parsing.page(holder, operation.name)

    def _follow_up(self, operation: Operation, variables: dict[str, Any]) -> dict[str, Any]:
        self._follow_ups += 1
        if self._slow >= MAX_SLOW_APPLICATIONS:
            raise InvalidAnswer(
                f"not read, as the Director did not answer in time for {self._slow} other applications",
                path=operation.name,
            )
        if self._follow_ups > MAX_FOLLOW_UPS:
            raise InvalidAnswer(f"more than {MAX_FOLLOW_UPS} pages", path=operation.name)
        answer = self._budget.call(operation, variables, timeout=FOLLOW_UP_TIMEOUT, answer_part=_FOLLOW_UP_PART)
        return answer.whole()


def _is_about_one_application(error: CompassError) -> bool:
    """Whether others can be read in spite of this error. Not if the certificate is refused or the Director is down."""
    if isinstance(error, Refused):
        return error.status == HTTPStatus.OK  # scopes that only this application lacks
    return error.timed_out if isinstance(error, Unavailable) else True


def _whole(
    page: Page[Object], field: str, parse: Callable[[dict[str, Any]], T], read: Callable[[str | None], Page[Object]]
) -> tuple[T, ...]:
    """All items of a nested list; `read` returns the page after a cursor, and the first one for None.

    The Director sorts such a list again for each page, so pages overlap and miss items. Items are collected by id, in
    several readings, until their number equals the total. Raises InvalidAnswer if it never does.
    """
    gathered: dict[str, T] = {}
    total = page.total
    if page.cursor is None and len(page.items) != total:
        raise InvalidAnswer(f"the total is {total}, and {len(page.items)} were read", path=field)
    for _ in range(NESTED_READINGS):
        if page.total != total:
            gathered.clear()
            total = page.total
        if _gather(page, field, parse, read, gathered) and len(gathered) == total:
            return tuple(gathered.values())
        page = read(None)
    raise InvalidAnswer(
        f"changed while it was read: {len(gathered)} of {total} in {NESTED_READINGS} readings", path=field
    )


def _gather(
    page: Page[Object],
    field: str,
    parse: Callable[[dict[str, Any]], T],
    read: Callable[[str | None], Page[Object]],
    gathered: dict[str, T],
) -> bool:
    """Read a list from this page to its end. False if its pages are not consistent."""
    total, count = page.total, 0
    while True:
        fresh = [item for item in page.items if not _is_known(item, gathered)]
        parsed = {item.id: item for item in parsing.each(fresh, field, parse)}
        if len(parsed) != len(fresh):
            raise InvalidAnswer("has an id twice", path=field)
        gathered |= parsed
        here = len(page.items)
        del fresh
        page.items.clear()  # their memory is needed for what follows
        count += here
        if page.cursor is None:
            return count == total
        if here == 0 or count > total:
            return False
        page = read(page.cursor)
        if page.total != total:
            return False


def _is_known(item: dict[str, Any], gathered: Mapping[str, object]) -> bool:
    return isinstance(item.get("id"), str) and item["id"] in gathered
