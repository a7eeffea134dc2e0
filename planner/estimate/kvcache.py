"""Exact bytes of the KV cache and recurrent state, per token, per sequence and as a pool.

Sliding windows, latent attention, shared and replicated KV, recurrent state, block rounding, and
vLLM's grouping of unlike layers. Knows no weights and no memory budget: available bytes are passed
in. Sources: vLLM v1/kv_cache_interface.py, v1/core/kv_cache_utils.py; llama.cpp in `kv_llamacpp`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import Final, Literal

from planner.records import dataclass
from planner.spec.model import (
    Attention,
    GatedDeltaNet,
    Mamba1,
    Mamba2,
    Mixer,
    Mla,
    ModelSpec,
    ShortConv,
)
from planner.units import ceil_div, round_up

LayerKind = Literal["full", "sliding", "chunked", "latent", "indexer", "cross", "state"]
INDEXER_SCALE_BLOCK = 128
"""The sparse indexer keeps fp8 keys with one fp32 scale per 128 values (vLLM DeepseekV32IndexerCache)."""
FP8_DS_MLA_BYTES = 656
"""One token of sparse latent attention in fp8: 512 values, 4 fp32 scales, 64 bf16 rotary values."""


@dataclass(frozen=True, slots=True)
class KvLayers:
    """`count` layers of one device that cache alike.

    `bytes_per_token` of one layer, K and V together; `window_tokens` for sliding and chunked ones;
    `state_bytes` per sequence for recurrent layers.
    """

    kind: LayerKind
    count: int
    bytes_per_token: float = 0
    window_tokens: int | None = None
    state_bytes: int = 0


@dataclass(frozen=True, slots=True)
class KvPerToken:
    """KV bytes of one more token on one device, and what does not grow with tokens.

    `unbounded_bytes` grow for ever, `windowed_bytes` until `window_tokens`; `cross_bytes` are per
    image token; `state_bytes` per sequence.
    """

    unbounded_bytes: float
    windowed_bytes: float
    window_tokens: int | None
    state_bytes: int
    cross_bytes: float = 0


def local_kv_heads(kv_heads: int, tp: int) -> int:
    """KV heads on one device: at least one, so that they are replicated when `tp` exceeds them."""
    return max(1, ceil_div(kv_heads, tp))


@lru_cache(maxsize=4096)
def kv_layers(
    model: ModelSpec, kv_dtype_bytes: float = 2, *, tp: int = 1, layers: range | None = None, sparse_fp8: bool = True
) -> tuple[KvLayers, ...]:
    """What each layer of one device caches, alike ones together.

    `kv_dtype_bytes` of one element (2 for bf16, 1 for fp8, 34/32 for q8_0); `layers` restricts to a
    pipeline stage. Latent attention is not divided by `tp`. `sparse_fp8`: with fp8, layers that have
    an indexer use the 656-byte layout.
    """
    found: dict[tuple[LayerKind, float, int | None, int], int] = {}
    for group in model.layers:
        n = len(group.layers) if layers is None else sum(i in layers for i in group.layers)
        for mixer in group.mixers:
            for key in _cached(mixer, kv_dtype_bytes, tp, sparse_fp8):
                if n:
                    found[key] = found.get(key, 0) + n
    return tuple(KvLayers(k, n, per_token, window, state) for (k, per_token, window, state), n in found.items())


def _cached(mixer: Mixer, itemsize: float, tp: int, sparse_fp8: bool) -> list[tuple[LayerKind, float, int | None, int]]:
    if isinstance(mixer, Attention):
        if mixer.shares_kv:
            return []
        width = mixer.head_dim + (mixer.v_head_dim or mixer.head_dim)
        per_token = local_kv_heads(mixer.kv_heads, tp) * width * itemsize
        kind: LayerKind = "cross" if mixer.cross else "full"
        if mixer.window_tokens:
            kind = "chunked" if mixer.chunked else "sliding"
        index: list[tuple[LayerKind, float, int | None, int]] = (
            [("indexer", mixer.index_head_dim * itemsize, None, 0)] if mixer.index_head_dim else []
        )
        return [(kind, per_token, mixer.window_tokens, 0), *index]
    if isinstance(mixer, Mla):
        latent = (mixer.kv_lora_rank + mixer.qk_rope_head_dim) * itemsize
        if mixer.output_groups:
            return _compressed(mixer, latent)
        if mixer.indexer_heads and sparse_fp8 and itemsize == 1:
            latent = FP8_DS_MLA_BYTES
        rows: list[tuple[LayerKind, float, int | None, int]] = [("latent", latent, None, 0)]
        if mixer.indexer_heads:
            d = mixer.indexer_head_dim
            rows.append(("indexer", d + 4 * ceil_div(d, INDEXER_SCALE_BLOCK), None, 0))
        return rows
    return [("state", 0, None, state_bytes(mixer, tp))]


def _compressed(mixer: Mla, latent: float) -> list[tuple[LayerKind, float, int | None, int]]:
    """DeepSeek V4: a window of latents, and one latent (and index key) for every few tokens before it."""
    rows: list[tuple[LayerKind, float, int | None, int]] = [("sliding", latent, mixer.window_tokens, 0)]
    if mixer.compress_every:
        rows.append(("latent", latent / mixer.compress_every, None, 0))
        if mixer.indexer_heads:
            d = mixer.indexer_head_dim
            rows.append(("indexer", (d + 4 * ceil_div(d, INDEXER_SCALE_BLOCK)) / mixer.compress_every, None, 0))
    return rows


def state_bytes(mixer: Mixer, tp: int = 1, activation_bytes: int = 2, draft_tokens: int = 0) -> int:
    """Recurrent state of one layer and sequence on one device.

    Convolution state in the activation dtype, recurrent state in the mixer's own (fp32 mostly).
    `draft_tokens` of speculative decoding lengthen the convolution state. Groups of Mamba 2 are
    padded up to `tp`. Source: vLLM model_executor/layers/mamba/mamba_utils.py.
    """
    if isinstance(mixer, GatedDeltaNet):
        channels = 2 * mixer.k_heads * mixer.k_head_dim + mixer.v_heads * mixer.v_head_dim
        conv = ceil_div(channels, tp) * (mixer.conv_kernel - 1 + draft_tokens)
        recurrent = ceil_div(mixer.v_heads, tp) * mixer.v_head_dim * mixer.k_head_dim
        return conv * activation_bytes + recurrent * (4 if mixer.state_dtype == "fp32" else 2)
    if isinstance(mixer, Mamba2):
        groups = mixer.groups if mixer.groups % tp == 0 else round_up(mixer.groups, tp)
        channels = mixer.d_inner + 2 * groups * mixer.state_dim
        conv = ceil_div(channels, tp) * (mixer.conv_kernel - 1 + draft_tokens)
        recurrent = ceil_div(mixer.heads, tp) * mixer.head_dim * mixer.state_dim
        return conv * activation_bytes + recurrent * (4 if mixer.state_dtype == "fp32" else 2)
    if isinstance(mixer, Mamba1):
        inner = ceil_div(mixer.d_inner, tp)
        return inner * (mixer.conv_kernel - 1) * activation_bytes + inner * mixer.state_dim * 4
    if isinstance(mixer, ShortConv):
        return ceil_div(mixer.dim, tp) * (mixer.kernel - 1) * activation_bytes
    return 0


@lru_cache(maxsize=4096)
def kv_bytes_per_token(
    model: ModelSpec, kv_dtype_bytes: float = 2, *, tp: int = 1, layers: range | None = None
) -> KvPerToken:
    """KV bytes per token on one device, split into unbounded, windowed, image and per-sequence parts."""
    rows = kv_layers(model, kv_dtype_bytes, tp=tp, layers=layers)
    windows = [r.window_tokens for r in rows if r.window_tokens]
    return KvPerToken(
        unbounded_bytes=sum(r.count * r.bytes_per_token for r in rows if r.kind in ("full", "latent", "indexer")),
        windowed_bytes=sum(r.count * r.bytes_per_token for r in rows if r.window_tokens),
        window_tokens=max(windows, default=None),
        state_bytes=sum(r.count * r.state_bytes for r in rows),
        cross_bytes=sum(r.count * r.bytes_per_token for r in rows if r.kind == "cross"),
    )


def kv_bytes_read(model: ModelSpec, context_tokens: int, kv_dtype_bytes: float = 2, *, tp: int = 1) -> float:
    """KV and state bytes that one decoded token reads on one device at `context_tokens`."""
    total = 0.0
    for r in kv_layers(model, kv_dtype_bytes, tp=tp):
        if r.kind == "state":
            total += r.count * r.state_bytes
        elif r.kind != "cross":
            total += r.count * r.bytes_per_token * min(context_tokens, r.window_tokens or context_tokens)
    return total


# --- vLLM's paged pool ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KvPool:
    """A paged pool on one device.

    `blocks` of `block_bytes` each; `groups` tables per sequence, each over `layers_per_group` layers;
    `tokens` is what the engine logs as "GPU KV cache size"; `max_sequences` the logged concurrency at
    full context.
    """

    blocks: int
    block_bytes: int
    block_tokens: int
    groups: int
    layers_per_group: int
    blocks_per_sequence: int
    tokens: int
    max_sequences: float

    @property
    def bytes(self) -> int:
        """Bytes that the pool takes."""
        return self.blocks * self.block_bytes


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers that share one block table: page bytes of one layer, tokens per page, layer count."""

    kind: LayerKind
    page_bytes: int
    block_tokens: int
    window_tokens: int | None
    count: int


