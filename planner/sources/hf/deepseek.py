"""Multi-head latent attention: DeepSeek V2, V3 and V3.2, Kimi K2, GLM-5, GLM-4.7-Flash, MiniCPM3.

The multi-token-prediction layer of the checkpoint is a block of its own: it is on disk, and engines
load it only for speculative decoding. Sources: modeling_deepseek_v3.py of transformers 5.23.0; the
block's make-up from the published safetensors totals, which it makes exact.
"""

from __future__ import annotations

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


READERS: dict[str, Reader] = {
    "deepseek_v2": deepseek_v2,
    "deepseek_v3": deepseek_v3,
    "deepseek_v32": deepseek_v32,
    "kimi_k2": deepseek_v3,
    "glm_moe_dsa": glm_moe_dsa,
    "glm4_moe_lite": glm4_moe_lite,
    "minicpm3": minicpm3,
}
