"""The forward pass: one step's rows in, logits out. Written for any number of tensor-parallel ranks.

A rank holds its slice of every matrix and its own KV blocks; after attention and MLP the ranks' parts are summed.
One rank is the ordinary case. Ranks run one after the other: this checks sharding, it does not speed it up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from planner.engine.attention import Attention, make_attention
from planner.engine.batch import Chunk, Step, make_step
from planner.engine.cache import Cache, ContiguousCache, Indices, PagedCache
from planner.engine.config import ModelConfig
from planner.engine.layout import expected_tensors
from planner.engine.mlp import GatedMlp, RoutedMlp, make_mlp
from planner.engine.ops import by_input, linear, rms_norm, softcap
from planner.engine.rope import Rope, tables
from planner.engine.sharding import shard
from planner.formats.arrays import Floats


class Rank:
    """One rank's weights, in the form in which the forward pass uses them."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Floats], rank: int, size: int) -> None:
        embedding = weights["model.embed_tokens.weight"]
        self.head = by_input(embedding if config.tied else weights["lm_head.weight"])
        self.embedding = self.head.T if config.tied else embedding
        self.first_token = rank * -(-config.vocab_size // size)
        self.attention: list[Attention] = []
        self.mlp: list[GatedMlp | RoutedMlp] = []
        for i, layer in enumerate(config.layers):
            prefix = f"model.layers.{i}."
            self.attention.append(make_attention(weights, prefix + "self_attn.", config))
            self.mlp.append(make_mlp(weights, prefix, config, layer))
        self.norms = {n: w + np.float32(config.norm_offset) for n, w in weights.items() if n in _norm_names(config)}

    def embed(self, tokens: Indices) -> Floats:
        """Rows of the embedding; zero for tokens of other ranks."""
        local = tokens - self.first_token
        inside = (local >= 0) & (local < len(self.embedding))
        if inside.all():
            return self.embedding[local]
        return np.where(inside[:, None], self.embedding[np.where(inside, local, 0)], np.float32(0))

    def arrays(self) -> Iterable[Floats]:
        """Every weight array once; a tied embedding is a view of the head."""
        blocks = [*self.attention, *self.mlp]
        found = [self.head, *self.norms.values(), *(a for b in blocks for a in b.arrays())]
        found += [self.embedding] if self.embedding.base is not self.head else []
        return [array for array in found if array is not None]


class Model:
    """All ranks, and the steps between them."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Floats], tensor_parallel: int = 1) -> None:
        self.config = config
        every = dict(weights)
        assert every.keys() == expected_tensors(config).keys(), "weights come from `collect`, which checks names"
        shares = [
            shard(every, r, tensor_parallel, config) if tensor_parallel > 1 else every for r in range(tensor_parallel)
        ]
        self.ranks = [Rank(config, share, r, tensor_parallel) for r, share in enumerate(shares)]
        self._norms = self.ranks[0].norms

    @property
    def allocated_weight_bytes(self) -> int:
        """What numpy allocated for weights, all ranks."""
        return sum(array.nbytes for rank in self.ranks for array in rank.arrays())

    def paged_caches(self, n_blocks: int, block_size: int, dtype: str = "float32") -> list[Cache]:
        """Every rank's blocks."""
        return [PagedCache(r.attention[0].kv_shape, n_blocks, block_size, dtype) for r in self.ranks]

    def forward(self, step: Step, caches: Sequence[Cache]) -> Floats:
        """Logits (wanted rows, vocabulary) of the step; K and V of its rows are written to `caches`."""
        config = self.config
        positions: dict[Rope, tuple[Floats, Floats]] = {}
        x = _total(rank.embed(step.tokens) for rank in self.ranks)
        if config.embedding_scale != 1:
            x = x * np.float32(config.embedding_scale)
        for i, layer in enumerate(config.layers):
            table = positions.setdefault(layer.rope, positions.get(layer.rope) or tables(layer.rope, step.positions))
            h = self._norm(x, i, "input_layernorm")
            ranks = zip(self.ranks, caches, strict=True)
            mixed = _total(r.attention[i](h, i, layer, step, table, cache) for r, cache in ranks)
            if config.sandwich_norms:
                x = x + self._norm(mixed, i, "post_attention_layernorm")
                out = _total(r.mlp[i](self._norm(x, i, "pre_feedforward_layernorm")) for r in self.ranks)
                x = x + self._norm(out, i, "post_feedforward_layernorm")
            else:
                x = x + mixed
                h = self._norm(x, i, "post_attention_layernorm")
                x = x + _total(r.mlp[i](h) for r in self.ranks)
        last = rms_norm(x[step.last_rows], self._norms["model.norm.weight"], config.norm_eps)
        logits = [linear(last, rank.head) for rank in self.ranks]
        return softcap(np.concatenate(logits, axis=1) if len(logits) > 1 else logits[0], config.final_softcap)

    def logits(self, tokens: Sequence[int]) -> Floats:
        """Logits (tokens, vocabulary) of one sequence through contiguous caches, without blocks or scheduler."""
        caches: list[Cache] = [ContiguousCache(r.attention[0].kv_shape, len(tokens)) for r in self.ranks]
        step = make_step([Chunk(tokens, 0, [0])], block_size=len(tokens), every_row=True)
        return self.forward(step, caches)

    def _norm(self, x: Floats, layer: int, name: str) -> Floats:
        return rms_norm(x, self._norms[f"model.layers.{layer}.{name}.weight"], self.config.norm_eps)


def _total(parts: Iterable[Floats]) -> Floats:
    """The all-reduce."""
    each = iter(parts)
    total = next(each)
    for part in each:
        total = total + part
    return total


def _norm_names(config: ModelConfig) -> set[str]:
    return {name for name in expected_tensors(config) if name.endswith("norm.weight") and ".self_attn." not in name}
