"""Decoders with recurrent layers: Qwen3-Next and 3.5, Granite 4, Nemotron-H, Falcon-H1, Jamba, Mamba, LFM2 and 2.5.

Source: the models' modelling files in transformers 5.23.0; the multi-token-prediction blocks from
published safetensors totals, which they make exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from planner.errors import FormatError
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
from planner.sources.hf.moe import moe_parameters, sparse_layers
from planner.spec.model import (
    Block,
    DenseFfn,
    Ffn,
    GatedDeltaNet,
    Mamba1,
    Mamba2,
    Mixer,
    MoeFfn,
    ShortConv,
)


def _qwen_hybrid(c: Config, *, experts: bool, mtp_default: int) -> Decoder:
    """Three gated-delta layers to one of gated full attention; an MTP layer beside them."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    attention = gqa(c, qk_norm="head", gated_query=True)
    delta = GatedDeltaNet(
        k_heads=c.positive("linear_num_key_heads"),
        v_heads=c.positive("linear_num_value_heads"),
        k_head_dim=c.positive("linear_key_head_dim"),
        v_head_dim=c.positive("linear_value_head_dim"),
        conv_kernel=c.positive("linear_conv_kernel_dim"),
        state_dtype="fp32" if c.text("mamba_ssm_dtype", "float32") == "float32" else "bf16",
    )
    sparse: MoeFfn | None = None
    if experts:
        sparse = moe(c, shared_intermediate=c.integer("shared_expert_intermediate_size", default=0), shared_gate=True)
    kinds = layer_kinds(c, n) if "layer_types" in c else [
        "full_attention" if (i + 1) % c.positive("full_attention_interval", default=4) == 0 else "linear_attention"
        for i in range(n)
    ]  # fmt: skip
    which = sparse_layers(c, n) if sparse else [False] * n
    plans = []
    for kind, is_sparse in zip(kinds, which, strict=True):
        mixer: Mixer = attention if kind == "full_attention" else delta
        ffn: Ffn = sparse if sparse and is_sparse else gated(c)
        plans.append(LayerPlan((mixer,), (ffn,), 2 * h))
    base = simple(c, plans)
    n_mtp = c.integer("mtp_num_hidden_layers", default=mtp_default)
    wide = attention.heads * attention.head_dim
    ffn_parameters = moe_parameters(sparse, h) if sparse else 3 * h * c.positive("intermediate_size")
    layer = 3 * h * wide + 2 * h * attention.kv_heads * attention.head_dim + 2 * attention.head_dim + 2 * h
    mtp = Block(role="mtp", parameters=layer + ffn_parameters + 2 * h * h + 3 * h)
    return base.plus(*[mtp] * n_mtp, modality="text")


def qwen3_next(c: Config) -> Decoder:
    return _qwen_hybrid(c, experts=True, mtp_default=1)


def qwen3_5(c: Config) -> Decoder:
    return _qwen_hybrid(c, experts=False, mtp_default=0)


def qwen3_5_moe(c: Config) -> Decoder:
    return _qwen_hybrid(c, experts=True, mtp_default=0)


