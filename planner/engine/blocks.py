"""Which KV blocks are free, shared or remembered: reference counts and a prefix cache keyed by a hash chain.

A block whose last user lets go stays remembered under its hash until it is taken again, oldest first
(arXiv 2309.06180, and vLLM's automatic prefix caching). Knows numbers of blocks; knows nothing of arrays.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """`n_blocks` blocks of `block_size` tokens. Not thread-safe; the engine's thread owns it."""

    def __init__(self, n_blocks: int, block_size: int, *, prefix_caching: bool = True) -> None:
        self.n_blocks, self.block_size, self.prefix_caching = n_blocks, block_size, prefix_caching
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(n_blocks))
        self._users = [0] * n_blocks
        self._hash_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}

    @property
    def n_free(self) -> int:
        """Blocks nobody uses, remembered ones included."""
        return len(self._free)

    @property
    def n_used(self) -> int:
        return self.n_blocks - len(self._free)

    def users(self, block: int) -> int:
        """How many sequences hold `block`."""
        return self._users[block]

    def take(self) -> int:
        """A block for one user; the one longest unused, whose content is forgotten."""
        block, _ = self._free.popitem(last=False)
        remembered = self._hash_of.pop(block, None)
        if remembered is not None:
            del self._block_of[remembered]
        self._users[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more user of a remembered or used block."""
        if self._users[block] == 0:
            del self._free[block]
        self._users[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One user less of each; give them in reverse order of position, so that tails are taken first."""
        for block in blocks:
            assert self._users[block] > 0, f"block {block} was released twice"
            self._users[block] -= 1
            if self._users[block] == 0:
                self._free[block] = None

    def match(self, hashes: Iterable[bytes]) -> list[int]:
        """The blocks of the longest remembered prefix of `hashes`; nothing is taken yet."""
        found: list[int] = []
        if self.prefix_caching:
            for key in hashes:
                block = self._block_of.get(key)
                if block is None:
                    break
                found.append(block)
        return found

    def cost_of_sharing(self, blocks: Iterable[int]) -> int:
        """How many of `blocks` are free now and would not be after `share`."""
        return sum(self._users[block] == 0 for block in blocks)

    def remember(self, block: int, key: bytes) -> None:
        """Publish a full, computed block; the first block with a content keeps the name."""
        if self.prefix_caching and key not in self._block_of and block not in self._hash_of:
            self._block_of[key] = block
            self._hash_of[block] = key


def chain_hash(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The key of a full block: its tokens and all before it."""
    return hashlib.blake2b(parent + array("q", tokens).tobytes(), digest_size=16).digest()
