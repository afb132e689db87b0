"""How long drift lasts: an Application is edited repeatedly, and the time until each edit is undone is measured."""

import threading
import time
from types import TracebackType
from typing import Self

from controller.resources import APPLICATION
from e2e.scenarios.target import Target
from informers import ApiError

_PAUSE_SECONDS = 0.05
_GIVE_UP_SECONDS = 120.0  # beyond every limit that is asserted


class DriftProbe:
    """Edits from the beginning of the block to its end. `gaps`: seconds that each edit lasted."""

    def __init__(self, target: Target, application: str) -> None:
        self._client = target.client
        self._name = application
        self._wanted = target.applications()[application]["spec"]["description"]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift-probe")
        self._failure: Exception | None = None
        self.gaps: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Ends after the last edit is undone; raises what the probe met, unless the block has failed by itself."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    @property
    def longest(self) -> float:
        return max(self.gaps)

    def _run(self) -> None:
        try:
            while not self._stop.wait(_PAUSE_SECONDS):
                self._edit()
        except (ApiError, TimeoutError) as error:
            self._failure = error

    def _edit(self) -> None:
        began = time.monotonic()
        self._client.patch(APPLICATION, self._name, {"spec": {"description": f"edit {len(self.gaps)}"}})
        while self._client.get(APPLICATION, self._name)["spec"]["description"] != self._wanted:
            if time.monotonic() - began > _GIVE_UP_SECONDS:
                raise TimeoutError(f"an edit of {self._name} was not undone within {_GIVE_UP_SECONDS:g} s")
            time.sleep(_PAUSE_SECONDS)
        self.gaps.append(time.monotonic() - began)