@dataclass(frozen=True, slots=True)
class PoolRules:
    """How an engine version pages KV. Defaults are those of vLLM 0.22 and later on CUDA.

    `hybrid`: windowed layers free what left the window (else they are allocated in full).
    `tokens_from_concurrency`: the logged size is concurrency × context (0.21 and later), else
    blocks / groups × block. `state_blocks`: recurrent pages a sequence holds (2 with prefix caching
    of hybrid models), and one more per token drafted. `max_num_batched_tokens` lengthens a window
    during chunked prefill. `draft_tokens` > 0: the model's own prediction layer drafts, and caches
    like one more attention layer.
    """

    block_tokens: int = 16
    hybrid: bool = True
    tokens_from_concurrency: bool = True
    state_blocks: int = 1
    max_num_batched_tokens: int = 8192
    draft_tokens: int = 0


VLLM_RULES: Final = PoolRules()


def _groups(model: ModelSpec, itemsize: float, tp: int, rules: PoolRules, layers: range | None) -> list[_Group]:
    rows = [r for r in kv_layers(model, itemsize, tp=tp, layers=layers) if r.kind != "cross"]
    if rules.draft_tokens and any(b.role == "mtp" for b in model.blocks):
        n_drafting = sum(b.role == "mtp" for b in model.blocks)
        last = max((i for i, r in enumerate(rows) if r.kind in ("full", "latent")), default=None)
        rows = [replace(r, count=r.count + n_drafting) if i == last else r for i, r in enumerate(rows)]
    block = rules.block_tokens
    if any(r.kind == "indexer" for r in rows):
        block = max(block, 64)
    states = [r for r in rows if r.kind == "state"]
    per_token = max((r.bytes_per_token for r in rows), default=0)
    if rules.draft_tokens:
        states = [
            KvLayers("state", r.count, state_bytes=_drafted(model, r.state_bytes, tp, rules.draft_tokens))
            for r in states
        ]
    state_page = max((r.state_bytes for r in states), default=0)
    if states and per_token:
        # The attention block grows until its page covers the largest recurrent one, which is padded up.
        block = round_up(max(block, ceil(state_page / per_token)), block)
    page = max(ceil(block * per_token), state_page)
    found: dict[tuple[LayerKind, int | None, float], _Group] = {}
    for r in rows if not rules.draft_tokens else [*(x for x in rows if x.kind != "state"), *states]:
        if r.kind == "state":
            key: tuple[LayerKind, int | None, float] = ("state", None, 0.0)
            group = _Group("state", page, block, None, r.count)
        else:
            bounded = rules.hybrid and r.window_tokens
            kind: LayerKind = r.kind if bounded or not r.window_tokens else "full"
            window = r.window_tokens if bounded else None
            key = (kind, window, r.bytes_per_token)
            group = _Group(kind, ceil(block * r.bytes_per_token), block, window, r.count)
        before = found.get(key)
        count = group.count + (before.count if before else 0)
        found[key] = _Group(group.kind, group.page_bytes, group.block_tokens, group.window_tokens, count)
    return list(found.values())


