"""The heap below the queues."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workqueue._keyed_heap import KeyedHeap


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_pops_by_lowest_rank_then_first_arrival(pushes: list[tuple[int, int]]) -> None:
    """Each key once, with the lowest rank it was pushed with."""
    heap: KeyedHeap[int] = KeyedHeap()
    lowest: dict[int, int] = {}  # in order of arrival
    for key, rank in pushes:
        heap.push(key, rank)
        lowest[key] = min(rank, lowest.get(key, rank))
    assert heap.first_rank() == min(lowest.values(), default=None)
    assert len(heap) == len(lowest)
    assert [heap.pop() for _ in range(len(heap))] == sorted(
        ((rank, key) for key, rank in lowest.items()), key=lambda entry: entry[0]
    )
    assert heap.first_rank() is None
    with pytest.raises(IndexError):
        heap.pop()


def test_moves_leave_no_litter() -> None:
    """A key that moves forward without end takes no more memory than one that stays."""
    heap: KeyedHeap[str] = KeyedHeap()
    for rank in range(10_000):
        heap.push("a", -rank)
        heap.push("b", 0)
    assert len(heap._heap) < 100
    assert [heap.pop(), heap.pop()] == [(-9999, "a"), (0, "b")]


def test_stale_entry_does_not_stand_for_a_later_push() -> None:
    """A key pushed again after pop() queues up behind what came before, although its old entry is still there."""
    heap: KeyedHeap[str] = KeyedHeap()
    heap.push("a", 1)
    heap.push("a", 0)  # the entry with rank 1 is stale now
    heap.pop()
    heap.push("b", 1)
    heap.push("a", 1)
    assert [heap.pop(), heap.pop()] == [(1, "b"), (1, "a")]
