"""Multi-head latent attention: DeepSeek V2, V3, V3.2 and V4, Kimi K2, GLM-5, GLM-4.7-Flash, MiniCPM3.

The multi-token-prediction layer of the checkpoint is a block of its own: it is on disk, and engines
load it only for speculative decoding. Sources: modeling_deepseek_v3.py of transformers 5.23.0; the
block's make-up from the published safetensors totals, which it makes exact.
"""

from __future__ import annotations

from dataclasses import replace

from planner.errors import FormatError
from planner.sources.hf.common import Config, Decoder, LayerPlan, Reader, gated, moe, simple
from planner.sources.hf.moe import moe_parameters
from planner.spec.model import Block, Ffn, Mla


def mla(c: Config, indexer: bool = False) -> Mla:
    """The attention of one layer."""
    return Mla(
        heads=c.positive("num_attention_heads"),
        q_lora_rank=c.opt_int("q_lora_rank"),
        kv_lora_rank=c.positive("kv_lora_rank"),
        qk_nope_head_dim=c.positive("qk_nope_head_dim"),
        qk_rope_head_dim=c.positive("qk_rope_head_dim"),
        v_head_dim=c.positive("v_head_dim"),
        indexer_heads=c.positive("index_n_heads") if indexer else 0,
        indexer_head_dim=c.positive("index_head_dim") if indexer else 0,
        bias=c.flag("attention_bias"),
    )


def mla_parameters(m: Mla, hidden: int) -> int:
    """Parameters of one latent-attention layer, its inner norms and indexer included."""
    q_out = m.heads * (m.qk_nope_head_dim + m.qk_rope_head_dim)
    rank = m.q_lora_rank
    q = hidden * rank + rank + rank * q_out if rank else hidden * q_out
    kv_a = hidden * (m.kv_lora_rank + m.qk_rope_head_dim) + m.kv_lora_rank
    kv_b = m.kv_lora_rank * m.heads * (m.qk_nope_head_dim + m.v_head_dim)
    out = m.heads * m.v_head_dim * hidden
    ih, d = m.indexer_heads, m.indexer_head_dim
    indexer = (m.q_lora_rank or hidden) * ih * d + hidden * d + hidden * ih + 2 * d if ih else 0
    return q + kv_a + kv_b + out + indexer


def _deepseek(c: Config, *, indexer: bool, router_bias: bool, mtp_copies: bool) -> Decoder:
    h, n, vocab = c.positive("hidden_size"), c.positive("num_hidden_layers"), c.positive("vocab_size")
    first, freq = c.integer("first_k_dense_replace", default=0), c.positive("moe_layer_freq", default=1)
    shared = c.integer("n_shared_experts", default=0) * c.positive("moe_intermediate_size")
    experts = moe(c, router_bias=router_bias, shared_intermediate=shared)
    kinds = c.sequence("indexer_types") or ["full"] * n
    plans = []
    for i in range(n):
        ffn: Ffn = experts if i >= first and i % freq == 0 else gated(c)
        own_indexer = indexer and kinds[i] != "shared"
        plans.append(LayerPlan((mla(c, own_indexer),), (ffn,), 2 * h))
    base = simple(c, plans)
    n_mtp = c.integer("num_nextn_predict_layers", default=0)
    if not n_mtp:
        return base
    # The next-token layer: a decoder layer, a projection of two streams into one, three norms.
    layer = mla_parameters(mla(c, indexer), h) + moe_parameters(experts, h) + 2 * h
    parameters = layer + 2 * h * h + 3 * h + (2 * vocab * h if mtp_copies else 0)
    return base.plus(*[Block(role="mtp", parameters=parameters)] * n_mtp, modality="text")


def deepseek_v2(c: Config) -> Decoder:
    return _deepseek(c, indexer=False, router_bias=False, mtp_copies=False)


def deepseek_v3(c: Config) -> Decoder:
    """The MTP layer repeats embedding and head."""
    return _deepseek(c, indexer=False, router_bias=True, mtp_copies=True)


def deepseek_v32(c: Config) -> Decoder:
    """As V3, with a sparse-attention indexer in every layer."""
    return _deepseek(c, indexer=True, router_bias=True, mtp_copies=True)


def glm_moe_dsa(c: Config) -> Decoder:
    """GLM-5: as V3.2; the MTP layer shares embedding and head."""
    return _deepseek(c, indexer=True, router_bias=True, mtp_copies=False)


