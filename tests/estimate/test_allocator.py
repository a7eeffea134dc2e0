"""Blocks come from segments and from what was freed, as PyTorch's allocator hands them out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.estimate.allocator import LARGE_BUFFER_BYTES, NEVER_SPLIT_ABOVE, CachingAllocator
from planner.units import MIB

KEEP_WHOLE = 20 * MIB


@pytest.mark.parametrize(
    ("asked", "limit", "held"),
    [
        (25 * MIB, KEEP_WHOLE, 26 * MIB),  # a segment of its own, not split
        (25 * MIB, NEVER_SPLIT_ABOVE, 26 * MIB),  # the rest is no more than 1 MiB
        (24 * MIB + MIB // 2, NEVER_SPLIT_ABOVE, 24 * MIB + MIB // 2),  # 1.5 MiB are split off
        (24 * MIB + MIB // 2, KEEP_WHOLE, 26 * MIB),
        (4 * MIB, KEEP_WHOLE, 4 * MIB),  # out of a shared segment of 20 MiB
        (1000, KEEP_WHOLE, 1024),
    ],
)
def test_a_fresh_tensor_holds_its_segment_or_its_share(asked: int, limit: int, held: int) -> None:
    allocator = CachingAllocator(limit)
    allocator.allocate(asked)
    assert allocator.held_bytes == held


@pytest.mark.parametrize(("limit", "held"), [(KEEP_WHOLE, 64), (NEVER_SPLIT_ABOVE, 48)])
def test_a_freed_block_is_reused_whole_where_it_may_not_be_split(limit: int, held: int) -> None:
    allocator = CachingAllocator(limit)
    allocator.free(allocator.allocate(64 * MIB))
    allocator.allocate(48 * MIB)
    assert allocator.held_bytes == held * MIB


def test_a_block_that_is_much_larger_is_left_alone() -> None:
    allocator = CachingAllocator(KEEP_WHOLE)
    allocator.free(allocator.allocate(64 * MIB))
    allocator.allocate(44 * MIB)
    assert allocator.held_bytes == 44 * MIB


def test_free_neighbours_become_one_block_again() -> None:
    allocator = CachingAllocator(KEEP_WHOLE)
    for block in [allocator.allocate(6 * MIB) for _ in range(3)]:
        allocator.free(block)
    allocator.allocate(9 * MIB)
    allocator.allocate(9 * MIB)
    assert allocator.held_bytes == 18 * MIB


@given(
    st.lists(st.tuples(st.integers(1, 90 * MIB), st.booleans()), max_size=60),
    st.sampled_from([KEEP_WHOLE, NEVER_SPLIT_ABOVE]),
)
def test_a_block_holds_its_tensor_and_never_much_more(tensors: list[tuple[int, bool]], limit: int) -> None:
    allocator = CachingAllocator(limit)
    kept = []
    for n_bytes, is_kept in tensors:
        block = allocator.allocate(n_bytes)
        assert n_bytes <= block.size < n_bytes + LARGE_BUFFER_BYTES + 512
        if is_kept:
            kept.append(block)
        else:
            allocator.free(block)
    assert allocator.held_bytes == sum(b.size for b in kept)
    for block in kept:
        allocator.free(block)
    assert allocator.held_bytes == 0
