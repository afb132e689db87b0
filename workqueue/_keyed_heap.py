"""A heap that holds each key once and lets a key move forward."""

import heapq
import itertools
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_STALE_ENTRIES_TOLERATED = 64  # below this a rebuild costs more than the memory it frees


class KeyedHeap(Generic[K]):
    """Keys in order of rank, lowest first, and of arrival within a rank. Not thread-safe.

    push() and pop() are O(log n), amortised. A key that moves leaves its old entry in the heap, where it is recognised
    as stale; the heap is rebuilt before such entries outnumber the keys.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._entries: dict[K, tuple[float, int, K]] = {}  # the entry of each key that counts
        self._arrivals = itertools.count()  # unique, so two keys are never compared

    def __iter__(self) -> Iterator[K]:
        """The keys, in no order. The heap may change meanwhile."""
        return iter([*self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, key: K, rank: float) -> None:
        """Take in a key. One that is held moves if the new rank is lower, keeping its arrival, and else stays."""
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
        """The lowest rank; None if there is no key."""
        heap = self._heap
        while heap:
            rank, _, key = entry = heap[0]
            if self._entries.get(key) is entry:
                return rank
            heapq.heappop(heap)
        return None

    def pop(self) -> tuple[float, K]:
        """Take out the first key: (rank, key). Raises IndexError if there is none."""
        while True:
            rank, _, key = entry = heapq.heappop(self._heap)
            if self._entries.get(key) is entry:
                del self._entries[key]
                return rank, key

    def clear(self) -> None:
        self._heap.clear()
        self._entries.clear()