def glm4_moe_lite(c: Config) -> Decoder:
    """GLM-4.7-Flash: as V3, with GLM's default of one dense layer; the MTP layer repeats embedding and head."""
    return deepseek_v3(c.with_defaults(first_k_dense_replace=1))


def minicpm3(c: Config) -> Decoder:
    """Dense, tied; V is as wide as hidden / heads."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    flat = c.with_defaults(v_head_dim=h // c.positive("num_attention_heads"))
    return simple(c, [LayerPlan((mla(flat),), (gated(c),), 2 * h)] * n, tie=True)


def deepseek_v4(c: Config) -> Decoder:
    """One latent per token is key and value, in a window; beyond it one for 4 or 128 tokens; several residual streams.

    Experts of the released checkpoints are FP4, which `expert_dtype` says; those of the base models FP8. The
    prediction layer has a projection of each stream, norms, a head's mixing and its own embedding and head.
    """
    h, n, vocab = c.positive("hidden_size"), c.positive("num_hidden_layers"), c.positive("vocab_size")
    d, rope, streams = c.positive("head_dim"), c.positive("qk_rope_head_dim"), c.positive("hc_mult", default=4)
    ratios = c.sequence("compress_ratios") or ()
    if len(ratios) < n or not all(isinstance(r, int) and r >= 0 for r in ratios):
        raise FormatError(f"config key {c.path}compress_ratios has {len(ratios)} entries for {n} layers")
    window = Mla(
        heads=c.positive("num_attention_heads"), q_lora_rank=c.positive("q_lora_rank"), kv_lora_rank=d - rope,
        qk_nope_head_dim=d - rope, qk_rope_head_dim=rope, v_head_dim=d, window_tokens=c.positive("sliding_window"),
        output_groups=c.positive("o_groups"), output_rank=c.positive("o_lora_rank"),
    )  # fmt: skip
    index = {"indexer_heads": c.positive("index_n_heads"), "indexer_head_dim": c.positive("index_head_dim")}
    shared = c.integer("n_shared_experts", default=1) * c.positive("moe_intermediate_size")
    scored = moe(c, router_bias=True, shared_intermediate=shared)
    hashed, n_hashed = scored.model_copy(update={"router_bias": False}), c.integer("num_hash_layers", default=0)
    mixing = 2 * ((streams + 2) * streams * (streams * h + 1) + 3)
    plans = []
    for i in range(n):
        every = int(str(ratios[i]))
        changes = {"compress_every": every or None, **(index if every == OVERLAPPING else {})}
        ffn = hashed if i < n_hashed else scored
        plans.append(LayerPlan((window.model_copy(update=changes),), (ffn,), 2 * h + mixing))
    leaving = streams * (streams * h + 1) + 1
    base = simple(c, plans).plus(Block(role="other", parameters=leaving), modality="text")
    table = n_hashed * vocab * scored.experts_per_token
    if table:
        base = base.plus(Block(role="buffer", parameters=table), modality="text")
    layer = _window_parameters(window, h) + moe_parameters(scored, h) + 2 * h + mixing
    mtp = Block(role="mtp", parameters=layer + 2 * h * h + 3 * h + leaving + 2 * vocab * h)
    said = "the cache is counted as DeepSeek describes it: latents in a window, and one for 4 or 128 tokens before it"
    n_mtp = c.integer("num_nextn_predict_layers", default=0)
    return replace(base.plus(*[mtp] * n_mtp, modality="text"), assumptions=(said,))


def _window_parameters(m: Mla, hidden: int) -> int:
    """Parameters of one layer of V4's attention without compression."""
    d, rank = m.v_head_dim, m.q_lora_rank or hidden
    q = rank * hidden + rank + m.heads * d * rank
    grouped = m.output_groups * m.output_rank
    return q + d * hidden + d + grouped * (m.heads * d // m.output_groups) + hidden * grouped + m.heads


OVERLAPPING = 4
"""Tokens to a compressed latent in layers whose compressed windows overlap and are chosen by an indexer."""


READERS: dict[str, Reader] = {
    "deepseek_v2": deepseek_v2,
    "deepseek_v3": deepseek_v3,
    "deepseek_v32": deepseek_v32,
    "deepseek_v4": deepseek_v4,
    "deepseek_ref": deepseek_v4,
    "kimi_k2": deepseek_v3,
    "glm_moe_dsa": glm_moe_dsa,
    "glm4_moe_lite": glm4_moe_lite,
    "minicpm3": minicpm3,
}
