"""Gemma 2, 3, 3n and 4: windows in most layers, post-norms, per-layer embeddings, shared KV.

Gemma 4's full-attention layers have their own head size and KV heads, and may take V from K.
Source: configuration_gemma*.py and modeling_gemma*.py of transformers 5.23.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from planner.sources.hf.common import (
    Config,
    Decoder,
    LayerPlan,
    Reader,
    gated,
    gqa,
    layer_kinds,
    moe,
    simple,
)
from planner.spec.model import Attention, Block, DenseFfn, Ffn, RotaryTable

_GEMMA3_DEFAULTS: dict[str, object] = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
}


def gemma2(c: Config) -> Decoder:
    """Even layers slide, odd ones are full; four norms per layer."""
    c = c.with_defaults(max_position_embeddings=8192)  # the class's default
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    tokens = c.integer("sliding_window", default=4096)
    flat = c.with_defaults(head_dim=256)
    plans = []
    for kind in layer_kinds(c, n, pattern=2):
        attention = gqa(flat, window_tokens=tokens if kind == "sliding_attention" else None)
        plans.append(LayerPlan((attention,), (gated(c),), 4 * h))
    return simple(c.with_defaults(vocab_size=256000), plans, tie=True)


def gemma3(c: Config) -> Decoder:
    """Five sliding layers to one full; norms on queries and keys."""
    flat = c.with_defaults(**_GEMMA3_DEFAULTS)
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    tokens = c.integer("sliding_window", default=4096)
    plans = []
    for kind in layer_kinds(c, n, c.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)):
        attention = gqa(flat, qk_norm="head", window_tokens=tokens if kind == "sliding_attention" else None)
        plans.append(LayerPlan((attention,), (gated(c),), 4 * h))
    decoder = simple(flat, plans, tie=True)
    return replace(decoder, rotary=tuple(_rotary(flat, decoder)))


def _rotary(c: Config, decoder: Decoder) -> Iterator[RotaryTable]:
    """Sliding layers rotate by an own base; full ones may stretch positions by a factor."""
    scaling = c.sub("rope_scaling")
    if "rope_parameters" in c:
        scaling = c.sub("rope_parameters").sub("full_attention")
    factor = scaling.data.get("factor")
    if "linear" not in (scaling.text("rope_type"), scaling.text("type")) or not isinstance(factor, int | float):
        factor = 1
    seen: set[bool] = set()
    for layer, plan in enumerate(decoder.layers):
        attention = plan.mixers[0]
        if not isinstance(attention, Attention) or (full := attention.window_tokens is None) in seen:
            continue
        seen.add(full)
        stretch = factor if full else 1
        yield RotaryTable(
            positions=round(decoder.context_length * stretch),
            width=attention.head_dim,
            first_layer=layer,
            scaled=stretch > 1,
        )


def _first_shared(c: Config, n: int) -> int:
    shared = c.integer("num_kv_shared_layers", default=0)
    return n - shared if shared else n


def gemma3n(c: Config) -> Decoder:
    """AltUp streams, LAuReL blocks, per-layer inputs; the last layers reuse earlier KV."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    p = c.positive("hidden_size_per_layer_input", default=256)
    rank, streams = c.positive("laurel_rank", default=64), c.positive("altup_num_inputs", default=4)
    widths = c.sequence("intermediate_size")
    kinds = layer_kinds(c, n, pattern=5)
    plans = []
    for i, kind in enumerate(kinds):
        attention = gqa(
            c,
            qk_norm="head",
            window_tokens=c.opt_int("sliding_window") if kind == "sliding_attention" else None,
            shares_kv=i >= _first_shared(c, n),
        )
        width = widths[i] if widths else c.positive("intermediate_size")
        assert isinstance(width, int)
        altup = h + streams**3 + streams**2 + h * streams + h
        plans.append(
            LayerPlan(
                (attention,),
                (DenseFfn(intermediate=width),),
                6 * h + altup,
                (
                    ("laurel", rank, h),
                    ("laurel", h, rank),
                    ("per_layer_input", p, h),
                    ("per_layer_input", h, p),
                ),
            )
        )
    base = simple(c, plans, tie=True)
    table = c.positive("vocab_size_per_layer_input", default=262144) * n * p
    rest = n * p * h + p + 2 * (streams - 1) * h * h
    return replace(
        base,
        blocks=(Block(role="per_layer_embedding", parameters=table), Block(role="other", parameters=rest)),
    )


def gemma4(c: Config) -> Decoder:
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    p = c.integer("hidden_size_per_layer_input", default=0)
    k_eq_v = c.flag("attention_k_eq_v")
    heads, head_dim = c.positive("num_attention_heads"), c.positive("head_dim", default=256)
    kv_heads = c.positive("num_key_value_heads")
    first_shared = _first_shared(c, n)
    plans = []
    for i, kind in enumerate(layer_kinds(c, n, pattern=6)):
        full = kind == "full_attention"
        attention = Attention(
            heads=heads,
            kv_heads=c.positive("num_global_key_value_heads", default=kv_heads) if full and k_eq_v else kv_heads,
            head_dim=c.positive("global_head_dim", default=head_dim) if full else head_dim,
            window_tokens=None if full else c.opt_int("sliding_window"),
            qk_norm="head",
            shares_kv=i >= first_shared,
            k_eq_v=full and k_eq_v,
        )
        wide = 2 if c.flag("use_double_wide_mlp") and i >= first_shared else 1
        dense = wide * c.positive("intermediate_size")
        ffn: Ffn = DenseFfn(intermediate=dense)
        norms = 4 * h + 1  # and the layer's output scalar
        if c.flag("enable_moe_block"):
            experts = c.positive("num_experts")
            ffn = moe(c, dense_intermediate=dense, extra_parameters=h + experts)
            norms += 3 * h
        extra = (("per_layer_input", p, h), ("per_layer_input", h, p)) if p else ()
        plans.append(LayerPlan((attention,), (ffn,), norms + (h if p else 0), extra))
    base = simple(c, plans, tie=True)
    if not p:
        return base
    table = c.positive("vocab_size_per_layer_input", default=262144) * n * p
    return replace(
        base,
        blocks=(
            Block(role="per_layer_embedding", parameters=table),
            Block(role="other", parameters=n * p * h + p),
        ),
    )


READERS: dict[str, Reader] = {
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "gemma3n_text": gemma3n,
    "gemma4_text": gemma4,
}
