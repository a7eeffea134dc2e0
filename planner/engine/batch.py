"""A step as arrays: tokens, positions, slots, and which rows attend to which blocks under which mask.

Sequences that decode (one row each) are grouped by similar context length, so that padding at most doubles the
work; a chunk of a prompt is a group of its own. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np

from planner.engine.cache import Indices
from planner.formats.arrays import Floats


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `tokens` of a sequence, from position `start`, with the blocks of its whole context."""

    tokens: Items[int]
    start: int
    blocks: Items[int]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class View:
    """What a group sees through one window: block tables, keys in use, and an additive mask (n, 1, 1, rows, keys)."""

    tables: Indices
    first_key: int
    n_keys: int
    mask: Floats | None


@dataclass(slots=True)
class Group:
    """Rows of the step that attend together: `rows` (sequences × queries), query positions of the same shape."""

    rows: Indices
    positions: Indices
    tables: Indices
    block_size: int
    _views: dict[int | None, View] = field(default_factory=dict)

    def view(self, window: int | None) -> View:
        """The view through `window`, made once per step."""
        if window not in self._views:
            self._views[window] = self._make(window)
        return self._views[window]

    def _make(self, window: int | None) -> View:
        size = self.block_size
        first = np.zeros(len(self.tables), np.int64)
        if window is not None:
            first = np.maximum(self.positions[:, 0] - window + 1, 0) // size
        n_blocks = int((self.positions[:, -1] // size - first).max()) + 1
        columns = np.minimum(first[:, None] + np.arange(n_blocks), self.tables.shape[1] - 1)
        tables = np.take_along_axis(self.tables, columns, axis=1)
        offset = int((self.positions[:, 0] - (window or 0) + 1 - first * size).min()) if window else 0
        skip = max(offset, 0)
        n_keys = int((self.positions[:, -1] - first * size).max()) + 1 - skip
        keys = first[:, None] * size + skip + np.arange(n_keys)
        distance = self.positions[:, :, None] - keys[:, None, :]
        hidden = distance < 0
        if window is not None:
            hidden |= distance >= window
        mask = None
        if hidden.any():
            mask = np.where(hidden, np.float32(-np.inf), np.float32(0))[:, None, None]
        return View(tables, skip, n_keys, mask)


@dataclass(frozen=True, slots=True)
class Step:
    """All chunks of a step, flattened to rows. `last_rows` are the rows whose logits are wanted."""

    tokens: Indices
    positions: Indices
    slots: Indices
    groups: tuple[Group, ...]
    last_rows: Indices


MAX_QUERIES = 128  # rows of a prompt chunk that attend at once
MAX_PAIRS = 1 << 18  # queries × keys of a group, so that a long context does not make a huge score matrix


def make_step(
    chunks: Items[Chunk], block_size: int, wanted: Items[bool] | None = None, *, every_row: bool = False
) -> Step:
    """Flatten `chunks`; logits of each chunk's last row, or of those `wanted`, or of every row."""
    lengths = [len(c.tokens) for c in chunks]
    begins = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.fromiter((t for c in chunks for t in c.tokens), np.int64, int(begins[-1]))
    positions = np.concatenate([np.arange(c.start, c.end) for c in chunks])
    slots = np.concatenate([_slots(c, block_size) for c in chunks])
    decoding: dict[int, list[int]] = {}
    groups: list[Group] = []
    for i, chunk in enumerate(chunks):
        if lengths[i] == 1:
            decoding.setdefault(len(chunk.blocks).bit_length(), []).append(i)
            continue
        table = np.asarray(chunk.blocks, np.int64)[None]
        each = max(4, min(MAX_QUERIES, MAX_PAIRS // chunk.end))
        for begin in range(0, lengths[i], each):
            queries = np.arange(begin, min(begin + each, lengths[i]))[None]
            groups.append(Group(begins[i] + queries, chunk.start + queries, table, block_size))
    for members in decoding.values():
        width = max(len(chunks[i].blocks) for i in members)
        tables = np.zeros((len(members), width), np.int64)
        for row, i in enumerate(members):
            tables[row, : len(chunks[i].blocks)] = chunks[i].blocks
        rows = begins[members][:, None]
        groups.append(Group(rows, positions[rows], tables, block_size))
    last = begins[1:] - 1
    if wanted is not None:
        last = last[np.asarray(wanted, bool)]
    return Step(tokens, positions, slots, tuple(groups), np.arange(begins[-1]) if every_row else last)


def _slots(chunk: Chunk, block_size: int) -> Indices:
    positions = np.arange(chunk.start, chunk.end)
    return np.asarray(chunk.blocks, np.int64)[positions // block_size] * block_size + positions % block_size
