"""A heap that contains each key once and can move a key forward."""

import heapq
import itertools
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_STALE_ENTRIES_TOLERATED = 64  # below this a rebuild costs more than the memory it frees


class KeyedHeap(Generic[K]):
    """Keys in order of rank, lowest first, and of arrival within a rank. Not thread-safe.

    push() and pop() are O(log n), amortised. A key that moves leaves its old entry in the heap, which is recognised as
    stale. The heap is rebuilt before stale entries outnumber the keys.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._entries: dict[K, tuple[float, int, K]] = {}  # the current entry of each key
        self._arrivals = itertools.count()  # unique, so that keys are never compared

    def __iter__(self) -> Iterator[K]:
        """The keys, in no order. The heap may change during the iteration."""
        return iter([*self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, key: K, rank: float) -> None:
        """Add a key. An existing key moves if the new rank is lower, with its old arrival, and else stays."""
        held = self._entries.get(key)
        if held is None:
            entry = (rank, next(self._arrivals), key)
        elif rank < held[0]:
            entry = (rank, held[1], key)
        else:
            return
        self._entries[key] = entry
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + _STALE_ENTRIES_TOLERATED:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def first_rank(self) -> float | None:
        """The lowest rank; None if the heap is empty."""
        heap = self._heap
        while heap:
            rank, _, key = entry = heap[0]
            if self._entries.get(key) is entry:
                return rank
            heapq.heappop(heap)
        return None

    def pop(self) -> tuple[float, K]:
        """Remove the first key: (rank, key). Raises IndexError if the heap is empty."""
        while True:
            rank, _, key = entry = heapq.heappop(self._heap)
            if self._entries.get(key) is entry:
                del self._entries[key]
                return rank, key

    def clear(self) -> None:
        self._heap.clear()
        self._entries.clear()