def _drafted(model: ModelSpec, plain: int, tp: int, draft_tokens: int) -> int:
    for group in model.layers:
        for mixer in group.mixers:
            if plain and state_bytes(mixer, tp) == plain:
                return state_bytes(mixer, tp, draft_tokens=draft_tokens)
    return plain


def _blocks_per_sequence(g: _Group, tokens: int, rules: PoolRules) -> int:
    if g.kind == "state":
        return rules.state_blocks + rules.draft_tokens
    if g.kind == "sliding" and g.window_tokens:
        held = min(g.window_tokens - 1 + rules.max_num_batched_tokens, tokens)
        return ceil_div(held, g.block_tokens) + 1
    if g.kind == "chunked" and g.window_tokens:
        return ceil_div(min(g.window_tokens + rules.max_num_batched_tokens, tokens), g.block_tokens)
    return ceil_div(tokens, g.block_tokens)


@lru_cache(maxsize=4096)
def kv_pool(
    model: ModelSpec,
    available_bytes: int,
    *,
    max_model_len: int,
    kv_dtype_bytes: float = 2,
    tp: int = 1,
    layers: range | None = None,
    rules: PoolRules = VLLM_RULES,
) -> KvPool:
    """The pool that `available_bytes` on one device make, and the tokens the engine would log.

    Alike layers share one table. Unlike ones are cut into groups of as many layers as the rarest
    kind has (or the commonest, when that is less than half more), with equal pages: a block is one
    page of each layer of a group, and any group may use it.
    """
    groups = _groups(model, kv_dtype_bytes, tp, rules, layers)
    if not groups:
        return KvPool(1, 0, rules.block_tokens, 0, 0, 0, 0, 0.0)
    same_reach = all(g.kind in ("full", "latent", "indexer") for g in groups) or (
        len({(g.kind, g.window_tokens) for g in groups}) == 1
    )
    if same_reach:
        block_bytes = sum(g.page_bytes * g.count for g in groups)
        n_tables, per_group = 1, sum(g.count for g in groups)
        per_sequence = _blocks_per_sequence(groups[0], max_model_len, rules)
        # a state holds any number of tokens: its block is as long as the context
        smallest = max_model_len if groups[0].kind == "state" else groups[0].block_tokens
    else:
        groups = _equal_pages(groups)
        fewest, most = min(g.count for g in groups), max(g.count for g in groups)
        per_group = most if most < 1.5 * fewest else fewest
        block_bytes = per_group * groups[0].page_bytes
        tables = [(g, ceil_div(g.count, per_group)) for g in groups]
        n_tables = sum(n for _, n in tables)
        per_sequence = sum(n * _blocks_per_sequence(g, max_model_len, rules) for g, n in tables)
        smallest = min(g.block_tokens for g in groups if g.kind != "state")
    blocks = max(available_bytes, 0) // block_bytes
    sequences = blocks / per_sequence
    if rules.tokens_from_concurrency:
        tokens = int(sequences * max_model_len) if n_tables > 1 else blocks * smallest
    else:
        tokens = blocks // n_tables * smallest
    return KvPool(blocks, block_bytes, smallest, n_tables, per_group, per_sequence, tokens, sequences)


