"""Step 3.5 and 3.7, MiniMax-Text-01, M1 and M3, Molmo, Grok-1: a gate, an index, a recurrence or norms of their own.

Sources: modeling_step3p7.py, modeling_minimax.py and modeling_minimax_m3_vl.py of transformers 5.23.0; model.py of
xai-org/grok-1; Molmo from the published safetensors total, which this makes exact. Prediction layers of Step are not
counted.
"""

from __future__ import annotations

from dataclasses import replace

from planner.errors import FormatError
from planner.sources.hf.common import (
    Config,
    Decoder,
    LayerPlan,
    MissingKeyError,
    Reader,
    gated,
    gqa,
    layer_kinds,
    moe,
    simple,
)
from planner.spec.model import Block, DenseFfn, Ffn, GatedDeltaNet, Mixer


def step3p5(c: Config) -> Decoder:
    """Windowed layers may have more heads; every head's output is gated by one number; experts after dense layers."""
    text = c.sub("text_config") if c.sub("text_config").data else c
    t = text.with_defaults(
        num_key_value_heads=text.data.get("num_attention_groups"), num_experts=text.data.get("moe_num_experts"),
        num_experts_per_tok=text.data.get("moe_top_k"),
    )  # fmt: skip
    h, n = t.positive("hidden_size"), t.positive("num_hidden_layers")
    full = gqa(t, qk_norm="head")
    full = full.model_copy(update={"extra_parameters": full.heads * h})
    wide = t.sub("attention_other_setting").opt_int("num_attention_heads") or t.opt_int("num_sliding_attention_heads")
    sliding = full.model_copy(update={"window_tokens": t.positive("sliding_window", default=512)})
    if wide:
        sliding = sliding.model_copy(update={"heads": wide, "extra_parameters": wide * h})
    experts = moe(
        t, router_bias=t.flag("use_moe_router_bias", True), shared_intermediate=t.integer("share_expert_dim", default=0)
    )
    sparse = _sparse(t, n)
    plans = []
    for i, kind in enumerate(layer_kinds(t, n)):
        ffn: Ffn = experts if sparse[i] else gated(t)
        plans.append(LayerPlan((sliding if kind == "sliding_attention" else full,), (ffn,), 2 * h))
    base = simple(t, plans)
    if t.integer("num_nextn_predict_layers", default=0):
        base = replace(base, assumptions=("the prediction layers of Step are not counted in its weights",))
    tower = c.sub("vision_config")
    return base.plus(*_step_tower(tower, h)) if tower.data else base


def _sparse(c: Config, n: int) -> list[bool]:
    """Which layers have experts: listed by number (as text, too), or all after the first few."""
    listed = c.data.get("moe_layers_enum")
    if isinstance(listed, str) and listed:
        numbers = [part.strip() for part in listed.split(",")]
        if not all(part.isdecimal() for part in numbers):
            raise FormatError(f"config key {c.path}moe_layers_enum is {listed[:40]!r}, not layer numbers")
        return [str(i) in numbers for i in range(n)]
    if isinstance(listed, list):
        return [i in listed for i in range(n)]
    first = c.integer("first_k_dense_replace", default=3)
    return [i >= first for i in range(n)]


