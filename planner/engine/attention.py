"""Attention of one layer on one rank: grouped-query (Llama to Gemma) and DeepSeek's latent form.

Both end in `attend`: queries against what the cache holds, group by group, all heads in one matrix product. MLA is
computed in its absorbed form, as one wide KV head, so that only the latent is cached (arXiv 2405.04434).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planner.engine.batch import Step
from planner.engine.cache import Cache, KvShape
from planner.engine.config import Layer, Mla, ModelConfig
from planner.engine.ops import by_input, exponentials, linear, rms_norm, softcap
from planner.engine.rope import halves_from_pairs, rotate
from planner.formats.arrays import Floats

Table = tuple[Floats, Floats]


class GroupedAttention:
    """Queries of `heads`, keys and values of `kv_heads`; on a rank both are that rank's share."""

    def __init__(self, weights: Mapping[str, Floats], prefix: str, config: ModelConfig) -> None:
        self.config, self.dim = config, config.head_dim
        names = ("q_proj", "k_proj", "v_proj")
        parts = [weights[f"{prefix}{name}.weight"] for name in names]
        self.heads, self.kv_heads = len(parts[0]) // self.dim, len(parts[1]) // self.dim
        self.qkv = by_input(*parts)
        self.qkv_bias = np.concatenate([weights[f"{prefix}{n}.bias"] for n in names]) if config.qkv_bias else None
        self.out, self.out_bias = by_input(weights[f"{prefix}o_proj.weight"]), weights.get(f"{prefix}o_proj.bias")
        self.q_norm, self.k_norm = (self._norm(weights.get(f"{prefix}{n}.weight")) for n in ("q_norm", "k_norm"))

    def _norm(self, weight: Floats | None) -> Floats | None:
        return None if weight is None else weight + np.float32(self.config.norm_offset)

    @property
    def kv_shape(self) -> KvShape:
        return KvShape(len(self.config.layers), self.kv_heads, self.dim, self.dim)

    def __call__(self, x: Floats, index: int, layer: Layer, step: Step, table: Table, cache: Cache) -> Floats:
        """(rows, hidden) → this rank's part of (rows, hidden)."""
        rows, eps = len(x), self.config.norm_eps
        qkv = linear(x, self.qkv, self.qkv_bias).reshape(rows, -1, self.dim)
        q, k = qkv[:, : self.heads], qkv[:, self.heads : self.heads + self.kv_heads]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = rms_norm(q, self.q_norm, eps), rms_norm(k, self.k_norm, eps)
        cache.write(index, step.slots, rotate(k, table), qkv[:, self.heads + self.kv_heads :])
        q = rotate(q, table) * np.float32(self.config.attention_scale)
        mixed = attend(q, index, layer.window, step, cache, self.config.attention_softcap)
        return linear(mixed.reshape(rows, -1), self.out, self.out_bias)

    def arrays(self) -> list[Floats | None]:
        return [self.qkv, self.qkv_bias, self.out, self.out_bias, self.q_norm, self.k_norm]


