"""One fetch: all applications that the Director assigns to the Runtime, complete and without duplicates, or an error.

The Director pages by offset, so an application that is assigned or unassigned between two pages makes the next page
repeat or skip one. Therefore:

* the totals of all pages must agree with each other and with the number of distinct ids;
* after more than one page, the ids are read again in a single page, which is a snapshot, and must be the same;
* otherwise everything is read again, a few times.

Pages become smaller when an answer is too large or too slow, and grow again. An application that alone is too large or
too slow for a page is incomplete.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Raw

from controller.compass import nested, pages, parsing, plain
from controller.compass.answers import Answer
from controller.compass.budget import Budget, Call
from controller.compass.errors import InvalidAnswer, TooLarge, Unavailable
from controller.compass.graphql import TOTAL_TIMEOUT
from controller.compass.limits import Limits, labels_take, size, text_takes
from controller.compass.pages import Item
from controller.compass.parsing import Object, Page
from controller.compass.queries import ASSIGNED_IDS, FIRST_PAGE, LABELS, NEXT_PAGE, OUTLINE
from controller.compass.readings import Read, Readings, digest_of
from controller.compass.types import Application, Assignment, IncompleteApplication
from controller.compass.values import filled_text, optional_object, required_object, text, within

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


class _InconsistentError(Exception):
    """The list of applications changed while it was read."""


class PageSize:
    """The number of applications in the next request. The size of an answer is known only after it, or if it is too
    large.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.first = most

    def shrink(self, divisor: int) -> None:
        self.first = max(1, self.first // divisor)

    def grow(self, used: float) -> None:
        """After an answer that used this part of the limit: twice as many, if they are likely to fit."""
        if used <= 0.4:
            self.first = min(self._most, self.first * 2)


class Fetch:
    """One fetch for a Runtime: labels, and the applications collected so far by id.

    Applications in `readings` are not parsed again; those of this fetch replace them when it has succeeded.
    """

    def __init__(
        self,
        call: Call,
        runtime_id: str,
        *,
        per_page: int,
        limits: Limits,
        readings: Readings | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget = Budget(call, limits, monotonic)
        self._reader = nested.ApplicationReader(self._budget)
        self._runtime_id = runtime_id
        self._limits = limits
        self._monotonic = monotonic
        self._size = PageSize(per_page)
        self._patience = TOTAL_TIMEOUT  # seconds for a page; fewer after a slow one
        self._labels: dict[str, str] | None = None
        self._applications: dict[str, Application | IncompleteApplication] = {}
        self._memory = 0
        self._readings = readings or Readings()
        self._reading = self._readings.begin()

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
                self._readings.keep(self._reading)
                found = self._applications.values()
                return Assignment(
                    applications=tuple(item for item in found if isinstance(item, Application)),
                    incomplete=tuple(item for item in found if isinstance(item, IncompleteApplication)),
                    labels=self._labels or {},
                )
        raise InvalidAnswer(f"inconsistent in each of {READ_ATTEMPTS} readings: {problem}", path=_LIST)

    def _read_all(self) -> None:
        self._applications.clear()
        self._reading = self._readings.begin()
        self._labels = None
        self._memory = 0
        page = self._read_page(None)
        if self._labels is None:
            self._read_labels(self._budget.call(LABELS, {"runtime": self._runtime_id}))
        total, several = page.total, page.cursor is not None
        while page.cursor is not None:
            page = self._read_page(page.cursor)
            if page.total != total:
                raise _InconsistentError(f"the total went from {total} to {page.total} between pages")
            if page.count == 0 or len(self._applications) > total:
                raise _InconsistentError("the pages do not end where the total says")
        if several:
            self._confirm()
        if len(self._applications) != total:
            raise _InconsistentError(f"the total is {total}, and {len(self._applications)} were read")

    def _read_page(self, cursor: str | None) -> "_PageRead":
        """Collect the next applications, as many as fit into an answer; the first time with the labels."""
        operation = FIRST_PAGE if cursor is None else NEXT_PAGE
        while True:
            first = self._size.first
            began = self._monotonic()
            try:
                variables = self._variables(cursor, first) | {"nested": nested.NESTED_PER_PAGE}
                answer = self._budget.call(operation, variables, timeout=self._patience)
            except TooLarge as error:
                if not error.single:
                    raise
                if first == 1:
                    return self._skip(cursor, f"too large: {error}")
                self._size.shrink(2)
            except Unavailable as error:
                if not error.timed_out:
                    raise
                # If the Director as a whole is slow, this call fails too, and it is an outage.
                self._outline(cursor)
                self._patience = TOTAL_TIMEOUT / 2
                if first == 1:
                    return self._skip(cursor, str(error))
                self._size.shrink(8)
            else:
                took = (self._monotonic() - began) / self._patience
                self._size.grow(max(took, answer.memory / self._limits.answer_memory))
                page, broken = self._page_of(answer, with_labels=cursor is None)
                del answer  # the rest need not be in memory while follow-up pages are read
                return self._take(page, broken)

    def _skip(self, cursor: str | None, reason: str) -> "_PageRead":
        """Skip the next application, of which only id and name can be read."""
        page = self._outline(cursor)
        for item in page.items:
            application_id, name = filled_text(item, "id"), text(item, "name")
            self._collect_incomplete(IncompleteApplication(application_id, name, reason))
        return _PageRead.of(page)

    def _outline(self, cursor: str | None) -> Page[Object]:
        """A page with id and name of the next application only."""
        answer = self._budget.call(OUTLINE, self._variables(cursor, 1), timeout=_OUTLINE_TIMEOUT)
        return parsing.page(answer.whole(), _LIST)

    def _confirm(self) -> None:
        """Compare the pages with a single reading of the ids. The totals alone do not show that one application was
        replaced by another.
        """
        ids: set[str] = set()
        cursor = None
        while True:
            page = parsing.page(self._budget.call(ASSIGNED_IDS, self._variables(cursor, IDS_PER_PAGE)).whole(), _LIST)
            before = len(ids)
            ids.update(parsing.each(page.items, _LIST, lambda item: filled_text(item, "id")))
            if page.cursor is None:
                break
            if len(ids) == before:
                raise _InconsistentError("the pages of ids do not end")
            cursor = page.cursor
        if ids != self._applications.keys():
            raise _InconsistentError("the ids changed while the pages were read")

    def _variables(self, cursor: str | None, first: int) -> dict[str, Any]:
        after = {} if cursor is None else {"after": cursor}
        return {"runtime": self._runtime_id, "first": first, **after}

    def _read_labels(self, answer: Answer) -> None:
        """Keep only labels with text values. Others may be of any size and are not used."""
        runtime = required_object(answer.data or {}, "runtime")
        with within("runtime"):
            labels = optional_object(runtime, "labels") or {}
        self._labels = {key: value for key, value in labels.items() if isinstance(value, str)}
        self._account(labels_take(self._labels))

    def _page_of(self, answer: Answer, *, with_labels: bool) -> tuple[Page[Item], dict[int, str]]:
        """A page of applications, and the errors by application."""
        broken = _errors_by_position(answer)
        required_object(answer.data or {}, _LIST)
        if with_labels:
            self._read_labels(answer)
        return parsing.page_of(answer.data or {}, _LIST, pages.items), broken

    def _take(self, page: Page[Item], broken: Mapping[int, str]) -> "_PageRead":
        """Collect the applications of one page. Empties its list of items, to free their memory."""
        if page.total > self._limits.applications:
            raise TooLarge(
                f"Compass assigns {page.total} Applications, and APP_MAX_APPLICATIONS is {self._limits.applications}; "
                f"raise it, and the container's memory limit"
            )
        read = _PageRead.of(page)
        page.items.reverse()
        for position in range(read.count):
            self._take_item(page.items.pop(), position, broken.get(position))
        return read

    def _take_item(self, item: Item, position: int, reason: str | None) -> None:
        digest = None
        if isinstance(item, Raw) and reason is None:
            digest = digest_of(item)
            if (known := self._known(item, digest)) is not None:
                self._collect(known)
                return
        with within(f"{_LIST}.data[{position}]"):
            fields = pages.parsed(item)
            application_id, name = filled_text(fields, "id"), text(fields, "name")
        if reason is not None:
            self._collect_incomplete(IncompleteApplication(application_id, name, reason))
            return
        found = self._reader.read(application_id, name, fields)
        if isinstance(found, Application):
            self._collect(self._reading.add(found, None if self._reader.has_followed_up else digest))
        else:
            self._collect_incomplete(found)

    def _known(self, text: Raw, digest: bytes) -> Read | None:
        """The earlier result for this text, or the result of `plain`; None if it has to be parsed field by field."""
        known = self._reading.known(digest)
        if known is None and (application := plain.read(text)) is not None:
            known = self._reading.add(application, digest)
        return known

    def _collect(self, read: Read) -> None:
        self._add(read.application)
        self._account(read.memory)

    def _collect_incomplete(self, application: IncompleteApplication) -> None:
        self._add(application)
        self._account(text_takes(application.id, application.name, application.reason))

    def _add(self, application: Application | IncompleteApplication) -> None:
        if application.id in self._applications:
            raise _InconsistentError("an application came twice")
        self._applications[application.id] = application

    def _account(self, memory: int) -> None:
        self._memory += memory
        if self._memory > self._limits.applications_memory:
            most = size(self._limits.applications_memory)
            raise TooLarge(f"the Applications of Compass take more than {most}; {self._limits.applications_advice()}")


class _PageRead:
    """The result of a page whose applications were taken out, so that the memory of the answer is free."""

    def __init__(self, count: int, total: int, cursor: str | None) -> None:
        self.count = count
        self.total = total
        self.cursor = cursor

    @classmethod
    def of(cls, page: Page[Any]) -> "_PageRead":
        return cls(len(page.items), page.total, page.cursor)


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
