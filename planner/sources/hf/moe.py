"""Mixture-of-experts decoders with softmax attention: Mixtral, Qwen 3 MoE, gpt-oss, GLM-4.5, DBRX …

Source: the models' modelling files in transformers 5.23.0; multi-token-prediction blocks from the
published safetensors totals, which they make exact.
"""

from __future__ import annotations

from planner.sources.hf.common import (
    Config,
    Decoder,
    LayerPlan,
    Reader,
    gated,
    gqa,
    layer_kinds,
    moe,
    qk_norm_parameters,
    simple,
)
from planner.sources.hf.dense import window
from planner.spec.model import Attention, Block, Ffn, MoeFfn


def sparse_layers(c: Config, n_layers: int) -> list[bool]:
    """Which layers have experts, as the Qwen configs say it."""
    dense = set(c.sequence("mlp_only_layers") or ())
    step = c.positive("decoder_sparse_step", default=1)
    return [i not in dense and (i + 1) % step == 0 for i in range(n_layers)]


def mixtral(c: Config) -> Decoder:
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    return simple(c, [LayerPlan((gqa(c, window_tokens=window(c)),), (moe(c),), 2 * h)] * n)


def phimoe(c: Config) -> Decoder:
    """LayerNorms with bias, biased attention and head."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    bias = c.flag("attention_bias")
    attention = gqa(c, qkv_bias=bias, o_bias=bias, window_tokens=window(c))
    return simple(
        c,
        [LayerPlan((attention,), (moe(c),), 4 * h)] * n,
        norm_factor=2,
        lm_head_bias=c.flag("lm_head_bias"),
    )


def qwen3_moe(c: Config) -> Decoder:
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    attention = gqa(c, qk_norm="head", qkv_bias=c.flag("attention_bias"))
    plans = [LayerPlan((attention,), (moe(c) if s else gated(c),), 2 * h) for s in sparse_layers(c, n)]
    return simple(c, plans)


def qwen2_moe(c: Config) -> Decoder:
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    experts = moe(c, shared_intermediate=c.integer("shared_expert_intermediate_size", default=0), shared_gate=True)
    attention = gqa(c, qkv_bias=True)
    plans = [LayerPlan((attention,), (experts if s else gated(c),), 2 * h) for s in sparse_layers(c, n)]
    return simple(c, plans)


def olmoe(c: Config) -> Decoder:
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    return simple(c, [LayerPlan((gqa(c, qk_norm="full"),), (moe(c),), 2 * h)] * n)


def minimax_m2(c: Config) -> Decoder:
    """Norm over the whole q and k projections; the router has a score-correction bias."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    qk = "full" if c.flag("use_qk_norm", True) else "none"
    experts = moe(c, router_bias=c.flag("use_routing_bias", True))
    return simple(c, [LayerPlan((gqa(c, qk_norm=qk),), (experts,), 2 * h)] * n)


