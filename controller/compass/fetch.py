"""One fetch: all applications that the Director assigns to the Runtime, or an error.

The Director pages by offset, so an application that is assigned or unassigned between two pages makes the next page
repeat or skip one. Therefore:

* the totals of all pages must agree with each other and with the number of applications;
* after more than one page, the ids are read again in a single page, which is a snapshot, and must be the same;
* otherwise everything is read again, a few times.

Pages become smaller when an answer is too large or too slow, and grow again. An application that alone is too large or
too slow for a page is incomplete, and so are one with a field that does not fit, and all that share an id. With an
incomplete application that has no id, nothing is deleted.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Raw

from controller.compass.answers import Answer, decode, label
from controller.compass.errors import (
    CompassError,
    InvalidAnswer,
    Refused,
    TooLarge,
    Unavailable,
)
from controller.compass.graphql import TOTAL_TIMEOUT
from controller.compass.limits import MEMORY_PER_BYTE, Limits, parts_memory, size, text_memory
from controller.compass.queries import (
    ASSIGNED_IDS,
    MORE_APIS,
    MORE_BUNDLES,
    MORE_EVENTS,
    OUTLINE,
    PAGE,
    Operation,
)
from controller.compass.types import (
    LAST_PAGE,
    Application,
    Assignment,
    Bundle,
    HasId,
    Identity,
    IncompleteApplication,
    Page,
    PageData,
    Parts,
    PartsData,
    Runtime,
)

#: Applications in one page. The Director has no maximum here, but needs about 6 ms for each with its content, and a
#: call must end within 30 s.
APPLICATIONS_PER_PAGE = 500

#: Ids in the one page that confirms the others. Ids alone are cheap, and there is no maximum.
IDS_PER_PAGE = 50_000

#: Number of attempts to read a list that changes meanwhile. Changes are rare and a fetch is short, so a third failure
#: is no coincidence.
READ_ATTEMPTS = 3

#: Seconds for the name of one application after a slow page. If it takes longer, the Director as a whole is slow.
_OUTLINE_TIMEOUT = 10.0

_LIST = "applicationsForRuntime"

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

_ID = attrgetter("id")


class Call(Protocol):
    """A call of the Director; may raise any CompassError."""

    def __call__(self, operation: Operation[T], variables: dict[str, Any], *, timeout: float) -> Answer[T]: ...


class ApplicationReader:
    """Reads the applications of one fetch, one after the other, with their bundles, APIs and events, page by page.

    A part that cannot be read concerns this application only: a follow-up page that is refused, too slow or too large,
    or a field of the wrong type. Errors of the connection concern all.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._slow = 0
        self.follow_ups = self.follow_up_bytes = 0  # number and size of those of the last application

    def read(self, found: Application) -> Application:
        """The application of a page, with all items; those that are missing are read with follow-up pages.

        Raises InvalidAnswer, UnexpectedAnswer, GraphQLError, TooLarge, or Refused and Unavailable, if only this
        application cannot be read, and other CompassErrors if none can.
        """
        self.follow_ups = self.follow_up_bytes = 0
        try:
            auths = found.auths and tuple(sorted(found.auths, key=_ID))
            bundles = _whole(
                found.bundles,
                "bundles",
                lambda cursor: self._follow_up(MORE_BUNDLES, {"application": found.id}, cursor).bundles,
                lambda bundle: self._bundle(found.id, bundle),
            )
            return msgspec.structs.replace(found, auths=auths, bundles=bundles)
        except Unavailable:
            self._slow += 1
            raise

    def _bundle(self, application_id: str, found: Bundle) -> Bundle:
        variables = {"application": application_id, "bundle": found.id}
        apis = _whole(
            found.apiDefinitions,
            "apiDefinitions",
            lambda cursor: self._more_of_bundle(MORE_APIS, variables, cursor).apiDefinitions,
        )
        events = _whole(
            found.eventDefinitions,
            "eventDefinitions",
            lambda cursor: self._more_of_bundle(MORE_EVENTS, variables, cursor).eventDefinitions,
        )
        return msgspec.structs.replace(found, apiDefinitions=apis, eventDefinitions=events)

    def _more_of_bundle(self, operation: Operation[PartsData], variables: dict[str, Any], cursor: str | None) -> Bundle:
        found = self._follow_up(operation, variables, cursor).bundle
        if found is None:
            raise InvalidAnswer("is null or absent instead of an object", path="bundle")
        _check_id(found, variables["bundle"])
        return found

    def _follow_up(self, operation: Operation[PartsData], variables: dict[str, Any], cursor: str | None) -> Parts:
        """A page of a nested list, without the application's name, which would be the raw one here."""
        self.follow_ups += 1
        if self._slow >= MAX_SLOW_APPLICATIONS:
            raise InvalidAnswer(
                f"not read, as the Director did not answer in time for {self._slow} other applications",
                path=operation.name,
            )
        if self.follow_ups > MAX_FOLLOW_UPS:
            raise InvalidAnswer(f"more than {MAX_FOLLOW_UPS} pages", path=operation.name)
        after = {} if cursor is None else {"after": cursor}
        answer = self._call(operation, {**variables, "nested": NESTED_PER_PAGE, **after}, timeout=FOLLOW_UP_TIMEOUT)
        self.follow_up_bytes += answer.size
        found = answer.whole().application
        _check_id(found, variables["application"])
        return found


