"""K and V in memory: paged (blocks behind block tables) and contiguous (one run per sequence, for comparison).

A layer's entry is (blocks, block size, heads, width). MLA keeps one latent of `kv_rank + rope_dim` numbers, and its
values are the first `kv_rank` of the keys, so it has no second array. Knows nothing of who owns a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.formats.arrays import Floats

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class KvShape:
    """What one rank keeps per token and layer. `value_width` 0: values are a prefix of the keys (MLA)."""

    layers: int
    heads: int
    key_width: int
    value_width: int
    value_prefix: int = 0


class PagedCache:
    """One rank's blocks, all layers. `dtype` is what is stored; reading gives float32."""

    def __init__(self, shape: KvShape, n_blocks: int, block_size: int, dtype: str = "float32") -> None:
        self.shape, self.block_size = shape, block_size
        self._keys = np.zeros((shape.layers, n_blocks, block_size, shape.heads, shape.key_width), dtype)
        self._values = np.zeros((shape.layers, n_blocks, block_size, shape.heads, shape.value_width), dtype)

    @property
    def allocated_bytes(self) -> int:
        """What numpy allocated for keys and values."""
        return self._keys.nbytes + self._values.nbytes

    def write(self, layer: int, slots: Indices, keys: Floats, values: Floats | None) -> None:
        """Store (tokens, heads, width) at flat `slots` = block × block size + place."""
        flat = self._keys[layer].reshape(-1, self.shape.heads, self.shape.key_width)
        flat[slots] = keys
        if values is not None:
            self._values[layer].reshape(-1, self.shape.heads, self.shape.value_width)[slots] = values

    def read(self, layer: int, tables: Indices) -> tuple[Floats, Floats]:
        """Keys and values (sequences, tokens, heads, width) of the blocks in `tables` (sequences, blocks)."""
        keys = self._gather(self._keys[layer], tables)
        if self.shape.value_prefix:
            return keys, keys[..., : self.shape.value_prefix]
        return keys, self._gather(self._values[layer], tables)

    def _gather(self, blocks: npt.NDArray[np.floating], tables: Indices) -> Floats:
        taken = blocks[tables[0, 0] : tables[0, 0] + 1] if tables.size == 1 else blocks.take(tables, axis=0)
        n, width = tables.shape
        return taken.reshape(n, width * self.block_size, *blocks.shape[2:]).astype(np.float32, copy=False)


class ContiguousCache:
    """One sequence in one run of memory: block tables, slots and sharing play no part."""

    def __init__(self, shape: KvShape, capacity: int) -> None:
        self.shape = shape
        self._keys = np.zeros((shape.layers, capacity, shape.heads, shape.key_width), np.float32)
        self._values = np.zeros((shape.layers, capacity, shape.heads, shape.value_width), np.float32)
        self._length = [0] * shape.layers

    @property
    def allocated_bytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def write(self, layer: int, slots: Indices, keys: Floats, values: Floats | None) -> None:
        """Append; `slots` is not looked at."""
        begin = self._length[layer]
        self._length[layer] = end = begin + len(keys)
        self._keys[layer, begin:end] = keys
        if values is not None:
            self._values[layer, begin:end] = values

    def read(self, layer: int, tables: Indices) -> tuple[Floats, Floats]:
        """Everything appended so far, (1, tokens, heads, width); `tables` is not looked at."""
        keys = self._keys[layer, : self._length[layer]][None]
        prefix = self.shape.value_prefix
        return keys, keys[..., :prefix] if prefix else self._values[layer, : self._length[layer]][None]


Cache = PagedCache | ContiguousCache