def _equal_pages(groups: list[_Group]) -> list[_Group]:
    """Pages of one size: smaller ones hold more tokens, or are padded where that does not divide."""
    page = max(g.page_bytes for g in groups)
    return [
        _Group(g.kind, page, g.block_tokens * max(1, page // g.page_bytes), g.window_tokens, g.count) for g in groups
    ]


def kv_pool_tokens(model: ModelSpec, available_bytes: int, *, max_model_len: int, **options: object) -> int:
    """Tokens of `kv_pool`."""
    return kv_pool(model, available_bytes, max_model_len=max_model_len, **options).tokens


def kv_bytes_for_sequences(
    model: ModelSpec,
    n_seqs: int,
    context_tokens: int,
    *,
    kv_dtype_bytes: float = 2,
    tp: int = 1,
    layers: range | None = None,
    rules: PoolRules = VLLM_RULES,
) -> int:
    """Pool bytes on one device that `n_seqs` sequences of `context_tokens` hold, whole blocks counted."""
    if context_tokens < 1 or n_seqs < 1:
        return 0
    pool = kv_pool(
        model,
        1 << 62,
        max_model_len=context_tokens,
        kv_dtype_bytes=kv_dtype_bytes,
        tp=tp,
        layers=layers,
        rules=rules,
    )
    return n_seqs * pool.blocks_per_sequence * pool.block_bytes