def _check_id(found: HasId, expected: str) -> None:
    if found.id != expected:
        raise InvalidAnswer("is not the one that was asked for", path="id")


def is_about_one_application(error: CompassError) -> bool:
    """Whether others can be read in spite of this error. Not if the certificate is refused or the Director is down."""
    match error:
        case Refused():
            return error.status == HTTPStatus.OK  # maybe scopes that only this application lacks
        case Unavailable():
            return error.timed_out
        case TooLarge():
            return error.single
        case _:
            return True


def _same(item: T) -> T:
    return item


def _whole(
    page: Page[N] | None, field: str, read: Callable[[str | None], Page[N] | None], complete: Callable[[N], N] = _same
) -> Page[N] | None:
    """All items of a nested list that begins with this page, sorted by id; `complete` completes an item. `read` returns
    the page after a cursor, and the first one for None. Raises InvalidAnswer.
    """
    if page is None:
        return None
    if page.cursor is not None:
        found = _gathered(page, field, read, complete)
    elif len(page.items) == page.totalCount:
        found = _completed(page.items, field, complete)
    else:
        raise InvalidAnswer(f"the total is {page.totalCount}, and {len(page.items)} were read", path=field)
    return Page(len(found), LAST_PAGE, tuple(found[identifier] for identifier in sorted(found)))


def _gathered(
    page: Page[N], field: str, read: Callable[[str | None], Page[N] | None], complete: Callable[[N], N]
) -> dict[str, N]:
    """All items of a list with several pages, by id.

    The Director sorts such a list again for each page, so pages overlap and miss items. Items are collected by id, in
    several readings, until their number equals the total. Raises InvalidAnswer if it never does.
    """
    gathered: dict[str, N] = {}
    total = page.totalCount
    for reading in range(NESTED_READINGS):
        if reading > 0:
            page = _not_null(read(None), field)
        if page.totalCount != total:
            gathered.clear()
            total = page.totalCount
        count = 0
        while True:
            gathered |= _completed([item for item in page.items if item.id not in gathered], field, complete)
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
    raise InvalidAnswer(
        f"changed while it was read: {len(gathered)} of {total} in {NESTED_READINGS} readings", path=field
    )


def _not_null(page: Page[N] | None, field: str) -> Page[N]:
    """null is an empty list, but this one had items."""
    if page is None:
        raise InvalidAnswer("is null or absent instead of an object", path=field)
    return page


def _completed(items: Sequence[N], field: str, complete: Callable[[N], N]) -> dict[str, N]:
    """The items by id, and in this order, so that the same error of several is raised for any order of the items."""
    completed: dict[str, N] = {}
    for item in sorted(items, key=_ID):
        if item.id in completed:
            raise InvalidAnswer("has an id twice", path=field)
        try:
            completed[item.id] = complete(item)
        except InvalidAnswer as error:
            error.prepend(f"{field}.data[{label(item.id)}]")
            raise
    return completed


class KnownApplication(NamedTuple):
    """A complete application, and all memory that it needs, in bytes."""

    application: Application
    memory: int


KnownApplications = dict[bytes | str, KnownApplication]
"""The complete applications of the last fetch: by id, and by the digest of the text if it contains all of one.

The Director usually sends the same ones again. The text of an application is looked up before it is parsed. Nested
lists have an arbitrary order, so an application with several APIs rarely has the same text: it is parsed and checked
again, and replaced by the earlier value if both are equal.
"""


class _InconsistentError(Exception):
    """The list of applications changed while it was read."""


