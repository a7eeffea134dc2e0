"""PyTorch's caching CUDA allocator, as far as it decides how many bytes a tensor holds.

A tensor holds a whole block. A block comes from a segment (2 MiB steps above 10 MiB, one of 20 MiB below)
or from the cache of freed ones, smallest that fits first; what is left of it is split off unless it is
small, or the block is too large to be split (`max_split_bytes`). So tensors made after temporaries hold a
little more than they asked for. Rules: c10/cuda/CUDACachingAllocator.cpp of PyTorch 2.11 (alloc_block,
get_free_block, should_split). Tensors of up to 1 MiB have a pool of their own, which wastes nothing that
counts: they are not followed. Knows no tensors and no device limit.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from planner.units import MIB, round_up

SMALL_BYTES = MIB
LARGE_BUFFER_BYTES = 20 * MIB
SEGMENT_FROM_BYTES = 10 * MIB
SEGMENT_STEP_BYTES = 2 * MIB
ALIGNMENT_BYTES = 512
NEVER_SPLIT_ABOVE = 1 << 62


class Block:
    """A stretch of a segment; neighbours of the same segment are linked."""

    __slots__ = ("after", "before", "is_free", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.is_free = False
        self.before: Block | None = None
        self.after: Block | None = None


class CachingAllocator:
    """`held_bytes` of the blocks in use. `max_split_bytes`: blocks of this size and more are never split."""

    __slots__ = ("_free", "_made", "held_bytes", "max_split_bytes")

    def __init__(self, max_split_bytes: int = NEVER_SPLIT_ABOVE) -> None:
        self.max_split_bytes = max_split_bytes
        self.held_bytes = 0
        self._free: list[tuple[int, int, Block]] = []
        self._made = 0

    def allocate(self, n_bytes: int) -> Block:
        """The block that a tensor of `n_bytes` gets."""
        size = round_up(n_bytes, ALIGNMENT_BYTES)
        block = self._cached(size) if size > SMALL_BYTES else Block(size)
        if block is None:
            step = round_up(size, SEGMENT_STEP_BYTES)
            block = Block(LARGE_BUFFER_BYTES if size < SEGMENT_FROM_BYTES else step)
        if size < self.max_split_bytes and block.size - size > SMALL_BYTES:
            self._split(block, size)
        self.held_bytes += block.size
        return block

    def _cached(self, size: int) -> Block | None:
        at = bisect_left(self._free, (size,))
        if at == len(self._free):
            return None
        found = self._free[at][0]
        limit = self.max_split_bytes if size < self.max_split_bytes else size + LARGE_BUFFER_BYTES
        if found >= limit:
            return None
        block = self._free.pop(at)[2]
        block.is_free = False
        return block

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.size - size)
        rest.before, rest.after = block, block.after
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        self._keep(rest)

    def free(self, block: Block) -> None:
        """Give `block` back to the cache, joined with free neighbours."""
        self.held_bytes -= block.size
        if block.size <= SMALL_BYTES and block.before is None and block.after is None:
            return
        before, after = block.before, block.after
        if after is not None and after.is_free:
            self._drop(after)
            block.size += after.size
            block.after = after.after
            if block.after is not None:
                block.after.before = block
        if before is not None and before.is_free:
            self._drop(before)
            before.size += block.size
            before.after = block.after
            if before.after is not None:
                before.after.before = before
            block = before
        self._keep(block)

    def _keep(self, block: Block) -> None:
        self._made += 1
        block.is_free = True
        insort(self._free, (block.size, self._made, block))

    def _drop(self, block: Block) -> None:
        at = bisect_left(self._free, (block.size,))
        while self._free[at][2] is not block:
            at += 1
        del self._free[at]
