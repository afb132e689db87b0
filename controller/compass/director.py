"""The Director: which applications are assigned to the Runtime, and the Runtime's labels.

A fetch is complete or fails: what it returns names every assigned application exactly once. The Director pages by
offset, so an application assigned or unassigned between two pages makes the next page repeat one or skip one. Hence:

* the totals of all pages must agree with each other and with the number of distinct ids;
* after more than one page, the ids are read once more in a single page, which is a snapshot, and must be the same;
* otherwise all is read again, a few times.

An application of which something inside cannot be read (a follow-up page that is refused, an error beside the data,
a field of the wrong type) is returned as incomplete, and the others are not held up by it.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from controller.compass import parsing
from controller.compass.answers import Answer
from controller.compass.errors import GraphQLError, InvalidAnswer, Refused, UnexpectedAnswer
from controller.compass.graphql import Transport
from controller.compass.parsing import Page
from controller.compass.queries import (
    ASSIGNED_IDS,
    FIRST_PAGE,
    MORE_APIS,
    MORE_BUNDLES,
    MORE_EVENTS,
    NEXT_PAGE,
    SET_RUNTIME_LABEL,
    VIEWER,
    Operation,
)
from controller.compass.types import (
    ApiDefinition,
    Application,
    Assignment,
    Bundle,
    EventDefinition,
    IncompleteApplication,
    Viewer,
)
from controller.compass.values import (
    filled_text,
    numbered,
    optional_object,
    optional_text,
    required_object,
    text,
    within,
)

#: Applications in one page. The Director sets no maximum here, but takes about 6 ms for each with all that it holds,
#: and a call has to end within 30 s.
APPLICATIONS_PER_PAGE = 500

#: The Director's maximum for lists inside an application.
NESTED_PER_PAGE = 200

#: Ids in the one page that confirms the others. Ids alone are cheap, and there is no maximum.
IDS_PER_PAGE = 100_000

#: How often a list that changes while it is read is begun anew. Changes are rare and a reading is short: a third
#: failure means something other than chance.
READ_ATTEMPTS = 3

#: How often a list inside an application is read before it is given up. Were its order a random one for each page, one
#: reading of 450 items would miss a quarter of them, and twelve readings of 1,000 items hardly ever one.
NESTED_READINGS = 12

_LIST = "applicationsForRuntime"

T = TypeVar("T", ApiDefinition, EventDefinition, Bundle)


class DirectorClient:
    """Calls the Director over `transport` (mTLS). `tenant` is the external tenant id, "" to send none.

    Every method raises any CompassError. `request_id` is sent as x-request-id.
    """

    def __init__(
        self, transport: Transport, url: str, *, tenant: str, applications_per_page: int = APPLICATIONS_PER_PAGE
    ) -> None:
        self._transport = transport
        self._url = url
        self._headers = {"Tenant": tenant} if tenant else {}
        self._applications_per_page = applications_per_page

    def viewer(self, *, request_id: str) -> Viewer | None:
        """Whom the certificate belongs to, as the Director knows it.

        None when the Director answers with a GraphQL error: a Compass that does not know the field or does not allow
        it, but also one that cannot say just now. So None is no answer for good: ask again before the next fetch.
        """
        answer = self._call(VIEWER, {}, request_id)
        if answer.errors:
            return None
        with numbered(request_id):
            found = required_object(answer.whole(), VIEWER.name)
            with within(VIEWER.name):
                return Viewer(filled_text(found, "id"), text(found, "type"))

    def fetch(self, runtime_id: str, *, request_id: str) -> Assignment:
        """Read everything that is assigned to the Runtime.

        Raises InvalidAnswer with path "applicationsForRuntime" when no consistent reading came about.
        """
        fetch = _Fetch(
            lambda operation, variables: self._call(operation, variables, request_id),
            runtime_id,
            self._applications_per_page,
        )
        with numbered(request_id):
            return fetch.run()

    def set_runtime_label(self, runtime_id: str, key: str, value: str, *, request_id: str) -> None:
        """Set one label of the Runtime, and leave the others as they are."""
        variables = {"runtime": runtime_id, "key": key, "value": value}
        answer = self._call(SET_RUNTIME_LABEL, variables, request_id).whole()
        with numbered(request_id):
            required_object(answer, SET_RUNTIME_LABEL.name)

    def _call(self, operation: Operation, variables: dict[str, Any], request_id: str) -> Answer:
        return self._transport.execute(self._url, operation, variables, headers=self._headers, request_id=request_id)


class _InconsistentError(Exception):
    """The list of applications changed while it was read."""


class _Fetch:
    """One fetch: labels, and the applications collected so far by id."""

    def __init__(self, query: Callable[[Operation, dict[str, Any]], Answer], runtime_id: str, per_page: int) -> None:
        self._query = query
        self._runtime_id = runtime_id
        self._per_page = per_page
        self._labels: dict[str, Any] = {}
        self._applications: dict[str, Application | IncompleteApplication] = {}

    def run(self) -> Assignment:
        problem = ""
        for _ in range(READ_ATTEMPTS):
            try:
                self._read_all()
            except _InconsistentError as change:
                problem = str(change)
            else:
                found = self._applications.values()
                return Assignment(
                    applications=tuple(item for item in found if isinstance(item, Application)),
                    incomplete=tuple(item for item in found if isinstance(item, IncompleteApplication)),
                    labels=self._labels,
                )
        raise InvalidAnswer(f"inconsistent in each of {READ_ATTEMPTS} readings: {problem}", path=_LIST)

    def _read_all(self) -> None:
        self._applications.clear()
        answer = self._query(FIRST_PAGE, self._page_variables(None) | {"nested": NESTED_PER_PAGE})
        page = self._take(answer)
        self._labels = self._read_labels(answer)
        total, several = page.total, page.cursor is not None
        while page.cursor is not None:
            page = self._take(self._query(NEXT_PAGE, self._page_variables(page.cursor) | {"nested": NESTED_PER_PAGE}))
            if page.total != total:
                raise _InconsistentError(f"the total went from {total} to {page.total} between pages")
            if not page.items or len(self._applications) > total:
                raise _InconsistentError("the pages do not end where the total says")
        if several:
            self._confirm()
        if len(self._applications) != total:
            raise _InconsistentError(f"the total is {total}, and {len(self._applications)} were read")

    def _confirm(self) -> None:
        """Compare what was paged with a single reading of the ids. The totals alone do not show one application going
        while another comes.
        """
        ids: set[str] = set()
        cursor = None
        while True:
            variables = self._page_variables(cursor) | {"first": IDS_PER_PAGE}
            page = parsing.page(self._query(ASSIGNED_IDS, variables).whole(), _LIST)
            before = len(ids)
            ids.update(parsing.each(page.items, _LIST, lambda item: filled_text(item, "id")))
            if page.cursor is None:
                break
            if len(ids) == before:
                raise _InconsistentError("the pages of ids do not end")
            cursor = page.cursor
        if ids != self._applications.keys():
            raise _InconsistentError("the ids changed while the pages were read")

    def _page_variables(self, cursor: str | None) -> dict[str, Any]:
        after = {} if cursor is None else {"after": cursor}
        return {"runtime": self._runtime_id, "first": self._per_page, **after}

    def _read_labels(self, answer: Answer) -> dict[str, Any]:
        runtime = required_object(answer.data or {}, "runtime")
        with within("runtime"):
            return optional_object(runtime, "labels") or {}

    def _take(self, answer: Answer) -> Page:
        """Collect the applications of one page."""
        broken = _errors_by_position(answer)
        required_object(answer.data or {}, _LIST)
        page = parsing.page(answer.data or {}, _LIST)
        for position, item in enumerate(page.items):
            with within(f"{_LIST}.data[{position}]"):
                application_id, name = filled_text(item, "id"), text(item, "name")
            if application_id in self._applications:
                raise _InconsistentError("an application came twice")
            reason = broken.get(position)
            if reason is None:
                self._applications[application_id] = self._application(application_id, name, item)
            else:
                self._applications[application_id] = IncompleteApplication(application_id, name, reason)
        return page

    def _application(self, application_id: str, name: str, item: dict[str, Any]) -> Application | IncompleteApplication:
        try:
            return Application(
                id=application_id,
                name=name,
                description=optional_text(item, "description"),
                auth_ids=parsing.auth_ids(item),
                bundles=self._whole(
                    parsing.page(item, "bundles"),
                    "bundles",
                    lambda raw: self._bundle(application_id, raw),
                    lambda cursor: self._more(MORE_BUNDLES, application_id, cursor),
                ),
            )
        except (InvalidAnswer, UnexpectedAnswer, GraphQLError) as error:
            return IncompleteApplication(application_id, name, str(error))
        except Refused as error:
            # A follow-up that only this application's scopes forbid. Any other refusal is one of the connection.
            if error.status != HTTPStatus.OK:
                raise
            return IncompleteApplication(application_id, name, str(error))

    def _bundle(self, application_id: str, item: dict[str, Any]) -> Bundle:
        bundle_id = filled_text(item, "id")
        apis = self._whole(
            parsing.page(item, "apiDefinitions"),
            "apiDefinitions",
            parsing.api,
            lambda cursor: self._more(MORE_APIS, application_id, cursor, bundle_id=bundle_id),
        )
        events = self._whole(
            parsing.page(item, "eventDefinitions"),
            "eventDefinitions",
            parsing.event,
            lambda cursor: self._more(MORE_EVENTS, application_id, cursor, bundle_id=bundle_id),
        )
        return parsing.bundle(item, apis, events)

    def _whole(
        self, page: Page, field: str, parse: Callable[[dict[str, Any]], T], read: Callable[[str | None], Page]
    ) -> tuple[T, ...]:
        """All items of a nested list; `read` gives the page behind a cursor, and the first one for None.

        The Director sorts such a list anew for each page, so pages overlap, and together miss items. What they have is
        gathered by id, in several readings, until it is as much as the total. Raises InvalidAnswer when it never is.
        """
        gathered: dict[str, T] = {}
        total = page.total
        if page.cursor is None and len(page.items) != total:
            raise InvalidAnswer(f"the total is {total}, and {len(page.items)} were read", path=field)
        for _ in range(NESTED_READINGS):
            if page.total != total:
                gathered.clear()
                total = page.total
            if self._gather(page, field, parse, read, gathered) and len(gathered) == total:
                return tuple(gathered.values())
            page = read(None)
        raise InvalidAnswer(
            f"changed while it was read: {len(gathered)} of {total} in {NESTED_READINGS} readings", path=field
        )

    def _gather(
        self,
        page: Page,
        field: str,
        parse: Callable[[dict[str, Any]], T],
        read: Callable[[str | None], Page],
        gathered: dict[str, T],
    ) -> bool:
        """Read a list from this page to its end. False when its pages do not belong together."""
        total, count = page.total, 0
        while True:
            fresh = [item for item in page.items if not _is_known(item, gathered)]
            parsed = {item.id: item for item in parsing.each(fresh, field, parse)}
            if len(parsed) != len(fresh):
                raise InvalidAnswer("has an id twice", path=field)
            gathered |= parsed
            count += len(page.items)
            if page.cursor is None:
                return count == total
            if not page.items or count > total:
                return False
            page = read(page.cursor)
            if page.total != total:
                return False

    def _more(
        self, operation: Operation, application_id: str, cursor: str | None, *, bundle_id: str | None = None
    ) -> Page:
        """A page of a nested list. The application's name is not asked for: here it would be the raw one."""
        variables = {"application": application_id, "nested": NESTED_PER_PAGE}
        if cursor is not None:
            variables["after"] = cursor
        if bundle_id is not None:
            variables["bundle"] = bundle_id
        holder = required_object(self._query(operation, variables).whole(), "application")
        if bundle_id is not None:
            holder = required_object(holder, "bundle")
        if holder.get("id") != (bundle_id or application_id):
            raise InvalidAnswer("is not the one that was asked for", path="id")
        required_object(holder, operation.name)  # null is an empty list, but this one had items
        return parsing.page(holder, operation.name)


def _is_known(item: dict[str, Any], gathered: Mapping[str, object]) -> bool:
    return isinstance(item.get("id"), str) and item["id"] in gathered


def _errors_by_position(answer: Answer) -> dict[int, str]:
    """The errors beside the data, by position of the application that they are about.

    Raises the answer's error when one of them is about more than a single application.
    """
    broken: dict[int, str] = {}
    for entry in answer.errors:
        match entry.path:
            case (str(field), "data", int(position), *_) if field == _LIST and answer.data is not None:
                broken.setdefault(position, f"graphql: {entry.message}")
            case _:
                raise answer.error()
    return broken