class Fetch:
    """One fetch for a Runtime: labels, and the applications collected so far by id.

    Applications in `known` are not parsed again; those of this fetch replace them when it has succeeded.
    """

    def __init__(
        self,
        call: Call,
        runtime_id: str,
        *,
        per_page: int,
        limits: Limits,
        known: KnownApplications,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = call
        self._reader = ApplicationReader(self._call)
        self._runtime_id = runtime_id
        self._limits = limits
        self._monotonic = monotonic
        self._deadline = monotonic() + limits.seconds
        self._pages = 0
        self._most = self._first = per_page  # applications in a page; fewer after one that was too large or too slow
        self._patience = TOTAL_TIMEOUT  # seconds for a page; fewer after a slow one
        self._labels: dict[str, str] = {}
        self._collected: list[Application | IncompleteApplication] = []
        self._ids: Counter[str] = Counter()  # of what is collected; "" for an application without an id
        self._memory = 0
        self._to_confirm = False  # whether the ids are read again at the end
        self._known = known
        self._next_known: KnownApplications = {}

    def _call(self, operation: Operation[T], variables: dict[str, Any], *, timeout: float = TOTAL_TIMEOUT) -> Answer[T]:
        """Call the Director. Raises Unavailable after the time of the fetch, TooLarge after too many pages."""
        self._pages += 1
        if self._pages > self._limits.pages:
            raise TooLarge(f"a fetch takes more than {self._limits.pages} pages")
        too_slow = f"the Director did not give everything within {self._limits.seconds:g} s"
        left = self._deadline - self._monotonic()
        if left <= 0:
            raise Unavailable(too_slow)
        try:
            return self._send(operation, variables, timeout=min(timeout, left))
        except TooLarge as error:
            raise TooLarge(f"{error}{self._limits.answer_advice()}", single=True) from None
        except Unavailable as error:
            if error.timed_out and self._monotonic() >= self._deadline:
                raise Unavailable(too_slow) from error
            raise

    def run(self) -> Assignment:
        """Raises InvalidAnswer with path "applicationsForRuntime" if no reading was consistent, TooLarge or Unavailable
        if a limit was exceeded, and the errors of the calls.
        """
        problem = ""
        for _ in range(READ_ATTEMPTS):
            try:
                self._read_all()
            except _InconsistentError as change:
                problem = str(change)
            else:
                self._known.clear()
                self._known.update(self._next_known)
                return self._assignment()
        raise InvalidAnswer(f"inconsistent in each of {READ_ATTEMPTS} readings: {problem}", path=_LIST)

    def _assignment(self) -> Assignment:
        """Applications with the same id are incomplete: it is not known which one is right."""
        complete, incomplete = [], []
        for item in self._collected:
            if item.id and self._ids[item.id] > 1:
                reason = f"the Director returned {self._ids[item.id]} applications with this id"
                incomplete.append(IncompleteApplication(item.id, item.name, reason))
            elif isinstance(item, Application):
                complete.append(item)
            else:
                incomplete.append(item)
        return Assignment(tuple(complete), tuple(dict.fromkeys(incomplete)), self._labels)

    def _read_all(self) -> None:
        self._collected.clear()
        self._ids.clear()
        self._next_known = {}
        self._labels = {}
        self._memory = 0
        self._to_confirm = False
        total, cursor = self._read_page(None)
        while cursor is not None:
            self._to_confirm = True
            before = len(self._collected)
            other, cursor = self._read_page(cursor)
            if other != total:
                raise _InconsistentError(f"the total went from {total} to {other} between pages")
            if len(self._collected) == before or len(self._collected) > total:
                raise _InconsistentError("the pages do not end where the total says")
        if self._to_confirm:
            self._confirm()
        if len(self._collected) != total:
            raise _InconsistentError(f"the total is {total}, and {len(self._collected)} were read")

    def _read_page(self, cursor: str | None) -> tuple[int, str | None]:
        """Collect the next applications, as many as fit into an answer.

        Returns the total and the cursor of the page, and not the page: the answer must not stay in memory.
        """
        while True:
            first = self._first
            began = self._monotonic()
            try:
                variables = self._variables(cursor, first) | {"nested": NESTED_PER_PAGE}
                answer = self._call(PAGE, variables, timeout=self._patience)
            except TooLarge as error:
                if not error.single:
                    raise
                if first == 1:
                    return self._skip(cursor, f"too large: {error}")
                self._first = max(1, first // 2)
            except Unavailable as error:
                if not error.timed_out:
                    raise
                # If the Director as a whole is slow, this call fails too, and it is an outage.
                self._outline(cursor)
                self._patience = TOTAL_TIMEOUT / 2
                if first == 1:
                    return self._skip(cursor, str(error))
                self._first = max(1, first // 8)
            else:
                took = (self._monotonic() - began) / self._patience
                if max(took, answer.size / self._limits.answer_bytes) <= 0.4:  # twice as many are likely to fit
                    self._first = min(self._most, first * 2)
                broken, data = _errors_by_position(answer)
                self._read_labels(data.runtime)
                return self._take(data.applicationsForRuntime, broken)

    def _skip(self, cursor: str | None, reason: str) -> tuple[int, str | None]:
        """Skip the next application, of which only id and name can be read."""
        page = self._outline(cursor)
        for item in page.items:
            self._collect(IncompleteApplication(*item.texts, reason))
        return page.totalCount, page.cursor

    def _outline(self, cursor: str | None) -> Page[Identity]:
        """A page with id and name of the next application only."""
        outline = self._call(OUTLINE, self._variables(cursor, 1), timeout=_OUTLINE_TIMEOUT).whole()
        self._read_labels(outline.runtime)
        return outline.applicationsForRuntime

    def _confirm(self) -> None:
        """Compare the pages with a single reading of the ids. The totals alone do not show that one application was
        replaced by another.
        """
        ids: Counter[str] = Counter()
        cursor = None
        while True:
            answer = self._call(ASSIGNED_IDS, self._variables(cursor, IDS_PER_PAGE))
            page = answer.whole().applicationsForRuntime
            before = len(ids)
            ids.update(item.texts[0] for item in page.items)
            if page.cursor is None:
                break
            if len(ids) == before:
                raise _InconsistentError("the pages of ids do not end")
            cursor = page.cursor
        if dict(ids) != dict(self._ids):  # a comparison of Counters takes much longer
            raise _InconsistentError("the ids changed while the pages were read")

    def _variables(self, cursor: str | None, first: int) -> dict[str, Any]:
        after = {} if cursor is None else {"after": cursor}
        return {"runtime": self._runtime_id, "first": first, **after}

    def _read_labels(self, runtime: Runtime) -> None:
        """Keep the labels of the first page, and only those with text values: others may be of any size."""
        if self._labels:
            return
        self._labels = {
            key: decode(value, str)
            for key, value in (runtime.labels or {}).items()
            if bytes(memoryview(value)[:1]) == b'"'
        }
        self._account(sum(text_memory(f"{key}{value}".encode()) for key, value in self._labels.items()))

    def _take(self, page: Page[Raw], broken: Mapping[int, str]) -> tuple[int, str | None]:
        """Collect the applications of one page."""
        if page.totalCount > self._limits.applications:
            raise TooLarge(
                f"Compass assigns {page.totalCount} Applications, and APP_MAX_APPLICATIONS is "
                f"{self._limits.applications}; raise it, and the container's memory limit"
            )
        for position, text in enumerate(page.items):
            try:
                self._take_item(text, broken.get(position))
            except InvalidAnswer as error:
                error.prepend(f"{_LIST}.data[{position}]")
                raise
        return page.totalCount, page.cursor

    def _take_item(self, text: Raw, error: str | None) -> None:
        """Collect one application. If only this one cannot be read, it is incomplete. `error`: of the Director."""
        digest = hashlib.sha256(text).digest()
        if error is None and (known := self._known.get(digest)) is not None:
            self._next_known[digest] = self._next_known[known.application.id] = known
            self._collect(known.application, known.memory)
            return
        if error is None:
            try:
                application = self._reader.read(decode(text, Application))
            except CompassError as problem:
                if not is_about_one_application(problem):
                    raise
                # In an outage of its database, the Director refuses this in the same way, and then every call.
                self._to_confirm = self._to_confirm or isinstance(problem, Refused)
                error = str(problem)
        if error is not None:
            # Raises InvalidAnswer if it is no object at all.
            self._collect(IncompleteApplication(*decode(text, Identity).texts, error))
            return
        read = self._known.get(application.id)
        if read is None or read.application != application:
            memory = text_memory(text) + self._reader.follow_up_bytes * MEMORY_PER_BYTE + parts_memory(application)
            read = KnownApplication(application, memory)
        self._next_known[application.id] = read
        if not self._reader.follow_ups:
            self._next_known[digest] = read
        self._collect(read.application, read.memory)

    def _collect(self, application: Application | IncompleteApplication, memory: int = 0) -> None:
        self._collected.append(application)
        self._ids[application.id] += 1
        if isinstance(application, IncompleteApplication):
            memory = text_memory(f"{application.id}{application.name}{application.reason}".encode())
        self._account(memory)

    def _account(self, memory: int) -> None:
        self._memory += memory
        if self._memory > self._limits.applications_memory:
            most = size(self._limits.applications_memory)
            raise TooLarge(f"the Applications of Compass take more than {most}; {self._limits.applications_advice()}")


def _errors_by_position(answer: Answer[PageData]) -> tuple[dict[int, str], PageData]:
    """The errors beside the data, by position of the application that they are about, and the data.

    Raises the answer's error when one of them is about more than a single application.
    """
    broken: dict[int, str] = {}
    for entry in answer.errors:
        match entry.path:
            case (str(field), "data", int(position), *_) if field == _LIST:
                broken.setdefault(position, f"graphql: {entry.message}")
            case _:
                raise answer.error()
    if answer.data is None:
        raise answer.error()
    return broken, answer.data
