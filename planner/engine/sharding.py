"""Tensor parallelism: the slice of every tensor that one rank holds (Megatron-LM's rule, arXiv 1909.08053).

Query, key, value, gate and up are cut by output row, o and down by input column, the vocabulary by row; norms,
routers and MLA's latent projections are whole on every rank. With fewer KV heads than ranks, KV heads are
repeated. The bias of a column-cut matrix stays on rank 0, because ranks are summed.
"""

from __future__ import annotations

import re

import numpy as np

from planner.engine.config import ModelConfig
from planner.engine.weights import Weights
from planner.errors import UsageError
from planner.formats.arrays import Floats

_ROWS = re.compile(r"(gate_proj|up_proj|w1|w3|q_proj|q_b_proj|kv_b_proj)\.(weight|bias)$")
_KV = re.compile(r"(k_proj|v_proj)\.(weight|bias)$")
_COLUMNS = re.compile(r"(o_proj|down_proj|w2)\.weight$")
_SUMMED_BIAS = re.compile(r"(o_proj|down_proj)\.bias$")
_VOCABULARY = re.compile(r"^(model\.embed_tokens|lm_head)\.weight$")


def shard(weights: Weights, rank: int, size: int, config: ModelConfig) -> Weights:
    """Rank `rank`'s tensors of `size` ranks, copied. Raises UsageError when heads or widths do not divide."""
    if not 0 <= rank < size:
        raise UsageError(f"rank {rank} of {size} does not exist")
    widths = [config.intermediate_size] if not all(layer.routed for layer in config.layers) else []
    if config.moe:
        widths += [config.moe.intermediate_size, config.moe.shared_intermediate_size]
    if config.heads % size or any(width % size for width in widths):
        raise UsageError(f"tensor parallel {size} does not divide {config.heads} heads and widths {widths}")
    if config.kv_heads % size and size % config.kv_heads:
        raise UsageError(f"tensor parallel {size} and {config.kv_heads} KV heads do not divide each other")
    cut: Weights = {}
    for name, value in weights.items():
        if _SUMMED_BIAS.search(name) and rank:
            continue
        cut[name] = np.array(_slice(name, value, rank, size, config))
    return cut


def _slice(name: str, value: Floats, rank: int, size: int, config: ModelConfig) -> Floats:
    if _VOCABULARY.search(name):
        rows = -(-len(value) // size)
        return value[rank * rows : (rank + 1) * rows]
    if _ROWS.search(name):
        rows = len(value) // size
        return value[rank * rows : (rank + 1) * rows]
    if _KV.search(name):
        heads = value.reshape(config.kv_heads, config.head_dim, *value.shape[1:])
        each = max(1, config.kv_heads // size)
        first = rank * config.kv_heads // size
        return heads[first : first + each].reshape(each * config.head_dim, *value.shape[1:])
    if _COLUMNS.search(name):
        columns = value.shape[1] // size
        return value[:, rank * columns : (rank + 1) * columns]
    return value