def granite_hybrid(c: Config) -> Decoder:
    """Granite 4: Mamba 2 or attention, then a shared MLP and, in some sizes, experts."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    heads = c.positive("mamba_n_heads", default=128)
    inner = c.positive("mamba_expand", default=2) * h
    mamba = Mamba2(
        d_inner=inner,
        heads=heads,
        head_dim=inner // heads,
        state_dim=c.positive("mamba_d_state"),
        groups=c.positive("mamba_n_groups", default=1),
        conv_kernel=c.positive("mamba_d_conv", default=4),
        conv_bias=c.flag("mamba_conv_bias", True),
        proj_bias=c.flag("mamba_proj_bias"),
    )
    bias = c.flag("attention_bias")
    attention = gqa(c, qkv_bias=bias, o_bias=bias)
    shared = c.positive("shared_intermediate_size", default=1024)
    ffn: Ffn = DenseFfn(intermediate=shared)
    if c.integer("num_local_experts", default=0):
        ffn = moe(c, intermediate=c.positive("intermediate_size"), shared_intermediate=shared)
    plans = []
    for kind in layer_kinds(c, n):
        mixer: Mixer = mamba if kind == "mamba" else attention
        plans.append(LayerPlan((mixer,), (ffn,), 2 * h))
    return simple(c, plans, tie=True)


_NEMOTRON = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def _nemotron_ffn(c: Config) -> MoeFfn:
    n_shared = c.integer("n_shared_experts", default=1)
    shared = c.integer("moe_shared_expert_intermediate_size", default=0) * n_shared
    return moe(c, gated=False, router_bias=True, shared_intermediate=shared, input_dim=c.opt_int("moe_latent_size"))


def nemotron_h(c: Config) -> Decoder:
    """One mixer or one feed-forward per layer, by a pattern; squared ReLU without a gate."""
    h = c.positive("hidden_size")
    pattern = c.text("hybrid_override_pattern")
    kinds = [str(k) for k in c.sequence("layers_block_type") or [_NEMOTRON.get(p, p) for p in pattern]]
    heads, head_dim = c.positive("mamba_num_heads"), c.positive("mamba_head_dim")
    mamba = Mamba2(
        d_inner=heads * head_dim,
        heads=heads,
        head_dim=head_dim,
        state_dim=c.positive("ssm_state_size"),
        groups=c.positive("n_groups"),
        conv_kernel=c.positive("conv_kernel"),
        conv_bias=c.flag("use_conv_bias", True),
        proj_bias=c.flag("mamba_proj_bias"),
    )
    attention = gqa(c)
    plans = []
    for kind in kinds:
        mixers: tuple[Mixer, ...] = ()
        ffns: tuple[Ffn, ...] = ()
        if kind == "mamba":
            mixers = (mamba,)
        elif kind == "attention":
            mixers = (attention,)
        elif kind == "mlp":
            ffns = (DenseFfn(intermediate=c.positive("intermediate_size"), gated=False, bias=c.flag("mlp_bias")),)
        elif kind == "moe":
            ffns = (_nemotron_ffn(c),)
        else:
            raise FormatError(f"config key {c.path}hybrid_override_pattern has {kind!r}; known: M * - E")
        plans.append(LayerPlan(mixers, ffns, h))
    base = simple(c, plans)
    n_mtp = c.integer("num_nextn_predict_layers", default=0)
    block_kinds = c.sequence("mtp_layers_block_type") or list(c.text("mtp_hybrid_override_pattern"))
    if not n_mtp or not block_kinds:
        return base
    a_parameters = 2 * h * attention.head_dim * (attention.heads + attention.kv_heads)
    per_kind = {"attention": a_parameters, "*": a_parameters}
    per_kind["moe"] = per_kind["E"] = moe_parameters(_nemotron_ffn(c), h) if "n_routed_experts" in c else 0
    parameters = sum(per_kind[str(k)] + h for k in block_kinds) + 2 * h * h + 3 * h
    return base.plus(*[Block(role="mtp", parameters=parameters)] * n_mtp, modality="text")


def falcon_h1(c: Config) -> Decoder:
    """Attention and Mamba 2 side by side in every layer."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    heads = c.positive("mamba_n_heads")
    inner = c.positive("mamba_d_ssm", default=c.positive("mamba_expand", default=2) * h)
    mamba = Mamba2(
        d_inner=inner,
        heads=heads,
        head_dim=inner // heads,
        state_dim=c.positive("mamba_d_state"),
        groups=c.positive("mamba_n_groups", default=1),
        conv_kernel=c.positive("mamba_d_conv", default=4),
        conv_bias=c.flag("mamba_conv_bias", True),
        proj_bias=c.flag("mamba_proj_bias"),
        norm=c.flag("mamba_rms_norm"),
    )
    bias = c.flag("attention_bias")
    mixers: tuple[Mixer, ...] = (gqa(c, qkv_bias=bias, o_bias=bias), mamba)
    return simple(c, [LayerPlan(mixers, (gated(c, bias=c.flag("mlp_bias")),), 2 * h)] * n)


