"""The KV pool that a budget leaves, kept as a shape so that another budget costs only a division.

Grouping layers into pages is `kvcache.kv_pool`; here it is done once per model, stage and context.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil

from planner.estimate.deployment import Deployment
from planner.estimate.identity import remembered
from planner.estimate.kvcache import KvPool, PoolRules, kv_pool
from planner.estimate.weights import stage_layers
from planner.spec.model import ModelSpec

PROBE_BYTES = 1 << 50
GAUDI_BLOCK_TOKENS = 128


@remembered
def _geometry(
    model: ModelSpec, tp: int, pp: int, stage: int, itemsize: float, max_model_len: int, rules: PoolRules
) -> KvPool:
    layers = stage_layers(model.n_layers, pp, stage)
    return kv_pool(
        model, PROBE_BYTES, max_model_len=max_model_len, kv_dtype_bytes=itemsize, tp=tp, layers=layers, rules=rules
    )


@lru_cache(maxsize=1024)
def _rules(block_tokens: int, hybrid: bool, tokens: int, draft_tokens: int) -> PoolRules:
    return PoolRules(block_tokens=block_tokens, hybrid=hybrid, max_num_batched_tokens=tokens, draft_tokens=draft_tokens)


def pool_rules(d: Deployment) -> PoolRules:
    """How the engine pages: block size, and whether windowed layers free what they left behind."""
    limits = d.limits
    block = limits.block_size or d.engine.defaults.block_size or 16
    gaudi = d.machine.platform == "gaudi"
    return _rules(
        GAUDI_BLOCK_TOKENS if gaudi else block,
        d.engine.engine != "tgi" and not gaudi,
        (limits.max_num_batched_tokens or limits.max_batch_prefill_tokens or limits.max_model_len) * in_flight(d),
        d.extras.features.draft_tokens if d.extras and d.extras.features.speculative == "mtp" else 0,
    )


def in_flight(d: Deployment) -> int:
    """Batches scheduled and not yet settled, whose tokens a window keeps: one per stage, two when scheduled ahead."""
    ahead = d.engine.memory.coefficients.get("in_flight_batches", 1.0) if d.engine.memory else 1.0
    return max(int(ahead), d.parallelism.pipeline)


def pool_of(d: Deployment, stage: int, available_bytes: int, context: int | None = None) -> KvPool:
    """The KV pool of `available_bytes` on one device of `stage`."""
    length = context or d.limits.max_model_len
    shape = _geometry(
        d.model,
        d.parallelism.tensor,
        d.parallelism.pipeline,
        stage,
        d.kv_format.bits / 8,
        length,
        pool_rules(d),
    )
    return refill(_with_drafts(shape, d, stage, length), available_bytes, length)


def _with_drafts(shape: KvPool, d: Deployment, stage: int, length: int) -> KvPool:
    """`shape` with pages of the drafting layers, which cache every token beside the model's own."""
    if d.extras is None or shape.block_bytes == 0:
        return shape
    from planner.estimate.extras import draft_kv_bytes_per_token

    more = draft_kv_bytes_per_token(d, stage)
    tokens = shape.block_tokens if shape.groups == 1 else length / shape.blocks_per_sequence
    return replace(shape, block_bytes=shape.block_bytes + ceil(more * tokens)) if more else shape


def refill(shape: KvPool, available_bytes: int, max_model_len: int) -> KvPool:
    """`shape` with another amount of bytes: what `kv_pool` would say, without grouping layers again."""
    if shape.block_bytes == 0:
        return shape
    blocks = max(available_bytes, 0) // shape.block_bytes
    sequences = blocks / shape.blocks_per_sequence
    tokens = int(sequences * max_model_len) if shape.groups > 1 else blocks * shape.block_tokens
    return KvPool(
        blocks,
        shape.block_bytes,
        shape.block_tokens,
        shape.groups,
        shape.layers_per_group,
        shape.blocks_per_sequence,
        tokens,
        sequences,
    )


def largest_context(d: Deployment, stage: int, pool: KvPool) -> int:
    """Longest single sequence that the pool holds, at most the model's own context."""
    longest = d.model.context_length
    if pool.block_bytes == 0:
        return longest
    if pool.groups == 1:
        return min(longest, pool.tokens)
    at = d.limits.max_model_len
    other = longest if longest > at else max(1, at // 2)
    there = pool_of(d, stage, 0, other).blocks_per_sequence
    slope = (there - pool.blocks_per_sequence) / (other - at) if other != at else 0.0
    if slope <= 0:
        return longest if pool.blocks >= pool.blocks_per_sequence else 0
    return max(0, min(longest, int(at + (pool.blocks - pool.blocks_per_sequence) / slope)))