def _step_tower(c: Config, text_hidden: int) -> tuple[Block, ...]:
    """A ViT with layer scales, two halving convolutions and a projection."""
    v = c.positive("hidden_size", "width", default=1536)
    inner = c.positive("intermediate_size", default=8960)
    patch, side = c.positive("patch_size", default=14), c.positive("image_size", default=728)
    layers = c.positive("num_hidden_layers", "layers", default=47)
    layer = 4 * (v * v + v) + 2 * v * inner + inner + v + 4 * v + 2 * v
    halving = (9 * v * 2 * v + 2 * v) + (9 * 2 * v * 4 * v + 4 * v)
    parameters = 3 * patch * patch * v + (side // patch) ** 2 * v + 2 * v + layers * layer + halving
    return Block(role="vision", parameters=parameters), Block(role="projector", parameters=4 * v * text_hidden)


def minimax_text_01(c: Config) -> Decoder:
    """Seven layers of lightning attention, which keeps a matrix per head, to one of softmax attention; experts."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    full = gqa(c)
    lightning = GatedDeltaNet(
        k_heads=full.heads, v_heads=full.heads, k_head_dim=full.head_dim, v_head_dim=full.head_dim, conv_kernel=1,
        fixed_decay=True,
    )  # fmt: skip
    softmax = c.sequence("attn_type_list")
    kinds = (
        layer_kinds(c, n)
        if softmax is None
        else ["full_attention" if kind == 1 else "linear_attention" for kind in softmax[:n]]
    )
    if len(kinds) < n:
        raise FormatError(f"config key {c.path}attn_type_list has {len(kinds)} entries for {n} layers")
    plans = []
    for kind in kinds:
        mixer: Mixer = full if kind == "full_attention" else lightning
        plans.append(LayerPlan((mixer,), (moe(c),), 2 * h))
    base = simple(c, plans)
    said = "newer releases of vLLM are reported to have dropped this architecture (0.23.0): check before you roll out"
    return replace(base, assumptions=(said,))


def minimax_m3(c: Config) -> Decoder:
    """An index of keys beside K and V chooses blocks in the sparse layers; experts after dense layers."""
    text = c.sub("text_config") if c.sub("text_config").data else c
    if c.sub("vision_config").data:
        raise MissingKeyError("config lacks what its vision tower is made of")
    h, n = text.positive("hidden_size"), text.positive("num_hidden_layers")
    full = gqa(text, qk_norm="head" if text.flag("use_qk_norm", True) else "none")
    index = text.sub("sparse_attention_config")
    heads = index.opt_int("sparse_num_index_heads") or text.positive("index_n_heads", default=4)
    d = index.opt_int("sparse_index_dim") or text.positive("index_head_dim", default=128)
    indexed = full.model_copy(
        update={"index_head_dim": d, "extra_parameters": h * (heads + 1) * d + 2 * d},
    )
    sparse = index.sequence("sparse_attention_freq") or [0] * 3 + [1] * (n - 3)
    routed = text.sequence("moe_layer_freq") or [0] * 3 + [1] * (n - 3)
    if len(sparse) < n or len(routed) < n:
        raise FormatError(f"config key {c.path}moe_layer_freq or sparse_attention_freq is shorter than {n} layers")
    experts = moe(
        text, router_bias=text.flag("use_routing_bias", True),
        shared_intermediate=text.integer("shared_intermediate_size", default=0),
    )  # fmt: skip
    plans = []
    for i in range(n):
        ffn: Ffn = experts if routed[i] else gated(text, "dense_intermediate_size")
        plans.append(LayerPlan((indexed if sparse[i] else full,), (ffn,), 2 * h))
    base = simple(text, plans)
    if text.integer("num_nextn_predict_layers", default=0):
        base = replace(base, assumptions=("the prediction layers of MiniMax-M3 are not counted in its weights",))
    return base


MOLMO_EXTRA_TOKENS = 128
"""Rows of the embedding for image tokens, beside the vocabulary."""


def molmo(c: Config) -> Decoder:
    """Qwen 2 or OLMo beside 23 layers of CLIP ViT-L/14 at 336 pixels, pooled by attention; names no tower."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    inner = c.positive("intermediate_size") // 2  # gate and up are one matrix
    attention = gqa(c, qkv_bias=c.flag("qkv_bias"), qk_norm="full" if c.flag("attention_layer_norm") else "none")
    plans = [LayerPlan((attention,), (DenseFfn(intermediate=inner),), 2 * h)] * n
    v, mlp, layers, patch, side = 1024, 4096, 23, 14, 24
    layer = 4 * (v * v + v) + 2 * v * mlp + mlp + v + 4 * v
    vit = v + (side * side + 1) * v + 3 * patch * patch * v + 2 * v + layers * layer
    pooling = 3 * (2 * v * v + v) + v * v + v
    padding = 2 * 2 * v
    vision = Block(role="vision", parameters=vit + pooling + padding, tokens_per_image=(side // 2) ** 2)
    projector = Block(role="projector", parameters=2 * v * inner + inner * h)
    extra = Block(role="other", parameters=MOLMO_EXTRA_TOKENS * h)
    return simple(c, plans, tie=c.flag("weight_tying")).plus(vision, projector, extra)


def grok_1(c: Config) -> Decoder:
    """Experts in every layer, a norm before and after attention and experts; the head is the embedding."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    return simple(c, [LayerPlan((gqa(c),), (moe(c),), 4 * h)] * n, tie=True)


READERS: dict[str, Reader] = {
    "step3p5": step3p5,
    "step3p7": step3p5,
    "minimax": minimax_text_01,
    "minimax_text_01": minimax_text_01,
    "minimax_m1": minimax_text_01,
    "minimax_m3": minimax_m3,
    "minimax_m3_vl_text": minimax_m3,
    "minimax_m3_vl": minimax_m3,
    "molmo": molmo,
    "grok-1": grok_1,
}
