"""Mixtures of experts with shared experts and keys of their own: ERNIE 4.5, Hunyuan, Ling, dots, DeepSeek MoE, Arctic.

Source: the models' modelling files in transformers 5.23.0, for those with remote code (Ling, DeepSeek MoE,
Arctic) vLLM 0.26's; the published safetensors totals confirm each.
"""

from __future__ import annotations

from planner.sources.hf.common import Config, Decoder, LayerPlan, Reader, gated, gqa, moe, simple
from planner.spec.model import Attention, Ffn, MoeFfn


def _first_dense(
    c: Config,
    attention: Attention,
    experts: MoeFfn,
    *,
    first: int,
    step: int = 1,
    last: int | None = None,
    tie: bool = False,
) -> Decoder:
    """Dense up to layer `first`, then experts in every `step`-th layer up to `last`."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    end = n - 1 if last is None else last
    plans = []
    for i in range(n):
        sparse = first <= i <= end and (i + 1) % step == 0
        ffn: Ffn = experts if sparse else gated(c)
        plans.append(LayerPlan((attention,), (ffn,), 2 * h))
    return simple(c, plans, tie=tie)


def _one(c: Config, name: str) -> int | None:
    """An int, or the common value of a list with one per layer (Hunyuan)."""
    values = c.data.get(name)
    if isinstance(values, list) and values and all(v == values[0] for v in values):
        return Config({name: values[0]}, c.path).opt_int(name)
    return c.opt_int(name)


def ernie4_5_moe(c: Config) -> Decoder:
    """A score-correction bias in the router; the shared experts are as wide as routed ones."""
    bias = c.flag("use_bias")
    width = c.positive("moe_intermediate_size")
    experts = MoeFfn(
        experts=c.positive("moe_num_experts"),
        experts_per_token=c.positive("moe_k"),
        intermediate=width,
        router_bias=c.flag("moe_use_aux_free", True),
        shared_intermediate=c.integer("moe_num_shared_experts", default=0) * width,
    )
    last = c.data.get("moe_layer_end_index")
    return _first_dense(
        c,
        gqa(c, qkv_bias=bias, o_bias=bias),
        experts,
        first=c.integer("moe_layer_start_index", default=1),
        step=c.positive("moe_layer_interval", default=1),
        last=None if last in (None, -1) else c.integer("moe_layer_end_index"),
        tie=True,
    )


def hunyuan_moe(c: Config) -> Decoder:
    """Experts in every layer, one shared; norms on queries and keys."""
    bias = c.flag("attention_bias")
    qk = "head" if c.flag("use_qk_norm", True) else "none"
    width = _one(c, "moe_intermediate_size") or c.positive("intermediate_size")
    shared = (_one(c, "num_shared_expert") or 0) if c.flag("use_mixed_mlp_moe", True) else 0
    experts = MoeFfn(
        experts=_one(c, "num_experts") or c.positive("num_experts"),
        experts_per_token=_one(c, "moe_topk") or c.positive("moe_topk"),
        intermediate=width,
        shared_intermediate=shared * c.positive("intermediate_size"),
    )
    return _first_dense(c, gqa(c, qkv_bias=bias, o_bias=bias, qk_norm=qk), experts, first=0, tie=True)


def bailing_moe(c: Config) -> Decoder:
    """Ling and Ring: version 2 has norms on queries and keys and a bias on the router's scores."""
    shared = c.integer("num_shared_experts", default=0) * c.positive("moe_intermediate_size")
    experts = moe(c, shared_intermediate=shared, router_bias=c.flag("moe_router_enable_expert_bias"))
    qk = "head" if c.flag("use_qk_norm") else "none"
    attention = gqa(c, qkv_bias=c.flag("use_qkv_bias"), o_bias=c.flag("use_bias"), qk_norm=qk)
    return _first_dense(c, attention, experts, first=c.integer("first_k_dense_replace", default=0))


def dots1(c: Config) -> Decoder:
    """As DeepSeek V3, with grouped-query attention and norms on queries and keys."""
    shared = c.integer("n_shared_experts", default=0) * c.positive("moe_intermediate_size")
    experts = moe(c, router_bias=True, shared_intermediate=shared)
    bias = c.flag("attention_bias")
    attention = gqa(c, qkv_bias=bias, qk_norm="head")
    return _first_dense(c, attention, experts, first=c.integer("first_k_dense_replace", default=0))


def deepseek_moe(c: Config) -> Decoder:
    """DeepSeek MoE, before latent attention."""
    shared = c.integer("n_shared_experts", default=0) * c.positive("moe_intermediate_size")
    experts = moe(c, shared_intermediate=shared)
    return _first_dense(c, gqa(c), experts, first=c.integer("first_k_dense_replace", default=0))


def granitemoe(c: Config) -> Decoder:
    """Granite 3 with experts in every layer, their fused input half gate and half up."""
    experts = moe(c, intermediate=c.positive("intermediate_size"))
    bias = c.flag("attention_bias")
    return _first_dense(c, gqa(c, qkv_bias=bias, o_bias=bias), experts, first=0)


def arctic(c: Config) -> Decoder:
    """A dense MLP as wide as the hidden size beside 128 experts, with a norm of its own."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    step = c.positive("moe_layer_frequency", default=1)
    beside = h if c.flag("parallel_attn_mlp_res") else 0
    experts = moe(c, intermediate=c.positive("intermediate_size"), dense_intermediate=beside)
    plans = []
    for i in range(n):
        ffn: Ffn = experts if (i + 1) % step == 0 else gated(c)
        plans.append(LayerPlan((gqa(c),), (ffn,), (3 if beside and ffn is experts else 2) * h))
    return simple(c, plans)


READERS: dict[str, Reader] = {
    "ernie4_5_moe": ernie4_5_moe,
    "hunyuan_v1_moe": hunyuan_moe,
    "bailing_moe": bailing_moe,
    "bailing_moe_v2": bailing_moe,
    "dots1": dots1,
    "deepseek": deepseek_moe,
    "granitemoe": granitemoe,
    "arctic": arctic,
}