def jamba(c: Config) -> Decoder:
    """Mamba 1 with inner norms, attention every eighth layer, experts every other one."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    mamba = Mamba1(
        d_inner=c.positive("mamba_expand", default=2) * h,
        state_dim=c.positive("mamba_d_state", default=16),
        dt_rank=c.positive("mamba_dt_rank", default=-(-h // 16)),
        conv_kernel=c.positive("mamba_d_conv", default=4),
        conv_bias=c.flag("mamba_conv_bias", True),
        proj_bias=c.flag("mamba_proj_bias"),
        inner_norms=True,
    )
    experts = moe(c, intermediate=c.positive("intermediate_size"))
    every, offset = c.positive("attn_layer_period", default=8), c.integer("attn_layer_offset", default=4)
    e_every, e_offset = c.positive("expert_layer_period", default=2), c.integer("expert_layer_offset", default=1)
    plans = []
    for i in range(n):
        mixer: Mixer = gqa(c) if i % every == offset else mamba
        ffn: Ffn = experts if i % e_every == e_offset and experts.experts > 1 else gated(c)
        plans.append(LayerPlan((mixer,), (ffn,), 2 * h))
    return simple(c, plans)


def mamba2(c: Config) -> Decoder:
    """Mamba 2 alone: no attention, no KV cache, no limit on context but the training length."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    heads, head_dim = c.positive("num_heads"), c.positive("head_dim")
    mixer = Mamba2(
        d_inner=heads * head_dim,
        heads=heads,
        head_dim=head_dim,
        state_dim=c.positive("state_size"),
        groups=c.positive("n_groups"),
        conv_kernel=c.positive("conv_kernel", default=4),
        conv_bias=c.flag("use_conv_bias", True),
        proj_bias=c.flag("use_bias"),
    )
    base = simple(c.with_defaults(max_position_embeddings=1 << 18), [LayerPlan((mixer,), (), h)] * n)
    if "max_position_embeddings" in c:
        return base
    return replace(base, assumptions=("the config states no context length: 262144 tokens taken",))


def lfm2(c: Config) -> Decoder:
    """Short convolutions with attention every few layers; norms on queries and keys."""
    width = c.positive("intermediate_size", "block_ff_dim")
    if c.flag("block_auto_adjust_ff_dim", True):
        width = int(2 * width / 3)
        multiple = c.positive("block_multiple_of", default=256)
        scale = c.data.get("block_ffn_dim_multiplier", 1.0)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1 << 16:
            raise FormatError(f"config key {c.path}block_ffn_dim_multiplier is {scale!r}, not a factor above 0")
        width = multiple * -(-int(scale * width) // multiple)
    return _convolutions(c, [DenseFfn(intermediate=width)] * c.positive("num_hidden_layers"))


def lfm2_moe(c: Config) -> Decoder:
    """Experts from the third layer on, by default; their router has a bias on its scores."""
    n, dense = c.positive("num_hidden_layers"), c.integer("num_dense_layers", default=2)
    experts = moe(c, router_bias=c.flag("use_expert_bias", True))
    return _convolutions(c, [gated(c) if i < dense else experts for i in range(n)])


def _convolutions(c: Config, ffns: Sequence[Ffn]) -> Decoder:
    """LFM2's layers, each with its feed-forward of `ffns`; attention where `full_attn_idxs` or `layer_types` say."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    conv = ShortConv(dim=h, kernel=c.positive("conv_L_cache", default=3), bias=c.flag("conv_bias"))
    attention = gqa(c, qk_norm="head")
    full = c.sequence("full_attn_idxs")
    kinds = layer_kinds(c, n) if full is None else ["full_attention" if i in full else "conv" for i in range(n)]
    plans = []
    for kind, ffn in zip(kinds, ffns, strict=True):
        mixer: Mixer = attention if kind == "full_attention" else conv
        plans.append(LayerPlan((mixer,), (ffn,), 2 * h))
    return simple(c, plans, tie=c.flag("tie_embedding", True))


def falcon_mamba(c: Config) -> Decoder:
    """Mamba 1 alone; Falcon's inner norms have no weights."""
    h, n = c.positive("hidden_size"), c.positive("num_hidden_layers")
    rank = c.data.get("time_step_rank")
    mixer = Mamba1(
        d_inner=c.positive("intermediate_size", default=c.positive("expand", default=2) * h),
        state_dim=c.positive("state_size", default=16),
        dt_rank=-(-h // 16) if rank in (None, "auto") else c.positive("time_step_rank"),
        conv_kernel=c.positive("conv_kernel", default=4),
        conv_bias=c.flag("use_conv_bias", True),
        proj_bias=c.flag("use_bias"),
    )
    tie = c.text("model_type") == "mamba"
    base = simple(c.with_defaults(max_position_embeddings=1 << 18), [LayerPlan((mixer,), (), h)] * n, tie=tie)
    if "max_position_embeddings" in c:
        return base
    return replace(base, assumptions=("the config states no context length: 262144 tokens taken",))


READERS: dict[str, Reader] = {
    "qwen3_next": qwen3_next,
    "qwen3_5_text": qwen3_5,
    "qwen3_5_moe_text": qwen3_5_moe,
    "granitemoehybrid": granite_hybrid,
    "nemotron_h": nemotron_h,
    "falcon_h1": falcon_h1,
    "jamba": jamba,
    "mamba2": mamba2,
    "lfm2": lfm2,
    "lfm2_moe": lfm2_moe,
    "mamba": falcon_mamba,
    "falcon_mamba": falcon_mamba,
}