class LatentAttention:
    """MLA: keys and values come from one latent per token; the up-projections are moved to the query and output."""

    def __init__(self, weights: Mapping[str, Floats], prefix: str, config: ModelConfig, mla: Mla) -> None:
        self.config, self.mla = config, mla
        width = mla.nope_dim + mla.rope_dim
        order = halves_from_pairs(mla.rope_dim)
        down_q = weights.get(f"{prefix}q_a_proj.weight")
        self.down_q = None if down_q is None else by_input(down_q)
        self.down_q_norm = weights.get(f"{prefix}q_a_layernorm.weight")
        up_q = weights[f"{prefix}{'q_proj' if mla.q_rank is None else 'q_b_proj'}.weight"]
        up_q = up_q.reshape(-1, width, up_q.shape[1])
        self.heads = len(up_q)
        halves = np.concatenate([np.arange(mla.nope_dim), mla.nope_dim + order])
        self.up_q = by_input(up_q[:, halves].reshape(-1, up_q.shape[2]))
        down = weights[f"{prefix}kv_a_proj_with_mqa.weight"]
        self.down_kv = by_input(down[np.concatenate([np.arange(mla.kv_rank), mla.kv_rank + order])])
        self.kv_norm = weights[f"{prefix}kv_a_layernorm.weight"]
        up = weights[f"{prefix}kv_b_proj.weight"].reshape(self.heads, mla.nope_dim + mla.value_dim, mla.kv_rank)
        self.up_key = np.ascontiguousarray(up[:, : mla.nope_dim])
        self.up_value = np.ascontiguousarray(up[:, mla.nope_dim :].transpose(0, 2, 1))
        self.out = by_input(weights[f"{prefix}o_proj.weight"])

    @property
    def kv_shape(self) -> KvShape:
        mla = self.mla
        return KvShape(len(self.config.layers), 1, mla.kv_rank + mla.rope_dim, 0, value_prefix=mla.kv_rank)

    def __call__(self, x: Floats, index: int, layer: Layer, step: Step, table: Table, cache: Cache) -> Floats:
        """(rows, hidden) → this rank's part of (rows, hidden)."""
        mla, rows = self.mla, len(x)
        if self.down_q is not None and self.down_q_norm is not None:
            q = linear(rms_norm(linear(x, self.down_q), self.down_q_norm, mla.norm_eps), self.up_q)
        else:
            q = linear(x, self.up_q)
        q = q.reshape(rows, self.heads, -1)
        latent = linear(x, self.down_kv)[:, None]
        key = np.empty((rows, 1, mla.kv_rank + mla.rope_dim), np.float32)
        key[..., : mla.kv_rank] = rms_norm(latent[..., : mla.kv_rank], self.kv_norm, mla.norm_eps)
        key[..., mla.kv_rank :] = rotate(latent[..., mla.kv_rank :], table)
        cache.write(index, step.slots, key, None)
        query = np.empty((rows, self.heads, mla.kv_rank + mla.rope_dim), np.float32)
        query[..., : mla.kv_rank] = (q[..., : mla.nope_dim].transpose(1, 0, 2) @ self.up_key).transpose(1, 0, 2)
        query[..., mla.kv_rank :] = rotate(q[..., mla.nope_dim :], table)
        query *= np.float32(self.config.attention_scale)
        mixed = attend(query, index, layer.window, step, cache, None)
        values = (mixed.transpose(1, 0, 2) @ self.up_value).transpose(1, 0, 2)
        return linear(values.reshape(rows, -1), self.out)

    def arrays(self) -> list[Floats | None]:
        return [
            self.down_q, self.down_q_norm, self.up_q, self.down_kv, self.kv_norm, self.up_key, self.up_value, self.out,
        ]  # fmt: skip


Attention = GroupedAttention | LatentAttention


def make_attention(weights: Mapping[str, Floats], prefix: str, config: ModelConfig) -> Attention:
    """The config's kind of attention from the tensors under `prefix`."""
    if config.mla:
        return LatentAttention(weights, prefix, config, config.mla)
    return GroupedAttention(weights, prefix, config)


def attend(q: Floats, index: int, window: int | None, step: Step, cache: Cache, cap: float | None) -> Floats:
    """Scaled queries (rows, heads, width) against layer `index` of the cache → (rows, heads, value width)."""
    heads = q.shape[1]
    out: Floats | None = None
    for group in step.groups:
        view = group.view(window)
        keys, values = cache.read(index, view.tables)
        used = slice(view.first_key, view.first_key + view.n_keys)
        keys, values = keys[:, used], values[:, used]
        n, queries = group.rows.shape
        shared = heads // keys.shape[2]
        grouped = q[group.rows].reshape(n, queries, keys.shape[2], shared, -1).transpose(0, 2, 3, 1, 4)
        grouped = grouped.reshape(n, keys.shape[2], shared * queries, -1)
        scores = softcap(grouped @ keys.transpose(0, 2, 3, 1), cap)
        if view.mask is not None:
            masked = scores.reshape(n, -1, shared, queries, view.n_keys)
            masked += view.mask
        total = exponentials(scores)
        mixed = scores @ values.transpose(0, 2, 1, 3)
        mixed /= total
        mixed = mixed.reshape(n, -1, shared, queries, mixed.shape[-1]).transpose(0, 3, 1, 2, 4)
        if out is None:
            out = np.empty((len(q), heads, mixed.shape[-1]), np.float32)
        out[group.rows] = mixed.reshape(n, queries, heads, -1)
    assert out is not None, "a step has at least one group"
    return out
