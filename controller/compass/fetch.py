"""One fetch: all applications that the Director assigns to the Runtime, complete and without duplicates, or an error.

The Director pages by offset, so an application that is assigned or unassigned between two pages makes the next page
repeat or skip one. Therefore:

* the totals of all pages must agree with each other and with the number of distinct ids;
* after more than one page, the ids are read again in a single page, which is a snapshot, and must be the same;
* otherwise everything is read again, a few times.

Pages become smaller when an answer is too large or too slow, and grow again. An application that alone is too large or
too slow for a page is incomplete, and so is one with a field that does not fit. With an incomplete application that has
no id, nothing is deleted.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Raw

from controller.compass import nested
from controller.compass.answers import Answer
from controller.compass.budget import Budget, Call
from controller.compass.decoder import ApplicationNode, FirstPageData, Identity, NextPageData, Page, Runtime, decode
from controller.compass.errors import CompassError, InvalidAnswer, TooLarge, Unavailable
from controller.compass.graphql import TOTAL_TIMEOUT
from controller.compass.limits import MEMORY_PER_BYTE, Limits, size, text_memory
from controller.compass.nested import ApplicationReader, is_about_one_application
from controller.compass.queries import ASSIGNED_IDS, FIRST_PAGE, LABELS, NEXT_PAGE, OUTLINE, Operation
from controller.compass.readings import Readings, digest_of
from controller.compass.types import Application, Assignment, IncompleteApplication

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
        self._reader = ApplicationReader(self._budget)
        self._runtime_id = runtime_id
        self._limits = limits
        self._monotonic = monotonic
        self._size = PageSize(per_page)
        self._patience = TOTAL_TIMEOUT  # seconds for a page; fewer after a slow one
        self._labels: dict[str, str] | None = None
        self._collected: list[Application | IncompleteApplication] = []
        self._ids: Counter[str] = Counter()  # of what is collected; "" for an application without an id
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
        return Assignment(tuple(complete), tuple(dict.fromkeys(incomplete)), self._labels or {})

    def _read_all(self) -> None:
        self._collected.clear()
        self._ids.clear()
        self._reading = self._readings.begin()
        self._labels = None
        self._memory = 0
        page = self._read_page(None)
        if self._labels is None:
            self._read_labels(self._budget.call(LABELS, {"runtime": self._runtime_id}).whole().runtime)
        total, several = page.total, page.cursor is not None
        while page.cursor is not None:
            page = self._read_page(page.cursor)
            if page.total != total:
                raise _InconsistentError(f"the total went from {total} to {page.total} between pages")
            if page.count == 0 or len(self._collected) > total:
                raise _InconsistentError("the pages do not end where the total says")
        if several:
            self._confirm()
        if len(self._collected) != total:
            raise _InconsistentError(f"the total is {total}, and {len(self._collected)} were read")

    def _read_page(self, cursor: str | None) -> "_PageRead":
        """Collect the next applications, as many as fit into an answer; the first time with the labels."""
        operation: Operation[Any] = FIRST_PAGE if cursor is None else NEXT_PAGE
        while True:
            first = self._size.first
            began = self._monotonic()
            try:
                variables = self._variables(cursor, first) | {"nested": nested.NESTED_PER_PAGE}
                answer: Answer[Any] = self._budget.call(operation, variables, timeout=self._patience)
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
                self._size.grow(max(took, answer.size / self._limits.answer_bytes))
                broken = _errors_by_position(answer)
                data = answer.partial()
                del answer
                if isinstance(data, FirstPageData):
                    self._read_labels(data.runtime)
                return self._take(data, broken)

    def _skip(self, cursor: str | None, reason: str) -> "_PageRead":
        """Skip the next application, of which only id and name can be read."""
        page = self._outline(cursor)
        for item in page.items:
            self._collect(IncompleteApplication(*item.texts, reason))
        return _PageRead.of(page)

    def _outline(self, cursor: str | None) -> Page[Identity]:
        """A page with id and name of the next application only."""
        answer = self._budget.call(OUTLINE, self._variables(cursor, 1), timeout=_OUTLINE_TIMEOUT)
        return answer.whole().applicationsForRuntime

    def _confirm(self) -> None:
        """Compare the pages with a single reading of the ids. The totals alone do not show that one application was
        replaced by another.
        """
        ids: Counter[str] = Counter()
        cursor = None
        while True:
            answer = self._budget.call(ASSIGNED_IDS, self._variables(cursor, IDS_PER_PAGE))
            page = answer.whole().applicationsForRuntime
            before = len(ids)
            ids.update(item.texts[0] for item in page.items)
            if page.cursor is None:
                break
            if len(ids) == before:
                raise _InconsistentError("the pages of ids do not end")
            cursor = page.cursor
        if ids != self._ids:
            raise _InconsistentError("the ids changed while the pages were read")

    def _variables(self, cursor: str | None, first: int) -> dict[str, Any]:
        after = {} if cursor is None else {"after": cursor}
        return {"runtime": self._runtime_id, "first": first, **after}

    def _read_labels(self, runtime: Runtime) -> None:
        """Keep only labels with text values. Others may be of any size and are not used."""
        self._labels = {
            key: decode(value, str)
            for key, value in (runtime.labels or {}).items()
            if bytes(memoryview(value)[:1]) == b'"'
        }
        self._account(sum(text_memory(f"{key}{value}".encode()) for key, value in self._labels.items()))

    def _take(self, data: NextPageData, broken: Mapping[int, str]) -> "_PageRead":
        """Collect the applications of one page. Empties its list of items, to free their memory."""
        page = data.applicationsForRuntime
        if page.totalCount > self._limits.applications:
            raise TooLarge(
                f"Compass assigns {page.totalCount} Applications, and APP_MAX_APPLICATIONS is "
                f"{self._limits.applications}; raise it, and the container's memory limit"
            )
        read, items = _PageRead.of(page), page.items
        items.reverse()
        for position in range(read.count):
            try:
                self._take_item(items.pop(), broken.get(position))
            except InvalidAnswer as error:
                error.prepend(f"{_LIST}.data[{position}]")
                raise
        return read

    def _take_item(self, text: Raw, error: str | None) -> None:
        """Collect one application. If only this one cannot be read, it is incomplete. `error`: of the Director."""
        digest = digest_of(text)
        if error is None and (known := self._reading.known(digest)) is not None:
            self._collect(known.application, known.memory)
            return
        if error is None:
            try:
                application = self._reader.read(decode(text, ApplicationNode))
            except CompassError as problem:
                if not is_about_one_application(problem):
                    raise
                error = str(problem)
        if error is not None:
            # Raises InvalidAnswer if it is no object at all.
            self._collect(IncompleteApplication(*decode(text, Identity).texts, error))
            return
        digest_of_whole = None if self._reader.has_followed_up else digest
        more = self._reader.follow_up_bytes * MEMORY_PER_BYTE
        read = self._reading.add(application, digest_of_whole, text_memory=lambda: text_memory(text) + more)
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


class _PageRead:
    """The result of a page whose applications were taken out, so that the memory of the answer is free."""

    def __init__(self, count: int, total: int, cursor: str | None) -> None:
        self.count = count
        self.total = total
        self.cursor = cursor

    @classmethod
    def of(cls, page: Page[Any]) -> "_PageRead":
        return cls(len(page.items), page.totalCount, page.cursor)


def _errors_by_position(answer: Answer[Any]) -> dict[int, str]:
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