def gpt_oss(c: Config) -> Decoder:
    """Alternating windows, attention sinks, biases on every linear and expert."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    bias = c.flag("attention_bias", True)
    experts = moe(c, expert_bias=True, router_bias=True)
    plans = []
    for kind in layer_kinds(c, n, pattern=2):
        tokens = c.opt_int("sliding_window") if kind == "sliding_attention" else None
        attention = gqa(c, qkv_bias=bias, o_bias=bias, sinks=True, window_tokens=tokens)
        plans.append(LayerPlan((attention,), (experts,), 2 * h))
    return simple(c, plans)


def dbrx(c: Config) -> Decoder:
    """Weight-only LayerNorms; keys live in nested tables under their own names."""
    ffn, attn = c.sub("ffn_config"), c.sub("attn_config")
    h, n, heads = c.positive("d_model"), c.positive("n_layers"), c.positive("n_heads")
    flat = c.with_defaults(hidden_size=h, max_position_embeddings=c.positive("max_seq_len"), tie_word_embeddings=False)
    attention = Attention(heads=heads, kv_heads=attn.positive("kv_n_heads", default=heads), head_dim=h // heads)
    experts = MoeFfn(
        experts=ffn.positive("moe_num_experts"),
        experts_per_token=ffn.positive("moe_top_k"),
        intermediate=ffn.positive("ffn_hidden_size"),
    )
    return simple(flat, [LayerPlan((attention,), (experts,), 2 * h)] * n)


def llama4(c: Config) -> Decoder:
    """Three of four layers attend within chunks; every `interleave_moe_layer_step`-th has experts."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    step = c.positive("interleave_moe_layer_step", default=1)
    chunk = c.opt_int("attention_chunk_size")
    no_rope = c.sequence("no_rope_layers") or [int((i + 1) % 4 != 0) for i in range(n)]
    experts = moe(c, intermediate=c.positive("intermediate_size"), shared_intermediate=c.positive("intermediate_size"))
    plans = []
    for i in range(n):
        ffn: Ffn = experts if (i + 1) % step == 0 else gated(c, "intermediate_size_mlp")
        attention = gqa(c, window_tokens=chunk if no_rope[i] else None, chunked=bool(no_rope[i] and chunk))
        plans.append(LayerPlan((attention,), (ffn,), 2 * h))
    return simple(c, plans)


def glm4_moe(c: Config) -> Decoder:
    """GLM-4.5/4.6: dense first layers, a shared expert, score-correction bias, an MTP layer.

    `mtp_own_embeddings` is our key, for the catalog: GLM-4.5 stores copies of embedding and head in
    the MTP layer, GLM-4.6 does not, and their configs do not tell.
    """
    h, n, vocab = c.positive("hidden_size"), c.positive("num_hidden_layers"), c.positive("vocab_size")
    first = c.integer("first_k_dense_replace", default=1)
    attention = gqa(
        c,
        qkv_bias=c.flag("attention_bias"),
        qk_norm="head" if c.flag("use_qk_norm") else "none",
    )
    experts = moe(
        c,
        router_bias=True,
        shared_intermediate=c.integer("n_shared_experts", default=1) * c.positive("moe_intermediate_size"),
    )
    plans = [LayerPlan((attention,), (gated(c) if i < first else experts,), 2 * h) for i in range(n)]
    base = simple(c, plans)
    n_mtp = c.integer("num_nextn_predict_layers", default=0)
    if not n_mtp:
        return base
    copies = 2 * vocab * h if c.flag("mtp_own_embeddings", True) else 0
    width = (attention.heads + 2 * attention.kv_heads) * attention.head_dim
    layer = (
        h * width
        + (width if attention.qkv_bias else 0)
        + h * attention.heads * attention.head_dim
        + qk_norm_parameters(attention)
        + 2 * h
        + moe_parameters(experts, h)
    )
    mtp = Block(role="mtp", parameters=layer + 2 * h * h + 3 * h + copies)
    return base.plus(*[mtp] * n_mtp, modality="text")


def moe_parameters(m: MoeFfn, hidden: int) -> int:
    """Parameters of one MoE feed-forward, score-correction bias included."""
    width = m.input_dim or hidden
    per_expert = (3 if m.gated else 2) * width * m.intermediate
    shared = (3 if m.gated else 2) * hidden * m.shared_intermediate
    latent = 2 * hidden * m.input_dim if m.input_dim else 0
    return (
        m.experts * per_expert
        + hidden * m.experts
        + (m.experts if m.router_bias else 0)
        + shared
        + (hidden if m.shared_gate else 0)
        + latent
    )


READERS: dict[str, Reader] = {
    "mixtral": mixtral,
    "phimoe": phimoe,
    "qwen3_moe": qwen3_moe,
    "qwen2_moe": qwen2_moe,
    "olmoe": olmoe,
    "minimax_m2": minimax_m2,
    "gpt_oss": gpt_oss,
    "dbrx": dbrx,
    "llama4_text": llama4,
    "glm4_moe": glm4_moe,
    "glm4v_moe_text": glm4_moe,
}
